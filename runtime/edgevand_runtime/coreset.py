"""A coreset: rows of a bank chosen so that every row has one of them near, in place of a bank that is too large.

Rows are chosen greedily, each as far as possible from those chosen before (Gonzalez 1985, "Clustering to minimize the
maximum intercluster distance": at most twice the smallest covering radius that so many rows can have), as PatchCore
does (Roth et al., arXiv 2106.08265, section 3.2), and like there on a random projection to 128 dimensions
(Johnson-Lindenstrauss: distances keep to about 1/sqrt(2 * 128) = 6 %). What was chosen is then held against the rows
themselves, so the covering radius is that of the bank and not of its projection.

**The bound.** All vectors have length 1, so the angle between two of them is a metric on the sphere. Let every row of
the bank lie within the angle rho of a chosen one, and let a query's nearest row be at the angle t. The chosen row near
that one is at most t + rho from the query, and no chosen row is nearer than t, hence for distances d = 1 - cos:

    d(all rows) <= d(chosen rows) <= 1 - cos(min(pi, t + rho)),    t = arccos(1 - d(all rows))

(``farthest``). A map is made of these distances by interpolation, whose weights are positive and sum to 1, and by sums
over stages; its maximum, or the mean of its top, moves by no more than the sum over stages of the largest change of a
patch. The bound holds for every frame whatever, and is far from what happens: the change that was measured on enrolled
frames stands beside it in ``bank.json``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand_runtime.nearest import THREADS, largest_cosine, pool, scratch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Tokens = Sequence[NDArray[Any]] | NDArray[Any]
    """Of one stage: (1 + A, P, C) unit vectors for each of F frames, float16 or float32."""

__all__ = ["Cover", "covering_radius", "farthest", "make_cover", "project", "rows_at"]

_DIMENSIONS = 128
_SEED = 0
_CANDIDATES = 1024
"""Farthest points that one round chooses among: small enough for the cache of one core."""

_PRODUCT = 1 << 22
"""Distances that one thread computes at once: 16 MB."""

_WORST = 512
"""Rows whose nearest chosen one is looked up at once, the worst first."""


@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """Points of which some were chosen, and which of these is nearest to each.

    Attributes:
        points: (N, D) float32, every row of one stage, projected.
        chosen: (M,) int64 positions of the chosen ones, rising.
        owner: (N,) int64: position in ``chosen`` of the one nearest to each.
        squared: (N,) float32: squared distance to it.
    """

    points: NDArray[np.float32]
    chosen: NDArray[np.int64]
    owner: NDArray[np.int64]
    squared: NDArray[np.float32]

    def without(self, left_out: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """What a cover of the other points alone, of the same radius, would be.

        Taking the left-out points from the chosen ones is not enough: a chosen point stands for others that were not
        chosen because of it, and these would be missing. So the choice goes on among the orphans, farthest first,
        until none is farther from a chosen point than the radius of this cover. Like the cover itself, the result is
        a set of points that are as far apart as the radius, with every other within it.

        Args:
            left_out: (N,) the points that must not be among the chosen ones.

        Returns:
            Which of ``chosen`` stay, (M,), and the positions of the points chosen in addition.
        """
        kept = ~left_out[self.chosen]
        if kept.all():
            return kept, np.empty(0, np.int64)
        orphans = np.flatnonzero(~left_out & ~kept[self.owner])
        grown = _Choice(self.points[orphans])
        grown.add(self.points[self.chosen[kept]])
        grown.choose(len(orphans), float(self.squared.max()))
        return kept, orphans[np.asarray(grown.chosen, np.int64)]


def project(frames: Tokens) -> NDArray[np.float32]:
    """Every row of one stage, in as few dimensions as tell the rows apart.

    Args:
        frames: (1 + A, P, C) of each of F frames.

    Returns:
        (F (1 + A) P, min(C, 128)) float32; a Gaussian projection that is the same whenever C is.
    """
    copies, patches, width = frames[0].shape
    per = copies * patches
    points = np.empty((len(frames) * per, min(width, _DIMENSIONS)), np.float32)
    matrix = np.random.default_rng(_SEED).standard_normal((width, _DIMENSIONS), np.float32) / np.sqrt(_DIMENSIONS)
    for number, frame in enumerate(frames):
        rows = frame.reshape(per, width).astype(np.float32, copy=False)
        points[number * per : (number + 1) * per] = rows @ matrix if width > _DIMENSIONS else rows
    return points


def make_cover(points: NDArray[np.float32], chosen: int | NDArray[np.int64]) -> Cover:
    """Choose points greedily, or take those that were chosen before, and assign every point to the nearest.

    Args:
        points: (N, D) float32.
        chosen: how many to choose, at least 1, or the positions of the chosen ones, at least one, rising.
    """
    choice = _Choice(points)
    if isinstance(chosen, int):
        choice.choose(chosen)
    else:
        choice.add(points[chosen])
        choice.chosen = chosen.tolist()
    order = np.argsort(choice.chosen)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return Cover(points, np.asarray(choice.chosen, np.int64)[order], rank[choice.owner], choice.squared)


class _Choice:
    """Chooses among points, the farthest first, in rounds.

    A round takes the farthest points as candidates and chooses among them for as long as the best is at least as far
    away as any point outside was when the round began. Distances only fall, so each choice is the one that a greedy
    choice among all points makes; but all points are looked at once a round, in one matrix product, not once a choice.
    """

    def __init__(self, points: NDArray[np.float32]) -> None:
        self.points = points
        self.squares = np.einsum("nd,nd->n", points, points)
        self.squared = np.full(len(points), np.inf, np.float32)
        self.owner = np.zeros(len(points), np.int64)
        self.chosen: list[int] = []
        self._centres = 0

    def choose(self, count: int, enough: float = 0.0) -> None:
        """Choose until there are ``count``, or no point is farther than the root of ``enough`` from a chosen one."""
        if self._centres == 0 and count > 0 and len(self.points):
            self._take(np.zeros(1, np.int64))
        while len(self.chosen) < count:
            size = min(_CANDIDATES, len(self.points))
            candidates = np.argpartition(self.squared, len(self.points) - size)[-size:]
            limit = -1.0 if size == len(self.points) else float(self.squared[candidates].min())
            picked = self._among(candidates, limit, count - len(self.chosen), enough)
            if not len(picked):
                return
            self._take(candidates[picked])

    def _among(self, candidates: NDArray[np.int64], limit: float, most: int, enough: float) -> NDArray[np.int64]:
        """One round: positions in ``candidates``, in the order of choice."""
        points, squares = self.points[candidates], self.squares[candidates]
        left = self.squared[candidates]
        picked: list[int] = []
        while len(picked) < most:
            best = int(left.argmax())
            if left[best] <= enough or (picked and left[best] < limit):
                break
            picked.append(best)
            np.minimum(left, squares - 2 * (points @ points[best]) + squares[best], out=left)
            left[best] = 0.0
        return np.asarray(picked, np.int64)

    def _take(self, positions: NDArray[np.int64]) -> None:
        """Add points of ours to the chosen ones."""
        self.add(self.points[positions])
        self.squared[positions] = 0.0
        self.owner[positions] = np.arange(len(self.chosen), len(self.chosen) + len(positions))
        self.chosen += positions.tolist()

    def add(self, centres: NDArray[np.float32]) -> None:
        """Assign every point to the nearest of these, numbered on from those before, where that is nearer."""
        if not len(centres) or not len(self.points):
            return
        size = max(1, _PRODUCT // len(centres))
        blocks = [slice(start, start + size) for start in range(0, len(self.points), size)]
        half = np.einsum("nd,nd->n", centres, centres) / 2
        assign = partial(self._assign, centres, half)
        for _ in pool().map(assign, blocks) if THREADS > 1 else map(assign, blocks):
            pass
        self._centres += len(centres)

    def _assign(self, centres: NDArray[np.float32], half: NDArray[np.float32], block: slice) -> None:
        points = self.points[block]
        likeness = scratch("likeness", (len(points), len(centres)))
        np.matmul(points, centres.T, out=likeness)
        likeness -= half
        best = likeness.argmax(axis=1)
        squared = self.squares[block] - 2 * likeness[np.arange(len(points)), best]
        nearer = squared < self.squared[block]
        self.squared[block][nearer] = np.maximum(squared[nearer], 0)
        self.owner[block][nearer] = best[nearer] + self._centres


def rows_at(frames: Tokens, places: NDArray[np.int64], dtype: type = np.float32) -> NDArray[Any]:
    """Rows of one stage by their places among all of them, (K, C); each frame is read once."""
    copies, patches, width = frames[0].shape
    rows: NDArray[Any] = np.empty((len(places), width), dtype)
    numbers, inside = np.divmod(places, copies * patches)
    for number in np.unique(numbers):
        of_frame = numbers == number
        rows[of_frame] = frames[number].reshape(-1, width)[inside[of_frame]]
    return rows


def covering_radius(frames: Tokens, rows: NDArray[Any], cover: Cover) -> float:
    """Largest 1 - cosine of any row of a stage to the chosen one nearest to it, in [0, 2].

    The chosen one that is nearest in the projection gives an upper limit for each row. The nearest one of all is
    looked up for the rows with the largest limits only, until no other could be farther.

    Args:
        frames: (1 + A, P, C) of each of F frames; a row that the network left at zero counts for nothing.
        rows: (M, C) the chosen rows.
        cover: of these frames.
    """
    limits = np.concatenate(list(_distances_to_owner(frames, rows, cover)))
    order = np.argsort(limits)[::-1]
    largest = 0.0
    for start in range(0, len(order), _WORST):
        some = order[start : start + _WORST]
        if limits[some[0]] <= largest:
            break
        nearest = largest_cosine(rows_at(frames, some), rows)
        largest = max(largest, float(np.minimum(1 - nearest, limits[some]).max()))
    return largest


def _distances_to_owner(frames: Tokens, rows: NDArray[Any], cover: Cover) -> Iterator[NDArray[np.float32]]:
    """1 - cosine of each row to its owner, frame by frame; 0 for rows of zeros."""
    start = 0
    for frame in frames:
        own = frame.reshape(-1, frame.shape[-1]).astype(np.float32, copy=False)
        owners = rows[cover.owner[start : start + len(own)]].astype(np.float32, copy=False)
        start += len(own)
        yield np.where(own.any(axis=1), 1 - np.einsum("rc,rc->r", own, owners), 0).astype(np.float32)


def farthest(distance: float, radius: float) -> float:
    """How far a query can be from the chosen rows that is at ``distance`` from all rows; see the top of this module.

    Args:
        distance: 1 - cosine to the nearest of all rows, in [0, 2].
        radius: covering radius of the chosen ones, 1 - cosine, in [0, 2].
    """
    angle = np.arccos(np.clip(1 - distance, -1, 1)) + np.arccos(np.clip(1 - radius, -1, 1))
    return float(1 - np.cos(min(angle, np.pi)))
