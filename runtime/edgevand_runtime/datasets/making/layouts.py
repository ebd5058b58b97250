"""Drawn datasets in the exact layouts: names, splits, masks and their values as the published ones have them.

A writer puts one class below a folder. Pictures are drawn one after the other, so that memory stays small.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgevand.errors import OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand_runtime.datasets.making.boxes import BoxCamera
    from edgevand_runtime.datasets.making.camera import Camera, Shot

__all__ = ["Counts", "write_folder", "write_loco", "write_mvtec", "write_visa", "write_visa_prepared"]

_QUALITY = 95
_BESIDE = ("scratch", "dent", "stain")  # damage that can be added to other damage and leaves it where it is
_KINDS = 4  # of defects in a class


@dataclass(frozen=True, slots=True)
class Counts:
    """Pictures of each class.

    Attributes:
        train: normal ones to learn from.
        good: normal ones to test.
        bad: anomalous ones to test.
        validation: normal ones to calibrate on, in LOCO.
    """

    train: int
    good: int
    bad: int
    validation: int


def write_mvtec(folder: Path, camera: Camera, counts: Counts, *, grey: bool) -> None:
    """One class as in MVTec AD: ``train/good``, ``test/{good,<defect>}``, ``ground_truth/<defect>/<stem>_mask.png``."""
    numbers = itertools.count()
    for split, count in (("train", counts.train), ("test", counts.good)):
        for at in range(count):
            _save(folder / split / "good" / f"{at:03}.png", camera.normal(next(numbers)).image, grey=grey)
    for kind, at in _shares(camera, counts.bad):
        shot, name = camera.damaged(next(numbers), kind), kind.replace(" ", "_")
        _save(folder / "test" / name / f"{at:03}.png", shot.image, grey=grey)
        _save(folder / "ground_truth" / name / f"{at:03}_mask.png", shot.union)


def write_visa(root: Path, name: str, camera: Camera, counts: Counts) -> list[str]:
    """One class as VisA is published; returns its lines of the split file.

    Normal pictures of both splits are numbered through and lie in one folder; the value of a mask's pixels is the
    number of the kind of defect.
    """
    normal, anomaly = f"{name}/Data/Images/Normal", f"{name}/Data/Images/Anomaly"
    every = counts.train + counts.good
    tested = {round((at + 0.5) * every / counts.good - 0.5) for at in range(counts.good)}
    lines = []
    for at in range(every):
        _save(root / normal / f"{at:04}.JPG", camera.normal(at).image)
        lines.append(f"{name},{'test' if at in tested else 'train'},normal,{normal}/{at:04}.JPG,")
    for at, (kind, _) in enumerate(_shares(camera, counts.bad)):
        shot = camera.damaged(every + at, kind)
        mask = f"{name}/Data/Masks/Anomaly/{at:03}.png"
        _save(root / anomaly / f"{at:03}.JPG", shot.image)
        _save(root / mask, shot.union // 255 * np.uint8(camera.kinds.index(kind) + 1))
        lines.append(f"{name},test,anomaly,{anomaly}/{at:03}.JPG,{mask}")
    return lines


def write_visa_prepared(folder: Path, camera: Camera, counts: Counts) -> None:
    """One class of VisA as tools prepare it: ``train/good``, ``test/{good,bad}``, ``ground_truth/bad/<stem>.png``."""
    numbers = itertools.count()
    for split, count in (("train", counts.train), ("test", counts.good)):
        for _ in range(count):
            at = next(numbers)
            _save(folder / split / "good" / f"{at:04}.JPG", camera.normal(at).image)
    for at, (kind, _) in enumerate(_shares(camera, counts.bad)):
        shot = camera.damaged(next(numbers), kind)
        _save(folder / "test" / "bad" / f"{at:03}.JPG", shot.image)
        _save(folder / "ground_truth" / "bad" / f"{at:03}.png", shot.union)


def write_loco(folder: Path, camera: Camera | BoxCamera, counts: Counts) -> None:
    """One class as in MVTec LOCO: half of the anomalies logical, half structural, one mask for each defect.

    Missing and additional pieces are found whole when as many pixels are found as the piece has (absolute saturation),
    damage when all of it is found (relative saturation).

    Raises:
        UsageError: the object has no pieces that could be missing.
    """
    pieces = camera.pieces()
    if not pieces:
        raise UsageError(
            f"expected objects with pieces that can be missing, found {folder.name}; choose others, circuit_board say"
        )
    damages = tuple(kind for kind in camera.kinds if kind not in {"missing piece", "extra piece"})
    values = _write_config(folder / "defects_config.json", camera.logical, pieces, damages)
    numbers = itertools.count()
    for split, count in (("train", counts.train), ("validation", counts.validation), ("test", counts.good)):
        for at in range(count):
            _save(folder / split / "good" / f"{at:03}.png", camera.normal(next(numbers)).image)
    logical = (counts.bad + 1) // 2
    for at in range(logical):
        shot = camera.illogical(next(numbers), camera.logical[at % len(camera.logical)])
        _save_loco(folder, "logical_anomalies", at, shot, values)
    for at in range(max(1, counts.bad - logical)):
        first = damages[at % len(damages)]
        beside = [kind for kind in _BESIDE if kind != first][: at % 2]  # every second one is damaged twice
        _save_loco(folder, "structural_anomalies", at, camera.damaged(next(numbers), first, *beside), values)


def write_folder(root: Path, camera: Camera, counts: Counts) -> None:
    """One class of somebody's own: ``good``, ``<defect>``, ``ground_truth/<defect>/<stem>.png``."""
    numbers = itertools.count()
    for at in range(counts.train + counts.good):
        _save(root / "good" / f"{at:03}.png", camera.normal(next(numbers)).image)
    for kind, at in _shares(camera, counts.bad):
        shot, name = camera.damaged(next(numbers), kind), kind.replace(" ", "_")
        _save(root / name / f"{at:03}.png", shot.image)
        _save(root / "ground_truth" / name / f"{at:03}.png", shot.union)


