"""Blemishes drawn onto photographs: what makes a defective frame of a good one where no real one is at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

__all__ = ["blemish"]


def blemish(image: Image, number: int, inside: NDArray[np.bool_] | None = None) -> Image:
    """A copy of a frame with a scratch, a stain or a displaced piece, in turn.

    Args:
        image: (H, W, 3) uint8 BGR.
        number: decides kind, place, size and strength; the same number gives the same blemish.
        inside: region of interest of any size that has the frame's proportions; the blemish's middle lies in it.
    """
    rng = np.random.default_rng(number)
    size = min(image.shape[:2]) * rng.uniform(0.05, 0.12)
    place = _place(rng, image.shape[0], image.shape[1], size, inside)
    draw = (_scratch, _stain, _displaced)[number % 3]
    return draw(rng, image, place, float(size))


def _place(
    rng: Generator, height: int, width: int, size: float, inside: NDArray[np.bool_] | None
) -> tuple[float, float]:
    """Middle of the blemish, x and y, in pixels."""
    if inside is None:
        return float(rng.uniform(size, width - size)), float(rng.uniform(size, height - size))
    rows, columns = np.nonzero(inside)
    chosen = int(rng.integers(len(rows)))
    y, x = (rows[chosen] + 0.5) * height / inside.shape[0], (columns[chosen] + 0.5) * width / inside.shape[1]
    return float(x), float(y)


def _scratch(rng: Generator, image: Image, place: tuple[float, float], size: float) -> Image:
    """A thin crooked line, bright or dark."""
    turn, length = rng.uniform(0, np.pi), 3 * size
    along, across = np.linspace(-0.5, 0.5, 5) * length, rng.normal(0, 0.08 * size, 5)
    points = np.stack(
        [
            place[0] + along * np.cos(turn) - across * np.sin(turn),
            place[1] + along * np.sin(turn) + across * np.cos(turn),
        ],
        axis=1,
    )
    level = 235 if image.mean() < 128 else 30  # noqa: PLR2004 - half of 255
    thickness = max(1, round(size / 10))
    found = image.copy()
    cv2.polylines(
        found,
        [np.rint(points).astype(np.int32)],
        isClosed=False,
        color=(level,) * 3,
        thickness=thickness,
        lineType=cv2.LINE_AA,
    )
    return found


def _stain(rng: Generator, image: Image, place: tuple[float, float], size: float) -> Image:
    """An oval of another colour with a soft rim."""
    mask = np.zeros(image.shape[:2], np.float32)
    axes = (round(size), round(size * rng.uniform(0.5, 1)))
    cv2.ellipse(mask, (round(place[0]), round(place[1])), axes, rng.uniform(0, 180), 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), max(size / 6, 0.5))[..., None] * rng.uniform(0.4, 0.8)
    return np.rint(image * (1 - mask) + rng.integers(0, 256, 3) * mask).astype(np.uint8)


def _displaced(rng: Generator, image: Image, place: tuple[float, float], size: float) -> Image:
    """A piece of the frame, turned by a quarter, where another belongs."""
    side = max(2, round(1.6 * size))
    height, width = image.shape[:2]
    side = min(side, height, width)
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    y = int(np.clip(place[1] - side / 2, 0, height - side))
    x = int(np.clip(place[0] - side / 2, 0, width - side))
    found = image.copy()
    found[y : y + side, x : x + side] = np.rot90(image[top : top + side, left : left + side])
    return found
