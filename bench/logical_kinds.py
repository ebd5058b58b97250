"""Which logical anomalies a method finds: image AUROC by kind on drawn boxes, of any methods of the built-in bundle.

Draws the boxes, enrols frames of each with each method, scores the test frames and tells missing, additional, misplaced
and swapped items apart, where items lie loose (only their number is fixed) and where each has its place::

    python bench/logical_kinds.py --methods memory,subspace,components --seeds 0,1,2

Seeds from 100 on are those by which options were chosen.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from edgevand.bundle import Bundle
from edgevand.home import builtin_bundle
from edgevand_runtime.datasets.making import MakeOptions, make_dataset
from edgevand_runtime.datasets.making.boxes import BOXES, BoxCamera
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import open_engine
from edgevand_runtime.enroll import EnrolOptions, enroll
from edgevand_runtime.metrics import auroc
from edgevand_runtime.preprocess import load_image
from edgevand_runtime.sources import open_source
from edgevand_runtime.sources.base import new_frame

IMAGES, SIZE = 24, 320


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="memory,subspace,components")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--shots", type=int, default=8)
    given = parser.parse_args()
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    methods = given.methods.split(",")
    for seed in map(int, given.seeds.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "boxes"
            make_dataset("loco", root, MakeOptions(seed, IMAGES, SIZE, tuple(BOXES)))
            for box in BOXES:
                for method in methods:
                    scores = _scores(root / box, method, given.shots, Path(folder) / f"{box}-{method}")
                    for kind, values in _by_kind(scores).items():
                        normal = scores["good"]
                        labels = np.repeat([0, 1], [len(normal), len(values)])
                        area = auroc(labels, [*normal, *values]) or 0.0
                        found[method, kind].append(area)
                        found[method, f"{box}: {kind}"].append(area)
    kinds = sorted({kind for _, kind in found}, key=lambda kind: (":" in kind, kind))
    print(f"| anomaly | {' | '.join(f'`{method}`' for method in methods)} |")
    print(f"| --- |{' ---: |' * len(methods)}")
    for kind in kinds:
        print(f"| {kind} | {' | '.join(f'{100 * np.mean(found[method, kind]):.1f}' for method in methods)} |")


def _scores(box: Path, method: str, shots: int, bank: Path) -> dict[str, list[float]]:
    """Raw scores by folder of the test split, in the order of the files."""
    bundle = Bundle.open(builtin_bundle()).as_method(method, {})
    engine = open_engine(bundle, backend="onnxruntime", device="cpu", threads=1)
    with open_source(box / "train" / "good") as source:
        enrolled = enroll(source, bundle, engine, bank, EnrolOptions(shots=shots)).bank
    with Detector(bundle, engine, enrolled) as detector:
        return {
            kind.name: [
                detector.detect([new_frame(load_image(path), 0, path.name)])[0].raw_score
                for path in sorted(kind.iterdir())
            ]
            for kind in (box / "test").iterdir()
        }


def _by_kind(scores: dict[str, list[float]]) -> dict[str, list[float]]:
    """Anomalous frames by kind; the maker takes the logical kinds in turn."""
    logical = scores["logical_anomalies"]
    kinds = {name: logical[at :: len(BoxCamera.logical)] for at, name in enumerate(BoxCamera.logical)}
    return {**kinds, "any logical": logical, "any structural": scores["structural_anomalies"]}


if __name__ == "__main__":
    main()