def _shares(camera: Camera, count: int) -> Iterator[tuple[str, int]]:
    """``count`` pictures shared among a few kinds of defects: the kind of each and its number in it."""
    chosen = camera.some_kinds(min(_KINDS, count))
    for number, kind in enumerate(chosen):
        for at in range(len(range(number, count, len(chosen)))):
            yield kind, at


def _write_config(
    path: Path, logical: Sequence[str], pieces: Mapping[int, int], damages: Sequence[str]
) -> dict[str, int]:
    """Write ``defects_config.json``; returns the pixel value of each defect, from 255 down as in LOCO.

    What is misplaced is missing here and additional there.
    """
    wanted: dict[str, int | float] = {}
    for defect in (name for name in logical if name != "misplaced"):
        wanted |= {f"{defect}_{piece}": area for piece, area in pieces.items()}
    wanted |= {damage.replace(" ", "_"): 1.0 for damage in damages}
    entries = [
        {
            "defect_name": name,
            "pixel_value": 255 - number,
            "saturation_threshold": threshold,
            "relative_saturation": isinstance(threshold, float),
        }
        for number, (name, threshold) in enumerate(wanted.items())
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    return {name: 255 - number for number, name in enumerate(wanted)}


def _save_loco(folder: Path, kind: str, at: int, shot: Shot, values: dict[str, int]) -> None:
    """A picture and the masks of its defects, each with the defect's value."""
    _save(folder / "test" / kind / f"{at:03}.png", shot.image)
    for number, mark in enumerate(shot.marks):
        mask = mark.mask // 255 * np.uint8(values[mark.name])
        _save(folder / "ground_truth" / kind / f"{at:03}" / f"{number:03}.png", mask)


def _save(path: Path, image: NDArray[np.uint8], *, grey: bool = False) -> None:
    """Write a picture: grey (H, W) or BGR (H, W, 3) uint8, in the format of the name's suffix."""
    if grey:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
    done, data = cv2.imencode(path.suffix.lower(), image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise OutputError(f"cannot write {path}: a picture of {image.shape} cannot be encoded; reduce --size")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())
