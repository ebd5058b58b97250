"""Maps on the patch grid become maps on the image (methods.md (a); APRIL-GAN, arXiv 2305.17382)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["interpolation", "sigmoid", "top_mean", "upsample"]


@lru_cache(maxsize=32)
def interpolation(target: int, source: int) -> NDArray[np.float32]:
    """(target, source) weights of linear interpolation with both corners aligned."""
    weights = np.zeros((target, source), np.float64)
    position = np.linspace(0.0, source - 1.0, target) if target > 1 else np.zeros(1)
    left = np.minimum(position.astype(np.intp), max(source - 2, 0))
    fraction = position - left
    rows = np.arange(target)
    weights[rows, left] = 1.0 - fraction
    weights[rows, np.minimum(left + 1, source - 1)] += fraction
    return weights.astype(np.float32)


def upsample(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Enlarge maps bilinearly with aligned corners, which no OpenCV call does: two small matrix products.

    Args:
        maps: (N, h, w) float32.
        size: rows and columns wanted.

    Returns:
        (N, rows, columns) float32, equal to torch's ``interpolate(mode="bilinear", align_corners=True)``.
    """
    rows, columns = size
    vertical = interpolation(rows, maps.shape[1])
    horizontal = interpolation(columns, maps.shape[2])
    enlarged: NDArray[np.float32] = np.matmul(vertical, maps @ horizontal.T)
    return enlarged


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logistic function without overflow; (…) float32 to (…) float32 in [0, 1].

    The two-way softmax of (normal, abnormal) is the sigmoid of their difference.
    """
    exponential = np.exp(-np.abs(logits))
    probability: NDArray[np.float32] = np.where(logits >= 0, np.float32(1), exponential) / (1 + exponential)
    return probability


def top_mean(values: NDArray[np.float32], fraction: float) -> float:
    """Mean of the highest ``floor(fraction * n)`` of n values, of at least one (AnomalyDINO's image score)."""
    count = max(1, int(fraction * values.size))
    flat = values.ravel()
    return float(np.partition(flat, flat.size - count)[flat.size - count :].mean())
