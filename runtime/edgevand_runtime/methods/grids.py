"""Maps of cells, as the trained methods' graphs give them, on the pixels of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["cells_inside", "enlarge", "gaussian", "softplus"]

_TRUNCATE = 4.0
"""Deviations at which a Gaussian kernel ends, as SciPy's does."""


def enlarge(grid: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Enlarge a map bilinearly, a cell's value in its middle (torch's ``align_corners=False``).

    Args:
        grid: (h, w) float32.
        size: rows and columns wanted, at least as many.

    Returns:
        (rows, columns) float32.
    """
    rows, columns = size
    return np.asarray(cv2.resize(grid, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)


def gaussian(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Smooth a map with a Gaussian of 4 sigma either way and a mirrored border; sigma 0 leaves it as it is.

    Args:
        image: (H, W) float32.
        sigma: in pixels.
    """
    radius = int(_TRUNCATE * sigma + 0.5)
    if radius == 0:
        return image
    side = 2 * radius + 1
    smoothed = cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REFLECT)
    return np.asarray(smoothed, np.float32)


def cells_inside(inside: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.bool_]:
    """The cells of a grid (h, w) that a region of interest (S_h, S_w) touches."""
    rows, columns = grid
    share = cv2.resize(inside.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(share > 0)


def softplus(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """ln(1 + exp(x)): above 0 whatever x is, rising with it, and x itself where that is large; (…) float32."""
    return np.logaddexp(np.float32(0), x)
