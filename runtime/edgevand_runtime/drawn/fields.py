"""Shapes as signed distances, noise as periodic tiles: the vocabulary that everything drawn is made of.

A signed distance is negative inside a shape, positive outside, in the units of the coordinates it is given. Coverage
from a signed distance is anti-aliased by construction, bevels and grooves are functions of the same distance.
All arrays are float32; coordinates ``x`` and ``y`` have one common shape.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Field",
    "box",
    "capsule",
    "circle",
    "colour",
    "coverage",
    "noise_tile",
    "polygon",
    "polyline",
    "sample",
    "smooth",
]

Field: TypeAlias = NDArray[np.float32]


def colour(code: str) -> Field:
    """BGR in [0, 1] from ``rrggbb``."""
    red, green, blue = (int(code[i : i + 2], 16) / 255 for i in (0, 2, 4))
    return np.array([blue, green, red], np.float32)


def smooth(t: Field) -> Field:
    """Clip to [0, 1] and ease in and out (3t² - 2t³)."""
    t = np.clip(t, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def coverage(distance: Field, pixel: float) -> Field:
    """How much of each pixel lies inside, in [0, 1]; ``pixel`` is the size of a pixel in units of ``distance``."""
    return np.asarray(np.clip(0.5 - distance / pixel, 0, 1), np.float32)


def circle(x: Field, y: Field, cx: float, cy: float, radius: float) -> Field:
    """Distance to a disc."""
    return np.asarray(np.hypot(x - cx, y - cy) - radius, np.float32)


def box(x: Field, y: Field, cx: float, cy: float, half: tuple[float, float], corner: float = 0.0) -> Field:
    """Distance to an upright rectangle of half-sizes ``half`` with rounded corners."""
    dx = np.abs(x - cx) - (half[0] - corner)
    dy = np.abs(y - cy) - (half[1] - corner)
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return np.asarray(outside + np.minimum(np.maximum(dx, dy), 0) - corner, np.float32)


def polygon(x: Field, y: Field, cx: float, cy: float, radius: float, sides: int, turn: float = 0.0) -> Field:
    """Distance to the edges of a regular polygon of inner radius ``radius`` (exact inside)."""
    angle = np.arctan2(y - cy, x - cx) - np.float32(turn)
    sector = 2 * np.pi / sides
    folded = angle - sector * np.round(angle / sector)
    return np.asarray(np.hypot(x - cx, y - cy) * np.cos(folded) - radius, np.float32)


def capsule(x: Field, y: Field, start: tuple[float, float], end: tuple[float, float], radius: float) -> Field:
    """Distance to a thick line with round ends."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    t = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
    return np.asarray(np.hypot(x - start[0] - t * dx, y - start[1] - t * dy) - radius, np.float32)


def polyline(x: Field, y: Field, points: Sequence[tuple[float, float]], radius: float) -> Field:
    """Distance to a thick line through two or more points."""
    distance = capsule(x, y, points[0], points[1], radius)
    for start, end in itertools.pairwise(points):
        distance = np.minimum(distance, capsule(x, y, start, end, radius))
    return distance


@lru_cache(maxsize=64)
def noise_tile(seed: int, slope: float = 1.0, stretch: tuple[float, float] = (1.0, 1.0), size: int = 256) -> Field:
    """A periodic tile of coloured noise, mean 0 and standard deviation 1.

    Args:
        seed: which tile.
        slope: amplitude falls as 1/frequency^slope; 0 is white, 1 cloudy, 2 soft.
        stretch: length of the grain along x and y; (8, 1) is brushed along x.
        size: side in pixels.

    Returns:
        (size, size) float32, not to be written to.
    """
    white = np.random.default_rng([seed, size]).standard_normal((size, size))
    fy = np.fft.fftfreq(size)[:, None] * stretch[1]
    fx = np.fft.rfftfreq(size)[None, :] * stretch[0]
    frequency = np.hypot(fx, fy)
    frequency[0, 0] = np.inf
    grey = np.fft.irfft2(np.fft.rfft2(white) * frequency**-slope, s=(size, size))
    tile: Field = np.asarray((grey - grey.mean()) / grey.std(), np.float32)
    tile.flags.writeable = False
    return tile


def sample(tile: Field, u: Field, v: Field) -> Field:
    """Read a periodic tile at ``u`` (columns) and ``v`` (rows), in pixels of the tile, bilinearly."""
    if u.size == 0:  # a window beside the picture, which OpenCV refuses
        return np.zeros(u.shape, np.float32)
    rows, columns = tile.shape
    return np.asarray(
        cv2.remap(
            tile,
            np.mod(u, columns).astype(np.float32),
            np.mod(v, rows).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        ),
        np.float32,
    )
