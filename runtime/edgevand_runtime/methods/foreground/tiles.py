"""Tiles: the square crops that each component of the foreground is seen in (methods.md (d), step 2).

A component has one tile, centred on it, as large as its bounding box and at least ``side`` pixels. A long one that is
made of many parts has tiles along its long axis, in steps of half its short axis. Where the picture's shorter side caps
a tile below the component's own length, further tiles follow by half a tile, so that no part goes unseen [ours].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevand_runtime.methods.foreground.components import Component

__all__ = ["Tile", "TileRule", "cut", "whole_picture"]

Box = tuple[int, int, int, int]


class Tile(NamedTuple):
    """A square of a picture, in pixels, and the component that it shows."""

    component: int
    x: int
    y: int
    side: int


class TileRule(NamedTuple):
    """When a component is long, and how small a tile may be."""

    side: int = 352
    """Least side of a tile in pixels: what the encoder sees one pixel for one."""
    aspect: float = 1.5
    """Long side over short side of the bounding box, above which a component is long ..."""
    parts: int = 20
    """... if it is made of more parts than this."""


def cut(found: Sequence[Component], size: tuple[int, int], rule: TileRule) -> list[Tile]:
    """Tiles of components.

    Args:
        found: in the picture.
        size: width and height of the picture.
        rule: when a component is long.

    Returns:
        At least one for each component, all inside the picture, numbered as ``found`` is.
    """
    return [
        Tile(number, *tile)
        for number, each in enumerate(found)
        for tile in (_along if _is_long(each, rule) else _around)(each.box, size, rule.side)
    ]


def whole_picture(size: tuple[int, int]) -> list[Tile]:
    """Tiles where no foreground was found: of the shorter side, along the longer one by half a tile."""
    width, height = size
    side = min(size)
    starts = _starts(0, max(size), side, side / 2)
    return [Tile(0, start, 0, side) if width >= height else Tile(0, 0, start, side) for start in starts]


def _is_long(component: Component, rule: TileRule) -> bool:
    short, long = sorted(component.box[2:])
    return long > rule.aspect * short and component.parts > rule.parts


def _around(box: Box, size: tuple[int, int], least: int) -> list[tuple[int, int, int]]:
    """One tile, centred on the box; more by half a tile where one does not reach from end to end."""
    side = min(max(box[2], box[3], least), *size)
    if max(box[2:]) <= side:
        return [(_centred(box[0], box[2], side, size[0]), _centred(box[1], box[3], side, size[1]), side)]
    return _row(box, size, side, side / 2)


def _along(box: Box, size: tuple[int, int], least: int) -> list[tuple[int, int, int]]:
    """Tiles along the long axis by half the short one, the last flush with the end."""
    short = min(box[2:])
    side = min(max(short, least), *size)
    return _around(box, size, least) if max(box[2:]) <= side else _row(box, size, side, short / 2)


def _row(box: Box, size: tuple[int, int], side: int, step: float) -> list[tuple[int, int, int]]:
    """Tiles from one end of the box to the other along its long axis, centred on it across."""
    x, y, width, height = box
    if width >= height:
        across = _centred(y, height, side, size[1])
        return [(start, across, side) for start in _starts(x, width, side, step)]
    across = _centred(x, width, side, size[0])
    return [(across, start, side) for start in _starts(y, height, side, step)]


def _starts(first: int, length: int, side: int, step: float) -> list[int]:
    """Where tiles begin on an axis: at 0, step, 2 step, … of the length, the last one flush with its end."""
    last = first + length - side
    starts: list[int] = []
    while (start := first + int(len(starts) * step)) < last:
        starts.append(start)
    return [*starts, last]


def _centred(start: int, length: int, side: int, limit: int) -> int:
    """Where a tile begins that is centred on a stretch, shifted to lie inside the picture."""
    return min(max(0, start + (length - side) // 2), limit - side)
