"""Locality: what ``auto`` goes by on views that are fixed and views that are not, and what it and other levers do.

    python bench/locality.py                          # all tables (docs/methods/april-gan.md)
    python bench/locality.py --only rule --seeds 1 2 3
    python bench/locality.py --only levers --data ../shared/data

**rule**: eight frames of each set are enrolled with the built-in bundle's stages, without augmented copies; ``near``
and ``rise`` are what the choice rests on (methods/levers/alignment.py), for R = 1. Beside them what no camera knows:
image AUROC and the lead of anomalous frames, (median of ln(score) - mean of normal ones) / their deviation, with every
patch compared (off) and with those within one cell. Drawn sets: parts before a camera that stands still (jitter of a
hundredth of the picture, as of a clamped part), shifted a little, shifted by a seventh of the picture, turned by any
angle, shifted and turned; surfaces without an outline. Real ones: shared/data.

**levers**: through the program itself, each option of april-gan by itself: image AUROC, false alarms and found at the
enrolled threshold, and the lowest score of an anomalous frame over the highest of a normal one.

**search**: milliseconds of one frame's search, median of 20, random unit tokens: the built-in bundle with eight frames
in eight poses, and one stage of ViT-L at 518 pixels with eight frames, held in single and in half precision.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does

import cv2
import numpy as np

from edgevand.bundle import Bundle
from edgevand.home import builtin_bundle
from edgevand_runtime.datasets.making.camera import LOGICAL, Camera
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import open_engine
from edgevand_runtime.enroll import EnrolOptions, enroll
from edgevand_runtime.locality import LocalBank
from edgevand_runtime.maps import top_mean, upsample
from edgevand_runtime.memory import MemoryBank
from edgevand_runtime.methods.choosing import seen_as
from edgevand_runtime.methods.levers.alignment import alignment, choose_radius
from edgevand_runtime.metrics import auroc
from edgevand_runtime.preprocess import load_image, to_tensor
from edgevand_runtime.sources import open_source
from edgevand_runtime.sources.base import new_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from edgevand_runtime.datasets.making.view import View
    from edgevand_runtime.engines import Engine

PARTS = ("gear", "bracket", "circuit board", "bottle cap", "dial", "key", "name plate")
SURFACES = ("fabric", "leather", "wood")
POSES = {
    "fixed": (0.0, 0.0),
    "slight": (0.12, 0.15),
    "shifted": (0.35, 0.0),
    "turned": (0.0, 3.2),
    "anyhow": (0.35, 3.2),
}
"""By name: farthest way off in half widths of the part, farthest turn in radians."""

ENROLLED, NORMAL, DAMAGED, ILLOGICAL = 8, 20, 16, 12
SIZE = 224

LEVERS: dict[str, tuple[str, ...]] = {
    "default": (),
    "locality=1": ("locality=1",),
    "locality=2": ("locality=2",),
    "locality=auto": ("locality=auto",),
    "neighbourhood=3": ("neighbourhood=3",),
    "smoothing=4": ("smoothing=4",),
    "stages=6": ("stages=6",),
    "stages=7": ("stages=7",),
    "stages=auto": ("stages=auto",),
    "image_bank": ("image_bank=true",),
    "image_bank, fusion=mean": ("image_bank=true", "fusion=mean"),
    "image_bank, fusion=max": ("image_bank=true", "fusion=max"),
    "score=max": ("score=max",),
}


class Frames(NamedTuple):
    """A set: frames to enrol, normal and anomalous ones to score, each (H, W, 3) BGR."""

    enrolled: list[NDArray[np.uint8]]
    normal: list[NDArray[np.uint8]]
    anomalous: list[NDArray[np.uint8]]


class Loose(Camera):
    """A camera under which parts lie otherwise from picture to picture."""

    way: float = 0.0
    turn: float = 0.0

    def _view(self, index: int) -> View:
        """As the camera's, each part moved and turned."""
        view, dice = super()._view(index), np.random.default_rng([index, 7])
        poses = []
        for pose in view.poses:
            right, down, turn = dice.uniform(-1, 1, 3) * (self.way * pose.scale, self.way * pose.scale, self.turn)
            poses.append(replace(pose, cx=pose.cx + right, cy=pose.cy + down, angle=pose.angle + turn))
        return replace(view, poses=tuple(poses))


