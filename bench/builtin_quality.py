"""Figures of the built-in bundle on photographs, everything at its default (docs/builtin.md).

Enrols and scores through the program itself, as ``edgevand enroll`` and ``edgevand score`` do::

    python bench/builtin_quality.py [--data ../shared/data] [--bundle DIR] [--json]
    python bench/builtin_quality.py --terms text zero-shot-map memory-map   # had the raw score these terms

- hazelnut-toy: the first 4 of train/good; image AUROC and pixel AUROC of the test set.
- aliens: 1, 4 and 16 normal frames, the rest scored; mean of three draws each.
- ballscrew: of each position the first 8 frames in order of time, the rest scored: AUROC of pitted against not, the
  share of false alarms before the first pitted frame, the share of pitted frames found.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from edgevand.bank import Bank
from edgevand.bundle import Bundle
from edgevand.home import builtin_bundle
from edgevand_runtime.detector import Detector
from edgevand_runtime.enroll import EnrolOptions, enroll
from edgevand_runtime.metrics import auroc
from edgevand_runtime.preprocess import load_image
from edgevand_runtime.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgevand_runtime.results import Result

TARGETS = {
    "hazelnut-toy": {"image": 0.99, "pixel": 0.97},
    "aliens 1": {"image": 0.965},
    "aliens 4": {"image": 0.975},
    "aliens 16": {"image": 0.985},
    "ballscrew": {"image": 0.985},
}
DRAWS = 3
SHOTS = (1, 4, 16)


def results_of(
    bundle: Bundle,
    normal: Sequence[Path],
    shots: int,
    scored: Sequence[Path],
    augment: tuple[str, ...] | None = None,
) -> tuple[list[Result], set[str]]:
    """Enrol from ``normal`` in their order, score ``scored``; the results and the names of what was enrolled."""
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder, "normal")
        pictures.mkdir()
        for number, path in enumerate(normal):
            shutil.copy(path, pictures / f"{number:04d}{path.suffix}")
        with Detector.open(bundle) as bare, open_source(pictures) as source:
            options = EnrolOptions(shots=shots, augment=augment)
            enrolled = enroll(source, bundle, bare.engine, Path(folder, "bank"), options)
        taken = {normal[int(Path(frame.source).stem)].name for frame in enrolled.bank.record.frames}
        bank = Bank.open(Path(folder, "bank"), bundle)
        found = []
        with Detector.open(bundle, bank) as detector:
            for path in scored:
                with open_source(path) as source:
                    frame = source.read()
                    if frame is not None:
                        found += detector.detect([frame])
    return found, taken


@contextmanager
def with_terms(path: Path, terms: Sequence[str] | None) -> Iterator[Bundle]:
    """The bundle, or a copy of it whose raw score sums these terms."""
    if terms is None:
        yield Bundle.open(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(path, Path(folder, "bundle")))
        manifest = json.loads((copy / "manifest.json").read_text())
        manifest["score"]["terms"] = list(terms)
        (copy / "manifest.json").write_text(json.dumps(manifest))
        yield Bundle.open(copy)


def hazelnut(bundle: Bundle, data: Path, augment: tuple[str, ...] | None = None) -> dict[str, float]:
    """hazelnut-toy."""
    folder = data / "hazelnut-toy"
    good, bad = sorted((folder / "test/good").iterdir()), sorted((folder / "test/colour").iterdir())
    results, _ = results_of(bundle, sorted((folder / "train/good").iterdir())[:4], 4, good + bad, augment)
    labels = [0] * len(good) + [1] * len(bad)
    maps = np.stack([result.raw_map for result in results if result.raw_map is not None])
    masks = np.zeros(maps.shape, bool)
    for mask, path in zip(masks[len(good) :], bad, strict=True):
        drawn = load_image(next((folder / "ground_truth/colour").glob(f"{path.stem}*")))[..., 0]
        whole = np.where(drawn > 0, np.uint8(255), np.uint8(0))
        mask[:] = cv2.resize(whole, maps.shape[:0:-1], interpolation=cv2.INTER_AREA) > 127  # noqa: PLR2004 - half
    return {"image": _area(labels, results), "pixel": auroc(masks, maps) or 0.0, **_alarms(labels, results)}


def aliens(bundle: Bundle, data: Path, shots: int, augment: tuple[str, ...] | None = None) -> dict[str, float]:
    """aliens, the mean of three draws."""
    normal, bad = (sorted((data / "aliens" / name).iterdir()) for name in ("normal", "anomaly"))
    rows = []
    for draw in range(DRAWS):
        chosen = sorted(np.random.default_rng(draw).choice(len(normal), shots, replace=False).tolist())
        rest = [path for number, path in enumerate(normal) if number not in chosen]
        results, _ = results_of(bundle, [normal[number] for number in chosen], shots, rest + bad, augment)
        labels = [0] * len(rest) + [1] * len(bad)
        rows.append({"image": _area(labels, results), **_alarms(labels, results)})
    return _mean(rows)


def ballscrew(bundle: Bundle, data: Path, augment: tuple[str, ...] | None = None) -> dict[str, dict[str, float]]:
    """ballscrew, each position and the mean."""
    rows = {}
    for position, record in json.loads((data / "ballscrew/labels.json").read_text()).items():
        paths = [data / "ballscrew" / position / name for name in sorted(record)]
        results, taken = results_of(bundle, paths, 8, paths, augment)
        kept = [
            (record[path.name], result) for path, result in zip(paths, results, strict=True) if path.name not in taken
        ]
        labels, results = [label for label, _ in kept], [result for _, result in kept]
        first = labels.index(1)
        before, found = _alarms(labels[:first], results[:first]), _alarms(labels, results)
        rows[position] = {"image": _area(labels, results), "false": before["false"], "found": found["found"]}
    return {**rows, "mean": _mean(list(rows.values()))}


def _area(labels: Sequence[int], results: Sequence[Result]) -> float:
    """Image AUROC of the raw score."""
    return auroc(labels, [result.raw_score or 0.0 for result in results]) or 0.0


def _alarms(labels: Sequence[int], results: Sequence[Result]) -> dict[str, float]:
    """Share of normal frames over the threshold, and of anomalous ones."""
    over = np.array([bool(result.anomalous) for result in results])
    wanted = np.array(labels) == 1
    return {name: float(over[side].mean()) for name, side in (("false", ~wanted), ("found", wanted)) if side.any()}


def _mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of each figure."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def main() -> int:
    """Print the figures; the exit code is 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data")
    parser.add_argument("--bundle", type=Path, default=builtin_bundle())
    parser.add_argument("--terms", nargs="+", help="sum these terms in place of the manifest's")
    parser.add_argument("--augment", nargs="+", help="rotate, flip or none in place of what the bundle recommends")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with with_terms(arguments.bundle, arguments.terms) as bundle:
        augment = None if arguments.augment is None else tuple({*arguments.augment} - {"none"})
        screws = ballscrew(bundle, arguments.data, augment)
        figures: dict[str, Any] = {
            "hazelnut-toy": hazelnut(bundle, arguments.data, augment),
            **{f"aliens {shots}": aliens(bundle, arguments.data, shots, augment) for shots in SHOTS},
            **{f"ballscrew {name}": row for name, row in screws.items()},
        }
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        print("| data | image AUROC | pixel AUROC | false alarms | found |\n| --- | --- | --- | --- | --- |")
        for name, row in figures.items():
            cells = [f"{row[key]:.3f}" if key in row else "" for key in ("image", "pixel", "false", "found")]
            print(f"| {name} | {' | '.join(cells)} |")
    reached = {**figures, "ballscrew": screws["mean"]}
    missed = [name for name, target in TARGETS.items() for key, value in target.items() if reached[name][key] < value]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
