"""Objects on a ground under a light, any of them changed: what one picture of a dataset shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from edgevand_runtime.drawn.defects import Change
from edgevand_runtime.drawn.picture import Scene

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray

    from edgevand_runtime.drawn.blueprint import Blueprint, Piece
    from edgevand_runtime.drawn.fields import Field
    from edgevand_runtime.drawn.surface import Light, Pose, Surface

__all__ = ["Edits", "View", "moved", "together"]

Edits: TypeAlias = "Mapping[int, tuple[Blueprint, Change | None]]"
"""By number of an object: what is drawn in its place, and what is changed about it."""

_COVERED = 0.9  # share of a pixel from which on it belongs to the object


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a picture shows.

    Attributes:
        ground: (3, H, W) BGR in [0, 1], lit.
        blueprint: the object.
        poses: where it lies, once or several times.
        light: the lamp.
    """

    ground: Field
    blueprint: Blueprint
    poses: tuple[Pose, ...]
    light: Light

    def picture(self, edits: Edits) -> Field:
        """(3, H, W) in [0, 1], with the objects of ``edits`` in place of the whole ones."""
        picture = self.ground
        for number, pose in enumerate(self.poses):
            blueprint, change = edits.get(number, (self.blueprint, None))
            scene = Scene(picture, blueprint, pose, self.light)
            picture = scene.picture(scene.surface(change))
        return picture

    def surface(self, number: int) -> Surface:
        """One of the objects, whole."""
        return Scene(self.ground, self.blueprint, self.poses[number], self.light).surface()

    def way(self, number: int, gap: NDArray[np.uint8], rng: Generator) -> tuple[float, float]:
        """How far a piece can be moved to lie somewhere else on its object, in part units.

        Args:
            number: of the object.
            gap: (H, W), above 0 where the piece is.
            rng: decides where to.
        """
        surface = self.surface(number)
        left, top = surface.origin
        rows, columns = surface.cover.shape
        piece = gap[top : top + rows, left : left + columns] > 0
        at_x, at_y = float(surface.x[piece].mean()), float(surface.y[piece].mean())
        box_rows, box_columns = (int(np.ptp(where)) + 1 for where in np.nonzero(piece))
        there = (surface.cover >= _COVERED).astype(np.uint8)
        inside = cv2.erode(there, np.ones((box_rows | 1, box_columns | 1), np.uint8), borderValue=0) > 0
        aside = np.abs(surface.x - at_x) > 0.8 * box_columns * surface.pixel
        aside |= np.abs(surface.y - at_y) > 0.8 * box_rows * surface.pixel
        places = next(found for area in (inside & aside, aside & (there > 0), there) if len(found := np.argwhere(area)))
        row, column = places[rng.integers(len(places))]
        return float(surface.x[row, column]) - at_x, float(surface.y[row, column]) - at_y


def moved(piece: Piece, way: tuple[float, float]) -> Piece:
    """The same piece, put down elsewhere."""

    def paint(surface: Surface) -> None:
        x, y = surface.x, surface.y
        surface.x, surface.y = x - np.float32(way[0]), y - np.float32(way[1])
        try:
            piece.paint(surface)
        finally:
            surface.x, surface.y = x, y

    return replace(piece, paint=paint)


def together(changes: Sequence[Change]) -> Change:
    """Several changes of one object as one; of what acts before drawing, the first of each counts."""

    def apply(surface: Surface) -> None:
        for change in changes:
            if change.apply is not None:
                change.apply(surface)

    warp = next((change.warp for change in changes if change.warp is not None), None)
    without = next((change.without for change in changes if change.without is not None), None)
    return Change(apply, warp, without)
