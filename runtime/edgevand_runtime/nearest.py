"""The largest cosine of each query with any row: a matrix product and a maximum, in blocks, on every core.

The rows are shared out among threads, each with products of its own: NumPy lets go of the interpreter meanwhile, and
a product that is parallel in itself would wait for its threads by spinning. A thread keeps its buffers, so that a
search takes no memory once the first one is through; rows in half precision are widened there, block by block.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand_runtime.threads import available_cores

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["THREADS", "largest_cosine", "pool", "scratch"]

THREADS = available_cores()
_WORTH_THREADS = 30_000_000
"""Multiplications (a few milliseconds) from which on threads pay."""

_ROWS, _QUERIES = 1024, 2048
"""Rows and queries of one matrix product: large enough for its full speed, at most 8 MB of cosines."""


def largest_cosine(queries: NDArray[Any], rows: NDArray[Any]) -> NDArray[np.float32]:
    """Largest dot product of each query with any row.

    Args:
        queries: (Q, C) float16 or float32 unit vectors.
        rows: (M, C) float16 or float32 unit vectors.

    Returns:
        (Q,) float32; -1 where there is no row.
    """
    queries = queries.astype(np.float32, copy=False)
    if len(queries) * rows.size < _WORTH_THREADS or THREADS == 1:
        return _of_share(queries, rows)
    largest, *others = pool().map(partial(_of_share, queries), np.array_split(rows, THREADS))
    for other in others:
        np.maximum(largest, other, out=largest)
    return largest


def _of_share(queries: NDArray[np.float32], rows: NDArray[Any]) -> NDArray[np.float32]:
    """One thread's share of ``largest_cosine``: all queries, some of the rows."""
    largest = np.full(len(queries), -1.0, np.float32)
    for first in range(0, len(queries), _QUERIES):
        some, best = queries[first : first + _QUERIES], largest[first : first + _QUERIES]
        for start in range(0, len(rows), _ROWS):
            block = rows[start : start + _ROWS]
            if block.dtype != np.float32:
                wide = scratch("wide", block.shape)
                np.copyto(wide, block)
                block = wide
            cosine = scratch("cosine", (len(block), len(some)))
            np.matmul(block, some.T, out=cosine)
            np.maximum(best, cosine.max(axis=0), out=best)
    return largest


_kept = threading.local()


def scratch(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A float32 array of this shape for this thread, which its next call for that name may overwrite."""
    size = int(np.prod(shape))
    buffer: NDArray[np.float32] | None = getattr(_kept, name, None)
    if buffer is None or buffer.size < size:
        buffer = np.empty(size, np.float32)
        setattr(_kept, name, buffer)
    return buffer[:size].reshape(shape)


@lru_cache(maxsize=1)
def pool() -> ThreadPoolExecutor:
    """Threads of the search; started with the first one that is worth it."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="memory-bank")