def drawn(name: str, pose: str, seed: int) -> Frames:
    """A drawn set."""
    camera = Loose(name, seed, (SIZE, SIZE), upright=True)
    camera.way, camera.turn = POSES[pose]
    normal = [camera.normal(index).image for index in range(ENROLLED + NORMAL)]
    bad = [camera.damaged(200 + n, camera.kinds[n % len(camera.kinds)]).image for n in range(DAMAGED)]
    if camera.pieces():
        bad += [camera.illogical(300 + n, LOGICAL[n % len(LOGICAL)]).image for n in range(ILLOGICAL)]
    return Frames(normal[:ENROLLED], normal[ENROLLED:], bad)


def real(data: Path) -> Iterator[tuple[str, Frames]]:
    """The sets of shared/data."""
    for position, record in json.loads((data / "ballscrew/labels.json").read_text()).items():
        images = [(record[name], load_image(data / "ballscrew" / position / name)) for name in sorted(record)]
        rest = images[ENROLLED:]
        yield (
            f"ballscrew {position}",
            Frames(
                [image for _, image in images[:ENROLLED]],
                [image for label, image in rest if not label],
                [image for label, image in rest if label],
            ),
        )
    video = _video(data / "video/bottle-detection.mp4")
    yield "bottles", Frames(video[0:160:20], video[10:166:10], video[200:1100:30])
    toy = data / "hazelnut-toy"
    good = _images(toy / "train/good")
    yield (
        "hazelnut-toy",
        Frames(good[:ENROLLED], good[ENROLLED:] + _images(toy / "test/good"), _images(toy / "test/colour")),
    )
    order = np.random.default_rng(0).permutation(58)
    normal = _images(data / "aliens/normal")
    shuffled = [normal[number] for number in order]
    yield "aliens", Frames(shuffled[:ENROLLED], shuffled[ENROLLED:], _images(data / "aliens/anomaly"))


def rule(bundle: Bundle, data: Path, seeds: Sequence[int]) -> None:
    """Print the first table."""
    heads = ("set", "near", "rise", "auto", "AUROC off", "R = 1", "lead off", "R = 1")
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    with closing(open_engine(bundle)) as engine:
        for seed in seeds:
            for pose in POSES:
                for name in PARTS:
                    _row(f"drawn {pose}: {name} {seed}", drawn(name, pose, seed), bundle, engine)
            for name in SURFACES:
                _row(f"drawn surface: {name} {seed}", drawn(name, "fixed", seed), bundle, engine)
        for name, frames in real(data):
            _row(name, frames, bundle, engine)


def _row(name: str, frames: Frames, bundle: Bundle, engine: Engine) -> None:
    grids = [stage.grid for stage in bundle.manifest.stages]
    enrolled, normal, bad = (_tokens(some, bundle, engine) for some in frames)
    own = [stage[:, None] for stage in enrolled]
    groups = range(len(frames.enrolled))
    found, (radius, _) = alignment(own, grids, groups, 1), choose_radius(own, grids, groups)
    areas, leads = [], []
    for search in (MemoryBank(own), LocalBank(own, grids, 1)):
        scores = [_scores(search.distances(tokens), grids) for tokens in (normal, bad)]
        labels = [0] * len(scores[0]) + [1] * len(scores[1])
        areas.append(auroc(labels, np.concatenate(scores).tolist()) or 0.0)
        usual, unusual = (np.log(each) for each in scores)
        leads.append((float(np.median(unusual)) - float(usual.mean())) / max(float(usual.std(ddof=1)), 0.05))
    cells = [f"{found.near:.3f}", f"{found.rise:.3f}", "off" if radius is None else str(radius)]
    cells += [*(f"{area:.3f}" for area in areas), *(f"{lead:.1f}" for lead in leads)]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def levers(bundle: Bundle, data: Path, augment: tuple[str, ...], chosen: Sequence[str]) -> None:
    """Print the second table."""
    sets = list(real(data))
    print(f"poses beside the frame itself: {', '.join(augment) or 'none'}")
    print(f"| setting | {' | '.join(name for name, _ in sets)} |\n| --- |{' --- |' * len(sets)}")
    for name in chosen:
        view = seen_as(bundle, pairs=LEVERS[name])
        cells = [_cell(frames, view, augment) for _, frames in sets]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print("\neach cell: image AUROC, false alarms / found, lowest anomalous over highest normal score")


