"""Principal components by moments: added to and taken from exactly, so that no row has to be kept (methods.md (h)).

The moments of rows x_1..x_n are their number, their mean and their scatter S = sum (x - mean)(x - mean)^T. Those of two
sets together, and of one without the other, follow from them alone (Chan, Golub & LeVeque 1979)::

    S = S_a + S_b + n_a n_b / (n_a + n_b) d d^T,   d = mean_b - mean_a
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

__all__ = ["Moments", "Subspace", "moments_of"]

Matrix: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Number, mean and scatter of some rows.

    Attributes:
        count: of rows.
        mean: (C,) float64.
        scatter: (C, C) float64, symmetric; divided by ``count - 1`` it is the covariance.
    """

    count: int
    mean: Matrix
    scatter: Matrix

    @classmethod
    def none(cls, width: int) -> Self:
        """Of no rows of C = ``width`` values."""
        return cls(0, np.zeros(width), np.zeros((width, width)))

    @classmethod
    def of(cls, rows: NDArray[np.floating]) -> Self:
        """Of the rows (n, C)."""
        values = np.asarray(rows, np.float64)
        if not len(values):
            return cls.none(values.shape[1])
        mean = values.mean(axis=0)
        centred = values - mean
        return cls(len(values), mean, centred.T @ centred)

    @classmethod
    def unpacked(cls, count: int, mean: Matrix, packed: Matrix) -> Self:
        """From what ``packed`` gave."""
        scatter = np.zeros((len(mean), len(mean)))
        scatter[np.triu_indices(len(mean))] = packed
        return cls(count, mean, scatter + np.triu(scatter, 1).T)

    def packed(self) -> Matrix:
        """(C (C + 1) / 2,) the scatter's upper triangle, row by row."""
        upper: Matrix = self.scatter[np.triu_indices(len(self.mean))]
        return upper

    def plus(self, other: Moments) -> Moments:
        """Of the rows of both."""
        count = self.count + other.count
        if count == 0:
            return self
        way = other.mean - self.mean
        scatter = self.scatter + other.scatter + self.count * other.count / count * np.outer(way, way)
        return Moments(count, self.mean + way * (other.count / count), scatter)

    def minus(self, other: Moments) -> Moments:
        """Of these rows without those of ``other``, which must be among them."""
        count = self.count - other.count
        if count == 0:
            return Moments.none(len(self.mean))
        mean = (self.mean * self.count - other.mean * other.count) / count
        way = other.mean - mean
        scatter = self.scatter - other.scatter - count * other.count / self.count * np.outer(way, way)
        return Moments(count, mean, scatter)


@dataclass(frozen=True, slots=True, eq=False)
class Subspace:
    """The directions in which rows vary.

    Attributes:
        mean: (C,) float32.
        components: (C, q) float32, orthonormal columns, the direction of most variance first.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]

    @classmethod
    def of(cls, moments: Moments, share: float) -> Self:
        """The fewest principal components that keep a share of the variance.

        Args:
            moments: of at least one row.
            share: in (0, 1); what rounding leaves behind is no variance.
        """
        values, vectors = np.linalg.eigh(moments.scatter)
        variances, directions = values[::-1], vectors[:, ::-1]
        variances = np.where(variances > variances[0] * len(variances) * np.finfo(np.float64).eps, variances, 0)
        total = float(variances.sum())
        kept = 0
        if total > 0:
            kept = int(np.searchsorted(np.cumsum(variances) / total, share)) + 1
            kept = min(kept, int(np.count_nonzero(variances)))
        return cls(moments.mean.astype(np.float32), np.ascontiguousarray(directions[:, :kept], np.float32))

    def residual(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """What of each row the subspace does not explain: ||(x - mean) - C C^T (x - mean)||².

        Args:
            rows: (…, C) float32.

        Returns:
            (…) float32, at least 0.
        """
        centred = rows - self.mean
        left = centred - (centred @ self.components) @ self.components.T
        return np.asarray(np.einsum("...c,...c->...", left, left), np.float32)


def moments_of(frames: Sequence[NDArray[np.floating]]) -> Moments:
    """Moments of the rows of all frames, each (…, C), taken one at a time; of at least one frame."""
    total = Moments.none(frames[0].shape[-1])
    for frame in frames:
        total = total.plus(Moments.of(frame.reshape(-1, frame.shape[-1])))
    return total
