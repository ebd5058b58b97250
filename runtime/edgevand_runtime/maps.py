"""Maps on the patch grid become maps on the image (methods.md (a); APRIL-GAN, arXiv 2305.17382)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["interpolation", "sigmoid", "top_mean", "upsample"]

_BLOCK = 1 << 13
"""Values that are worked on at once where several steps follow each other: 32 KB stay in the cache between them."""


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


def upsample(
    maps: NDArray[np.float32], size: tuple[int, int], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Enlarge maps bilinearly with aligned corners, which no OpenCV call does: two small matrix products.

    Args:
        maps: (N, h, w) float32.
        size: rows and columns wanted.
        out: (N, rows, columns) float32 that takes the result; None for a new one.

    Returns:
        (N, rows, columns) float32, equal to torch's ``interpolate(mode="bilinear", align_corners=True)``.
    """
    rows, columns = size
    vertical = interpolation(rows, maps.shape[1])
    horizontal = interpolation(columns, maps.shape[2])
    enlarged: NDArray[np.float32] = np.matmul(vertical, maps @ horizontal.T, out=out)
    return enlarged


def sigmoid(logits: NDArray[np.float32], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Logistic function without overflow; (…) float32 to (…) float32 in [0, 1].

    The two-way softmax of (normal, abnormal) is the sigmoid of their difference. It is 1 / (1 + exp(-x)) for x >= 0
    and exp(x) / (1 + exp(x)) below; neither exponential is above 1.

    Args:
        logits: (…) float32.
        out: of the same shape, contiguous, takes the result; None for a new one.
    """
    out = np.empty(logits.shape, np.float32) if out is None else out
    for part, value in zip(_rows(out), _rows(logits), strict=True):
        exponential = np.exp(-np.abs(value))
        np.divide(np.where(value >= 0, np.float32(1), exponential), 1 + exponential, out=part)
    return out


def top_mean(values: NDArray[np.float32], fraction: float, scratch: NDArray[np.float32] | None = None) -> float:
    """Mean of the highest ``floor(fraction * n)`` of n values, of at least one (AnomalyDINO's image score).

    Args:
        values: float32 of any shape, left as they are.
        fraction: in (0, 1].
        scratch: at least n float32, contiguous, overwritten; None for new memory.
    """
    count = max(1, int(fraction * values.size))
    flat = np.empty(values.size, np.float32) if scratch is None else scratch.reshape(-1)[: values.size]
    np.copyto(flat, values.reshape(-1))
    flat.partition(flat.size - count)
    return float(flat[flat.size - count :].mean())


def _rows(array: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Views of an array that fit into the processor's cache, along its first axes."""
    flat = array.reshape(-1)
    return [flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK)]