def _cell(frames: Frames, view: Bundle, augment: tuple[str, ...]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder, "normal")
        pictures.mkdir()
        for number, image in enumerate(frames.enrolled):
            cv2.imwrite(str(pictures / f"{number:04d}.png"), image)
        with Detector.open(view) as bare, open_source(pictures) as source:
            done = enroll(
                source, view, bare.engine, Path(folder, "bank"), EnrolOptions(shots=ENROLLED, augment=augment)
            )
        with Detector.open(view, done.bank) as detector:
            normal, bad = (_judged(some, detector) for some in (frames.normal, frames.anomalous))
    labels = [0] * len(normal) + [1] * len(bad)
    area = auroc(labels, [each[0] for each in normal + bad]) or 0.0
    alarms, found = (np.mean([each[1] for each in some]) for some in (normal, bad))
    apart = min(each[0] for each in bad) / max(each[0] for each in normal)
    said = [done.bank.record.settings[name] for name, wish in view.manifest.settings.items() if wish == "auto"]
    return f"{area:.3f}, {alarms:.2f} / {found:.2f}, {apart:.2f}{f' {said}' if said else ''}"


def search() -> None:
    """Print the third table."""
    dice = np.random.default_rng(0)
    cases = {
        "built-in, 64 pictures": ([(14, 14), (7, 7)], [96, 192], 64, None),
        "ViT-L stage, 8 pictures": ([(37, 37)], [1024], 8, None),
        "ViT-L stage, 8 pictures, half": ([(37, 37)], [1024], 8, 30.0),
    }
    print("| bank | everywhere | R = 1 | R = 2 | R = 4 |\n| --- | --- | --- | --- | --- |")
    for name, (grids, widths, pictures, limit) in cases.items():
        shapes = [(h * w, width) for (h, w), width in zip(grids, widths, strict=True)]
        tokens = [_unit(dice.standard_normal((pictures, 1, *shape), np.float32)) for shape in shapes]
        queries = [_unit(dice.standard_normal((1, *shape), np.float32)) for shape in shapes]
        searches: list[MemoryBank | LocalBank] = [MemoryBank(tokens, limit=limit)]
        searches += [LocalBank(tokens, grids, radius, limit=limit) for radius in (1, 2, 4)]
        print(f"| {name} | {' | '.join(f'{_milliseconds(each, queries):.2f}' for each in searches)} |", flush=True)


def _milliseconds(bank: MemoryBank | LocalBank, queries: Sequence[NDArray[np.float32]]) -> float:
    times = []
    for _ in range(21):
        started = time.perf_counter()
        bank.distances(list(queries))
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:]) * 1000


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def _judged(images: Sequence[NDArray[np.uint8]], detector: Detector) -> list[tuple[float, bool]]:
    """Raw score and decision of each."""
    results = []
    for number, image in enumerate(images):
        (result,) = detector.detect([new_frame(image, number, "bench")])
        results.append((result.raw_score, bool(result.anomalous)))
    return results


def _tokens(images: Sequence[NDArray[np.uint8]], bundle: Bundle, engine: Engine) -> list[NDArray[np.float32]]:
    """Each stage's tokens (F, P, C)."""
    _, text = bundle.text("object")
    outputs = [engine.run(to_tensor(image, bundle.manifest.image)[None], text) for image in images]
    return [np.concatenate(stage) for stage in zip(*(each.tokens for each in outputs), strict=True)]


def _scores(distances: Sequence[NDArray[np.float32]], grids: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Mean of the top 1 % of each frame's map."""
    maps = sum(
        upsample(stage.reshape(-1, *grid), (SIZE, SIZE)).copy() for stage, grid in zip(distances, grids, strict=True)
    )
    return np.array([top_mean(each, 0.01) for each in np.asarray(maps)])


def _images(folder: Path) -> list[NDArray[np.uint8]]:
    return [load_image(path) for path in sorted(folder.iterdir())]


def _video(path: Path) -> list[NDArray[np.uint8]]:
    """Every frame."""
    reader = cv2.VideoCapture(str(path))
    frames: list[NDArray[np.uint8]] = []
    while True:
        there, frame = reader.read()
        if not there:
            return frames
        frames.append(np.asarray(frame, np.uint8))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data")
    parser.add_argument("--bundle", type=Path, default=builtin_bundle())
    parser.add_argument("--only", choices=("rule", "levers", "search"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--augment", nargs="*", default=[], help="rotate, flip: copies that the levers' banks hold")
    parser.add_argument("--levers", nargs="+", choices=list(LEVERS), default=list(LEVERS), help="which of them")
    chosen: Any = parser.parse_args()
    bundle = Bundle.open(chosen.bundle)
    if chosen.only in {None, "rule"}:
        rule(bundle, chosen.data, chosen.seeds)
    if chosen.only in {None, "levers"}:
        levers(bundle, chosen.data, tuple(chosen.augment), chosen.levers)
    if chosen.only in {None, "search"}:
        search()


if __name__ == "__main__":
    main()
