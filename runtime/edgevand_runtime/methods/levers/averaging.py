"""Neighbourhood averaging: a patch speaks for its surroundings too (PatchCore, arXiv 2106.08265, section 3.1; MuSc).

::

    x'(p) = sum over the cells q of the window around p of x(q), at length 1

A window of 3 or 5 cells a side, cut at the border: the length is 1 afterwards, so sum and mean are the same. PatchCore
averages what the network gives; a bundle's tokens have length 1 before, so that each neighbour counts alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["averaged"]

_SMALLEST = np.float32(1e-12)


def averaged(tokens: NDArray[Any], grid: tuple[int, int], side: int) -> NDArray[np.float32]:
    """Tokens that are each the mean of their neighbourhood, of length 1.

    Args:
        tokens: (…, P, C) float unit vectors, row-major over the grid.
        grid: rows and columns.
        side: of the window in cells, odd; 1 changes nothing.

    Returns:
        (…, P, C) float32 unit vectors.
    """
    cells = np.asarray(tokens, np.float32).reshape(-1, *grid, tokens.shape[-1])
    reach = side // 2
    for axis in (1, 2):
        whole, cells = cells, cells.copy()
        for step in range(1, min(reach, whole.shape[axis] - 1) + 1):
            near = [slice(None)] * 4
            far = [slice(None)] * 4
            near[axis], far[axis] = slice(None, -step), slice(step, None)
            cells[tuple(near)] += whole[tuple(far)]
            cells[tuple(far)] += whole[tuple(near)]
    if reach:
        cells /= np.maximum(np.linalg.norm(cells, axis=-1, keepdims=True), _SMALLEST)
    return cells.reshape(tokens.shape)
