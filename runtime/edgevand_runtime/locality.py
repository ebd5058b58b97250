"""Position-aware search: a patch is compared only with enrolled patches near its own place (methods.md (h)).

::

    d(p) = 1 - max of cos(x(p), f) over the enrolled patches f whose place is within R cells of p (Chebyshev)

Before a fixed camera what is normal here need not be normal there: a cap belongs on the bottle and not beside it. A
frame's augmented copies are pictures like itself, so their patches have the places that they have in the copy.

The rows are held by place. Each place's rows meet the (2R + 1)^2 queries around it in one small matrix product, so a
search takes ``P (2R + 1)^2 / P^2`` of the multiplications of the whole one, and reads every row once.

**Memory.** All rows are held, in half precision where that is needed. A coreset keeps rows that stand for others
wherever these lie, so that a place may be left with none; a limit that has no room for every row is refused.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand.errors import UsageError
from edgevand_runtime.memory import MEGABYTE, NearestPatch
from edgevand_runtime.nearest import THREADS, pool, scratch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.coreset import Tokens
    from edgevand_runtime.memory import Held

__all__ = ["LocalBank", "radii"]

_WORTH_THREADS = 10_000_000
"""Multiplications from which on threads pay."""

_FRAMES = 8
"""Query frames that are searched at once; their windows are copied together."""


def radii(grids: Sequence[tuple[int, int]], radius: int) -> tuple[int, ...]:
    """The radius on each stage's grid: R counts cells of the finest grid, and a coarser one covers at least as much.

    A part that lies R cells off on the finest grid is off by the same share of the picture on every other, which is
    ``R / stride`` cells there, rounded up.

    Args:
        grids: rows and columns of each stage.
        radius: R, 0 for a patch's own place.
    """
    rows, columns = max(grid[0] for grid in grids), max(grid[1] for grid in grids)
    return tuple(max(-(-radius * grid[0] // rows), -(-radius * grid[1] // columns)) for grid in grids)


class LocalBank:
    """Patch tokens of F frames with A augmented copies each, searched near a patch's own place; as ``MemoryBank``."""

    coreset: list[Held] | None = None
    """Every row is searched."""

    def __init__(
        self,
        tokens: Sequence[Tokens],
        grids: Sequence[tuple[int, int]],
        radius: int,
        *,
        limit: float | None = None,
    ) -> None:
        """Take the tokens in.

        Args:
            tokens: for each stage (F, 1 + A, P, C) unit vectors, or a sequence of F arrays (1 + A, P, C), which may
                lie on the disk.
            grids: rows and columns of each stage.
            radius: R, in cells of the finest grid (``radii``).
            limit: most that the rows of all stages may take together, in MB (2^20 bytes): single precision where that
                fits, else half precision. None: single precision.

        Raises:
            UsageError: the limit has no room for every row.
        """
        self._tokens, self._grids = tokens, tuple(grids)
        self._radii = radii(grids, radius)
        self._dtype = self._within(limit)

    @cached_property
    def _places(self) -> list[NDArray[Any]]:
        """Rows of each stage by place; brought together for the first search, which leaving out does without."""
        return [_by_place(stage, grid, self._dtype) for stage, grid in zip(self._tokens, self._grids, strict=True)]

    @property
    def frames(self) -> int:
        """Number of enrolled frames F."""
        return len(self._tokens[0])

    @property
    def rows(self) -> list[int]:
        """Rows of each stage."""
        return [len(stage) * stage[0].shape[0] * stage[0].shape[1] for stage in self._tokens]

    def radius(self) -> list[float]:
        """Covering radius of each stage: every row is searched."""
        return [0.0] * len(self._tokens)

    def distances(self, queries: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Distance of every patch to the nearest enrolled one near its place.

        Args:
            queries: for each stage (N, P, C) float32 unit vectors.

        Returns:
            For each stage (N, P) float32 in [0, 2].
        """
        stages = zip(self._places, queries, self._radii, strict=True)
        return [1.0 - _largest_cosine(places, np.asarray(query), radius) for places, query, radius in stages]

    def leave_out(
        self, groups: Sequence[int], frames: Sequence[int] | None = None, *, every_row: bool = False
    ) -> list[NDArray[np.float32]]:
        """Distances of enrolled frames to the frames of all other groups, without encoding anything again.

        Args:
            groups: the group of each frame; frames of one group (a burst, near-copies) leave together.
            frames: positions of the frames that are wanted; None for all.
            every_row: as ever.

        Returns:
            For each stage (len(frames), P) float32; 2 everywhere for a frame that no other group is left for.
        """
        del every_row
        labels = np.asarray(groups)
        wanted = np.arange(len(labels)) if frames is None else np.asarray(frames)
        found = []
        for tokens, grid, radius in zip(self._tokens, self._grids, self._radii, strict=True):
            queries = np.stack([tokens[int(i)][0] for i in wanted]).astype(np.float32, copy=False)
            nearest = np.full(queries.shape[:2], -1.0, np.float32)
            for label, frame in zip(labels, tokens, strict=True):
                asked = np.flatnonzero(labels[wanted] != label)
                cosine = _largest_cosine(_by_place([frame], grid, np.float32), queries[asked], radius)
                nearest[asked] = np.maximum(nearest[asked], cosine)
            found.append(1.0 - nearest)
        return found

    def nearest(self, stage: int, query: NDArray[np.float32], patch: int) -> NearestPatch:
        """Find the enrolled patch nearest to one query.

        Args:
            stage: 0-based position of the stage.
            query: (C,) float32 unit vector.
            patch: row-major position of the query on the stage's grid.
        """
        places, radius = self._places[stage], self._radii[stage]
        row, column = divmod(patch, self._grids[stage][1])
        top, left = max(0, row - radius), max(0, column - radius)
        window = places[top : row + radius + 1, left : column + radius + 1]
        cosine = window.astype(np.float32, copy=False) @ query
        down, right, at = (int(each) for each in np.unravel_index(int(cosine.argmax()), cosine.shape))
        frame, copy = divmod(at, self._tokens[stage][0].shape[0])
        found = (top + down) * self._grids[stage][1] + left + right
        return NearestPatch(frame, copy, found, float(1.0 - cosine[down, right, at]))

    def _within(self, limit: float | None) -> type:
        """The precision that a limit leaves room for."""
        values = sum(rows * stage[0].shape[-1] for rows, stage in zip(self.rows, self._tokens, strict=True))
        if limit is None or values * 4 <= limit * MEGABYTE:
            return np.float32
        if values * 2 <= limit * MEGABYTE:
            return np.float16
        message = (
            "expected the bank's memory to hold every patch, as a position-aware search needs some at each place: "
            f"{values * 2 / MEGABYTE:.0f} MB, found {limit:g} MB; enrol with --bank-memory "
            f"{-(-values * 2 // MEGABYTE)}, or with --locality off."
        )
        raise UsageError(message)


def _by_place(frames: Tokens, grid: tuple[int, int], dtype: type) -> NDArray[Any]:
    """Rows of a stage by place: (h, w, F (1 + A), C)."""
    copies, _, width = frames[0].shape
    places = np.empty((*grid, len(frames) * copies, width), dtype)
    for number, frame in enumerate(frames):
        pictures = frame.reshape(copies, *grid, width)
        places[:, :, number * copies : (number + 1) * copies] = pictures.transpose(1, 2, 0, 3)
    return places


def _largest_cosine(places: NDArray[Any], queries: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """Largest dot product of each query with any row within ``radius`` cells of its place.

    Args:
        places: (h, w, M, C) float16 or float32 rows by place.
        queries: (N, P, C) float32.
        radius: in cells.

    Returns:
        (N, P) float32.
    """
    height, width, count, channels = places.shape
    side = 2 * radius + 1
    found = np.empty(queries.shape[:2], np.float32)
    worth = height * width * side * side * count * channels * min(len(queries), _FRAMES) >= _WORTH_THREADS
    shares = np.array_split(np.arange(height), THREADS if worth else 1)
    for first in range(0, len(queries), _FRAMES):
        some = queries[first : first + _FRAMES].reshape(-1, height, width, channels)
        padded = np.zeros((height + 2 * radius, width + 2 * radius, len(some), channels), np.float32)
        padded[radius : radius + height, radius : radius + width] = some.transpose(1, 2, 0, 3)
        around = np.empty((side, side, height, width, len(some)), np.float32)
        search = partial(_search, places, padded, around)
        for _ in map(search, shares) if len(shares) == 1 else pool().map(search, shares):
            pass
        best = np.full((*padded.shape[:2], len(some)), -1.0, np.float32)
        for down in range(side):
            for right in range(side):
                part = best[down : down + height, right : right + width]
                np.maximum(part, around[down, right], out=part)
        inner = best[radius : radius + height, radius : radius + width]
        found[first : first + _FRAMES] = inner.reshape(height * width, -1).T
    return found


def _search(
    places: NDArray[Any], padded: NDArray[np.float32], around: NDArray[np.float32], rows: NDArray[np.int_]
) -> None:
    """Some rows of the grid: what each place's enrolled rows say of the queries around it.

    Args:
        places: (h, w, M, C) rows by place.
        padded: (h + 2R, w + 2R, N, C) queries with a border that belongs to no place.
        around: (2R + 1, 2R + 1, h, w, N), written for these rows of h: the largest cosine of any row of the place with
            the query so many cells down and right of the window's corner.
        rows: of the grid.
    """
    side, (_, width, count, channels) = len(around), places.shape
    frames = padded.shape[2]
    windows = scratch("windows", (width, side, side, frames, channels))
    cosine = scratch("local", (width, side * side * frames, count))
    for row in rows:
        band: NDArray[Any] = places[row]
        if band.dtype != np.float32:
            wide = scratch("places", band.shape)
            np.copyto(wide, band)
            band = wide
        for right in range(side):
            windows[:, :, right] = padded[row : row + side, right : right + width].swapaxes(0, 1)
        np.matmul(windows.reshape(width, -1, channels), band.swapaxes(1, 2), out=cosine)
        around[:, :, row] = cosine.max(axis=2).reshape(width, side, side, frames).transpose(1, 2, 0, 3)
