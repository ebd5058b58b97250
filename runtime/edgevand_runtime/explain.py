"""Why a region is anomalous: what was found, beside the enrolled patch that came nearest to it.

The memory bank calls a patch anomalous because none of the enrolled ones is near. For the highest point of each
region this looks up which one came nearest after all: its frame, its place and its distance. A picture shows both
crops at the same scale, so that a person sees what was expected and what was found; a JSON file beside it says the
same in numbers, stage by stage.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand.errors import UsageError
from edgevand.files import write_atomic
from edgevand_runtime.augment import augmented_copies
from edgevand_runtime.explain_sheet import Cell, Pair, draw_sheet
from edgevand_runtime.frame_files import write_jpeg
from edgevand_runtime.methods import kind_of
from edgevand_runtime.preprocess import load_image
from edgevand_runtime.results import Region

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand_runtime.detector import Detector
    from edgevand_runtime.pipeline import Scored

__all__ = ["EXPLANATION_SCHEMA", "Explainer", "Nearest"]

EXPLANATION_SCHEMA = "edgevand.explanation/1"

_MOST_REGIONS = 8


@dataclass(frozen=True, slots=True)
class Nearest:
    """The enrolled patch that came nearest to a patch of the frame, in one stage.

    Attributes:
        stage: the stage's index, as the bundle counts.
        enrolled: id of the enrolled frame, ``frames/<id>.jpg`` in the bank.
        copy: 0 the frame itself, else its augmented copy of this number.
        at: row and column of the enrolled patch on the stage's grid.
        found_at: row and column of the frame's own patch on that grid.
        distance: 1 - cosine, in [0, 2]: what the stage adds to the map there.
    """

    stage: int
    enrolled: int
    copy: int
    at: tuple[int, int]
    found_at: tuple[int, int]
    distance: float


class Explainer:
    """Explains results of one detector; it needs a bank."""

    def __init__(self, detector: Detector) -> None:
        """Check that there is something to compare with.

        Raises:
            UsageError: the detector has no bank, or its method compares with no enrolled patch.
        """
        if detector.bank is not None and detector.memory is None:
            raise UsageError(
                f"expected a method that compares patches with enrolled ones, which --explain shows, found "
                f"{detector.bank.record.method}; leave --explain out and read reason and marks in the results"
            )
        if detector.bank is None or detector.memory is None:
            raise UsageError(
                "expected a bank, whose enrolled frames --explain shows, but there is none; "
                "give --bank DIR or leave it out"
            )
        self._bank = detector.bank
        self._memory = detector.memory
        self._manifest = detector.bundle.manifest
        self._stages = self._manifest.stages
        self._pictures: dict[tuple[int, int], NDArray[np.uint8]] = {}

    def write(self, stem: Path, item: Scored) -> str | None:
        """Write ``<stem>.jpg`` and ``<stem>.json`` for a frame.

        Args:
            stem: path without suffix.
            item: the frame, its result and its encoder outputs.

        Returns:
            Path of the JSON file; None where the frame has no region, and so nothing to explain. Where nothing was
            calibrated there are no regions, and the map's highest point is explained instead.
        """
        regions = _regions_of(item)
        if not regions:
            return None
        nearest = [self.nearest(item, region) for region in regions]
        pairs = [self._pair(item, region, found) for region, found in zip(regions, nearest, strict=True)]
        picture = stem.with_name(f"{stem.name}.jpg")
        write_jpeg(picture, draw_sheet(item.frame.image, pairs, item.result.reason))
        document = {
            "schema": EXPLANATION_SCHEMA,
            "source": item.frame.source,
            "frame": item.frame.index,
            "bank": item.result.bank,
            "picture": str(picture),
            "reason": item.result.reason,
            "marks": [asdict(mark) for mark in item.result.marks],
            "regions": [self._describe(region, found) for region, found in zip(regions, nearest, strict=True)],
        }
        path = stem.with_name(f"{stem.name}.json")
        write_atomic(path, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())
        return str(path)

    def nearest(self, item: Scored, region: Region) -> list[Nearest]:
        """The nearest enrolled patch in every stage, at the region's highest point; the largest distance first."""
        row, column = _peak(item, region)
        compared = kind_of(self._manifest).open.compared(self._manifest, item.outputs)
        found = []
        for number, stage in enumerate(self._stages):
            at = (_cell(row, stage.grid[0]), _cell(column, stage.grid[1]))
            tokens = compared[number][item.row]
            place = at[0] * stage.grid[1] + at[1]
            patch = self._memory.nearest(number, tokens[place], place)
            found.append(
                Nearest(
                    stage=stage.index,
                    enrolled=self._bank.record.frames[patch.frame].id,
                    copy=patch.copy,
                    at=divmod(patch.patch, stage.grid[1]),
                    found_at=at,
                    distance=round(patch.distance, 6),
                )
            )
        return sorted(found, key=lambda one: -one.distance)

    def _describe(self, region: Region, found: list[Nearest]) -> dict[str, Any]:
        """A region's numbers; the place of the enrolled patch in pixels of the enrolled frame."""
        first = found[0]
        record = next(frame for frame in self._bank.record.frames if frame.id == first.enrolled)
        cell = self._enrolled_cell(first)
        size = self._bank.record.frame_size
        return {
            **asdict(region),
            "expected": {
                "enrolled": first.enrolled,
                "copy": first.copy,
                "source": record.source,
                "frame": record.frame,
                "x": round(cell.left * size[0]),
                "y": round(cell.top * size[1]),
                "w": round(cell.width * size[0]),
                "h": round(cell.height * size[1]),
                "distance": first.distance,
                "stage": first.stage,
            },
            "stages": [asdict(one) for one in found],
        }

    def _pair(self, item: Scored, region: Region, found: list[Nearest]) -> Pair:
        """What the picture shows for a region: the stage that contributes most."""
        first = found[0]
        width, height = item.frame.size
        return Pair(
            region=Cell(region.x / width, region.y / height, region.w / width, region.h / height),
            peak=region.peak if item.result.map_threshold is not None else None,
            found=self._cell_of(first, first.found_at),
            expected=self._enrolled_cell(first),
            expected_image=self._picture(first),
            expected_name=f"enrolled frame {first.enrolled}" + (f", copy {first.copy}" if first.copy else ""),
            distance=first.distance,
        )

    def _enrolled_cell(self, one: Nearest) -> Cell:
        """The enrolled patch's place in its frame."""
        return self._cell_of(one, one.at)

    def _cell_of(self, one: Nearest, at: tuple[int, int]) -> Cell:
        """A patch's place, as shares of width and height."""
        rows, columns = next(stage.grid for stage in self._stages if stage.index == one.stage)
        return Cell(at[1] / columns, at[0] / rows, 1 / columns, 1 / rows)

    def _picture(self, one: Nearest) -> NDArray[np.uint8]:
        """The enrolled frame, or its augmented copy, that a patch is of: (H, W, 3) uint8 BGR; read once."""
        key = (one.enrolled, one.copy)
        if key not in self._pictures:
            image = load_image(self._bank.thumbnail(one.enrolled))
            copies = augmented_copies(image, self._bank.record.augment) if one.copy else []
            self._pictures[key] = copies[one.copy - 1] if one.copy else image
        return self._pictures[key]


