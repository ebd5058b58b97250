"""Positional tables, resized once at export and baked into the graph."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from edgevand.errors import BadInputError

__all__ = ["resize_table"]


def resize_table(table: Tensor, grid: tuple[int, int], *, prefix: int = 1) -> Tensor:
    """Resize a learned positional table to another grid, as the reference and open_clip do.

    Antialiased bicubic, ``align_corners=False``: the flag matters even when enlarging, because torch's
    antialiased filter has a = -0.5 where the plain one has -0.75.

    Args:
        table: (prefix + g * g, C), row-major over a square grid after the prefix rows.
        grid: rows and columns wanted.
        prefix: rows in front (class token, mean token) that stay as they are.

    Returns:
        (prefix + rows * columns, C) of the table's dtype; the table itself where nothing changes.

    Raises:
        BadInputError: the table's own grid is not square.
    """
    side = math.isqrt(table.shape[0] - prefix)
    if side * side != table.shape[0] - prefix:
        raise BadInputError(
            f"expected a positional table of a square grid, found {table.shape[0] - prefix} rows; "
            "take weights that were trained on square images"
        )
    if (side, side) == tuple(grid):
        return table
    patches = table[prefix:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized = functional.interpolate(patches, size=grid, mode="bicubic", antialias=True, align_corners=False)
    rows = resized.permute(0, 2, 3, 1).reshape(grid[0] * grid[1], -1)
    return torch.cat([table[:prefix], rows.to(table.dtype)])
