"""A part as a list of pieces, so that one can be left out and the part drawn in any pose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgevand_runtime.drawn.fields import box, circle, coverage, polyline

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgevand_runtime.drawn.fields import Field
    from edgevand_runtime.drawn.surface import Material, Surface

__all__ = ["Blueprint", "Piece", "bar", "bore", "disc", "label", "plate"]


@dataclass(frozen=True, slots=True)
class Piece:
    """One step of drawing a part.

    Attributes:
        paint: puts the piece onto the surface.
        removable: whether a part without it is a part with a piece missing.
    """

    paint: Callable[[Surface], None]
    removable: bool = False


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A part.

    Attributes:
        name: what people call it; the object of its captions.
        pieces: in the order in which they are put down.
        thickness: how high it stands, in part units.
        flexible: whether it can be bent.
    """

    name: str
    pieces: tuple[Piece, ...]
    thickness: float = 0.16
    flexible: bool = True
    removable: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Remember which pieces can be left out."""
        object.__setattr__(self, "removable", tuple(i for i, piece in enumerate(self.pieces) if piece.removable))

    def draw(self, surface: Surface, *, without: int | None = None) -> None:
        """Put all pieces down but the one numbered ``without``."""
        for number, piece in enumerate(self.pieces):
            if number != without:
                piece.paint(surface)


def disc(
    cx: float, cy: float, radius: float, material: Material, *, rise: float, bevel: float, ground: bool = False
) -> Callable[[Surface], None]:
    """A round solid."""

    def paint(surface: Surface) -> None:
        where = surface.near(cx, cy, radius + 2 * surface.pixel)
        distance = circle(surface.x[where], surface.y[where], cx, cy, radius)
        surface.solid(distance, material, rise=rise, bevel=bevel, where=where, ground=ground)

    return paint


def plate(
    centre: tuple[float, float],
    half: tuple[float, float],
    corner: float,
    material: Material,
    *,
    rise: float,
    bevel: float,
    ground: bool = False,
) -> Callable[[Surface], None]:
    """A rectangular solid with rounded corners."""

    def paint(surface: Surface) -> None:
        where = surface.near(*centre, max(half) + 2 * surface.pixel)
        distance = box(surface.x[where], surface.y[where], *centre, half, corner)
        surface.solid(distance, material, rise=rise, bevel=bevel, where=where, ground=ground)

    return paint


def bar(
    points: tuple[tuple[float, float], ...], width: float, material: Material, *, rise: float, ground: bool = False
) -> Callable[[Surface], None]:
    """A round bar along a line of points."""

    def paint(surface: Surface) -> None:
        distance = polyline(surface.x, surface.y, points, width)
        surface.solid(distance, material, rise=rise, bevel=width, ground=ground)

    return paint


def bore(cx: float, cy: float, radius: float, rim: float = 0.03) -> Callable[[Surface], None]:
    """A round hole with a chamfer."""

    def paint(surface: Surface) -> None:
        where = surface.near(cx, cy, radius + rim + 2 * surface.pixel)
        surface.hole(circle(surface.x[where], surface.y[where], cx, cy, radius), rim=rim, where=where)

    return paint


def label(
    text: str, centre: tuple[float, float], height: float, paint_colour: Field, strength: float = 0.85
) -> Callable[[Surface], None]:
    """A printed line of text, ``height`` part units high."""
    cell = 40
    (width, _), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, 1.4, 3)
    stamp = np.zeros((cell + 2 * base, width + 2 * base), np.uint8)
    cv2.putText(stamp, text, (base, cell), cv2.FONT_HERSHEY_DUPLEX, 1.4, 255, 3, cv2.LINE_AA)
    ink = cv2.GaussianBlur(stamp.astype(np.float32) / 255, (0, 0), 0.8)
    unit = height / cell

    def paint(surface: Surface) -> None:
        where = surface.near(*centre, unit * max(stamp.shape))
        x, y = surface.x[where], surface.y[where]
        if x.size == 0:
            return
        columns = np.asarray((x - centre[0]) / unit + stamp.shape[1] / 2, np.float32)
        rows = np.asarray((y - centre[1]) / unit + stamp.shape[0] / 2, np.float32)
        amount = cv2.remap(ink, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        inside = coverage(np.asarray(0.5 - surface.cover[where], np.float32), 0.5)
        surface.tint(np.asarray(strength * amount * inside, np.float32), paint_colour, where)

    return paint
