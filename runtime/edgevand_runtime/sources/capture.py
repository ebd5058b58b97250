"""What OpenCV captures have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["as_bgr"]


def as_bgr(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """A captured picture as (H, W, 3) uint8 BGR, whatever the driver delivers: grey, with alpha, 16 bits.

    Args:
        image: (H, W) or (H, W, 1 | 3 | 4), uint8 or uint16; channels B, G, R(, A).
    """
    if image.ndim == 2:  # noqa: PLR2004 - (H, W)
        image = image[:, :, np.newaxis]
    eight = (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image.astype(np.uint8, copy=False)
    channels = eight.shape[2]
    colour = np.repeat(eight, 3, axis=2) if channels == 1 else eight[:, :, :3]
    return np.ascontiguousarray(colour)
