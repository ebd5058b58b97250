"""The memory bank: patch tokens of the enrolled frames and the search for the nearest one.

``d(p) = 1 - max over the bank of cos(x(p), f)`` for each stage (methods.md (a)). Tokens are unit vectors, so the
cosine is one matrix product; it is taken in blocks of the bank with a running maximum, which keeps memory
bounded whatever the number of shots is.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["MemoryBank", "NearestPatch"]

_BLOCK = 2048
"""Bank rows of one matrix product: large enough for its full speed, 11 MB of similarities for 1369 queries."""


_THREADS = os.cpu_count() or 1
_WORTH_THREADS = 30_000_000
"""Multiplications (a few milliseconds) from which on threads pay."""


class NearestPatch(NamedTuple):
    """Where the enrolled patch lies that came nearest to a query."""

    frame: int
    """0-based position of the frame in the bank."""
    copy: int
    """0 the frame itself, else the augmented copy."""
    patch: int
    """Row-major position on the stage's grid."""
    distance: float
    """1 - cosine, in [0, 2]."""


class MemoryBank:
    """Patch tokens of F frames with A augmented copies each, for every stage."""

    def __init__(
        self, tokens: Sequence[NDArray[np.float32] | NDArray[np.float16]], smaller: MemoryBank | None = None
    ) -> None:
        """Take the tokens in.

        Args:
            tokens: for each stage (F, 1 + A, P, C) unit vectors; half precision is widened once, here.
            smaller: a bank of the first of these frames that is searched for the same queries (an evaluation with
                several numbers of shots): only the other frames are searched then, and its distances taken over.
        """
        self._tokens = [np.ascontiguousarray(stage, dtype=np.float32) for stage in tokens]
        self._smaller = smaller
        self._is_shared = False
        self._found: tuple[Sequence[NDArray[np.float32]], list[NDArray[np.float32]]] | None = None
        if smaller is not None:
            smaller._is_shared = True  # noqa: SLF001 - of the same class

    @property
    def frames(self) -> int:
        """Number of enrolled frames F."""
        return len(self._tokens[0])

    def distances(self, queries: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Distance of every patch to the nearest enrolled one.

        Args:
            queries: for each stage (N, P, C) float32 unit vectors.

        Returns:
            For each stage (N, P) float32 in [0, 2].
        """
        if self._found is not None and self._found[0] is queries:
            return self._found[1]
        first = 0 if self._smaller is None else self._smaller.frames
        found = []
        for stage, query in zip(self._tokens, queries, strict=True):
            rows = query.reshape(-1, query.shape[-1])
            nearest = _largest_cosine(rows, stage[first:].reshape(-1, stage.shape[-1]))
            found.append((1.0 - nearest).reshape(query.shape[:2]))
        if self._smaller is not None:
            found = [np.minimum(*pair) for pair in zip(found, self._smaller.distances(queries), strict=True)]
        if self._is_shared:
            self._found = queries, found
        return found

    def leave_out(self, groups: Sequence[int]) -> list[NDArray[np.float32]]:
        """Distances of every enrolled frame to the frames of all other groups, without encoding anything again.

        Args:
            groups: the group of each frame; frames of one group (a burst, near-copies) leave together.

        Returns:
            For each stage (F, P) float32; 2 everywhere for a frame that no other group is left for.
        """
        labels = np.asarray(groups)
        found = []
        for stage in self._tokens:
            frames, _, patches, width = stage.shape
            nearest = np.full((frames, patches), -1.0, np.float32)
            for i in range(frames):
                for j in np.flatnonzero(labels != labels[i]):
                    cosine = _largest_cosine(stage[i, 0], stage[j].reshape(-1, width))
                    np.maximum(nearest[i], cosine, out=nearest[i])
            found.append(1.0 - nearest)
        return found

    def nearest(self, stage: int, query: NDArray[np.float32]) -> NearestPatch:
        """Find the enrolled patch nearest to one query.

        Args:
            stage: 0-based position of the stage.
            query: (C,) float32 unit vector.
        """
        tokens = self._tokens[stage]
        cosine = tokens.reshape(-1, tokens.shape[-1]) @ query
        best = int(cosine.argmax())
        frame, copy, patch = (int(part) for part in np.unravel_index(best, tokens.shape[:3]))
        return NearestPatch(frame, copy, patch, float(1.0 - cosine[best]))


def _largest_cosine(queries: NDArray[np.float32], bank: NDArray[np.float32]) -> NDArray[np.float32]:
    """Largest dot product of each of (Q, C) queries with (M, C) bank rows: (Q,) float32.

    The queries are shared out among threads, each with a matrix product of its own: NumPy lets go of the interpreter
    meanwhile, and a product that is parallel in itself would wait for its threads by spinning.
    """
    if len(queries) * bank.size < _WORTH_THREADS or _THREADS == 1:
        return _largest_cosine_of_rows(queries, bank)
    parts = np.array_split(queries, _THREADS)
    found = _pool().map(_largest_cosine_of_rows, parts, [bank] * len(parts))
    return np.concatenate(list(found))


def _largest_cosine_of_rows(queries: NDArray[np.float32], bank: NDArray[np.float32]) -> NDArray[np.float32]:
    """One thread's share of ``_largest_cosine``."""
    largest = np.full(len(queries), -1.0, np.float32)
    buffer = np.empty((len(queries), min(_BLOCK, len(bank))), np.float32)
    for start in range(0, len(bank), _BLOCK):
        block = bank[start : start + _BLOCK]
        cosine = buffer if len(block) == buffer.shape[1] else np.empty((len(queries), len(block)), np.float32)
        np.matmul(queries, block.T, out=cosine)
        np.maximum(largest, cosine.max(axis=1), out=largest)
    return largest


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """Threads of the search; started with the first one that is worth it."""
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="memory-bank")
