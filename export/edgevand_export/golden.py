"""The golden sample: two pictures that travel in the bundle, with what torch computed for them.

One is drawn (shapes, edges, a gradient), one is noise, so that smooth and rough inputs are both proved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevand.bundle import ImageRecord

__all__ = ["golden_images", "normalise"]

SEED = 20230511


def golden_images(size: tuple[int, int]) -> NDArray[np.uint8]:
    """The two pictures, the same for every export of a size.

    Args:
        size: height and width.

    Returns:
        (2, H, W, 3) uint8 RGB: a drawn part, and noise.
    """
    noise = np.random.default_rng(SEED).integers(0, 256, (*size, 3), dtype=np.uint8)
    return np.stack([_drawn(size), noise])


def normalise(images: NDArray[np.uint8], record: ImageRecord) -> NDArray[np.float32]:
    """Pictures at image size to the encoder's input.

    Args:
        images: (N, H, W, 3) uint8 RGB.
        record: mean and standard deviation of the channels.

    Returns:
        (N, 3, H, W) float32.
    """
    mean, std = (np.asarray(each, np.float32) for each in (record.mean, record.std))
    scaled = (images.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _drawn(size: tuple[int, int]) -> NDArray[np.uint8]:
    """A ring with a bore and a scratch on a shaded, striped ground."""
    height, width = size
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    ground = 90 + 60 * x + 25 * np.sin(14 * (x + y))
    radius = np.hypot(x, y)
    picture = np.stack([ground, ground * 0.9, ground * 0.75], axis=-1)
    picture[radius < 0.7] = (200, 190, 170)  # noqa: PLR2004 (the drawing's own measures)
    picture[radius < 0.25] = (30, 32, 40)  # noqa: PLR2004
    picture[(np.abs(y - 0.6 * x - 0.3) < 0.03) & (radius < 0.7)] = (120, 40, 30)  # noqa: PLR2004
    return picture.clip(0, 255).round().astype(np.uint8)