def _regions_of(item: Scored) -> tuple[Region, ...]:
    """The highest regions; where nothing was calibrated, a square around the map's highest point."""
    raw_map = item.result.raw_map
    if item.result.regions or item.result.map_threshold is not None or raw_map is None:
        return item.result.regions[:_MOST_REGIONS]
    row, column = np.unravel_index(int(raw_map.argmax()), raw_map.shape)
    width, height = item.frame.size
    side = max(1, min(width, height) // 8)
    x = max(0, min(width - side, round(column * width / raw_map.shape[1] - side / 2)))
    y = max(0, min(height - side, round(row * height / raw_map.shape[0] - side / 2)))
    return (Region(x, y, side, side, side * side, 0.0),)


def _peak(item: Scored, region: Region) -> tuple[float, float]:
    """The region's highest point on the map, as shares of its height and width, corners aligned."""
    raw_map = item.result.raw_map
    if raw_map is None:
        return 0.0, 0.0
    rows, columns = raw_map.shape
    width, height = item.frame.size
    top, left = int(region.y * rows / height), int(region.x * columns / width)
    bottom = max(top + 1, -(-(region.y + region.h) * rows // height))
    right = max(left + 1, -(-(region.x + region.w) * columns // width))
    window = raw_map[top:bottom, left:right]
    row, column = np.unravel_index(int(window.argmax()), window.shape)
    return (top + int(row)) / max(1, rows - 1), (left + int(column)) / max(1, columns - 1)


def _cell(share: float, cells: int) -> int:
    """The patch that the map's point was enlarged from."""
    return min(cells - 1, round(share * (cells - 1)))
