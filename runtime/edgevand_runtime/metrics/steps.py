"""The curve that a falling threshold draws, as steps; every exact metric is a sum over them.

A step stands for one distinct score that a positive has. When the threshold falls to it, the curve runs straight from
(``before``, ``gained`` of the step above) to (``after``, ``gained``): the negatives of exactly this score and the
positives of exactly this score come in together, which is what makes ties count half. Between two steps only negatives
come in, so the curve is level and needs no point of its own: the area is the one under the trapezoids over *every*
distinct score, (0, 0) prepended, although only the positives' scores are stored.

The same steps describe scores that were counted in bins. Then a step is a bin, nothing is known of the order inside
it, and the ``…_bound`` functions say how far the true figure can be from the one computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgevand.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Floats",
    "Steps",
    "area",
    "area_bound",
    "curve",
    "distinct",
    "f1_max_bound",
    "highest_f1",
    "mean_precision",
    "mean_precision_bound",
]

Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.floating]]"

FEWEST_POINTS = 6
"""Of a curve: two ends, a step, and room for an interpolated end."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps of the curve, the highest score first; there is at least one, and at least one negative.

    ``before``: (M,) int64, negatives that score above; ``after``: those at or above; ``gained``: (M,) int64 or
    float64, positives (or their weights) at or above; ``negatives``: how many there are in all.
    """

    before: NDArray[np.int64]
    after: NDArray[np.int64]
    gained: NDArray[np.int64] | NDArray[np.float64]
    negatives: int

    @property
    def gains(self) -> NDArray[np.float64]:
        """What each step adds, (M,)."""
        return np.diff(self.gained, prepend=0).astype(np.float64, copy=False)

    @property
    def total(self) -> float:
        """Positives (or their weights) in all."""
        return float(self.gained[-1])


def distinct(ordered: Floats | NDArray[np.int64]) -> NDArray[np.intp]:
    """Where each run of equal values ends in an ordered array, (M,): index of its last value."""
    if not ordered.size:
        return np.empty(0, np.intp)
    return np.flatnonzero(np.append(ordered[1:] != ordered[:-1], np.True_))


def area(steps: Steps, limit: float = 1.0) -> float:
    """Area under the curve for false-positive rates from 0 to ``limit``, divided by ``limit``: in [0, 1].

    At the limit the curve is interpolated along its straight piece.
    """
    end = limit * steps.negatives
    width = np.maximum(steps.after - steps.before, 1)
    inside = np.clip(end, steps.before, steps.after) - steps.before
    covered = inside**2 / (2 * width) + np.maximum(end - steps.after, 0)
    return float(np.dot(steps.gains, covered) / (end * steps.total))


def area_bound(steps: Steps, limit: float = 1.0) -> float:
    """How far ``area`` can be off when nothing is known of the order inside a step.

    A curve through the step's rectangle differs most from its diagonal when it rises at once.
    """
    end = limit * steps.negatives
    width = np.maximum(steps.after - steps.before, 1)
    inside = np.clip(end, steps.before, steps.after) - steps.before
    return float(np.dot(steps.gains, inside - inside**2 / (2 * width)) / (end * steps.total))


def mean_precision(steps: Steps) -> float:
    """Average precision: the sum over thresholds of precision times the recall that the threshold adds."""
    precision = steps.gained / (steps.gained + steps.after)
    return float(np.dot(steps.gains, precision) / steps.total)


def mean_precision_bound(steps: Steps) -> float:
    """How far ``mean_precision`` can be off when nothing is known of the order inside a step.

    At best a step's p positives come before its negatives and all at once: precision T / (T + before), T = gained. At
    worst they come one by one after all its negatives, f = after:

        sum over j = 1..p of (T - p + j) / (T - p + j + f)  >=  p - f ln(1 + p / (T - p + f + 1/2))

    since 1/x is convex, so that 1/j is at most its integral from j - 1/2 to j + 1/2.
    """
    gains, gained = steps.gains, steps.gained
    found = gains * (gained / (gained + steps.after))
    best = gains * (gained / (gained + steps.before))
    worst = gains - steps.after * np.log1p(gains / (gained - gains + steps.after + 0.5))
    return float(max((best - found).sum(), (found - worst).sum()) / steps.total)


def highest_f1(steps: Steps) -> float:
    """F1-max: the highest 2PR / (P + R) = 2 TP / (positives + TP + FP) over all thresholds."""
    return float(np.max(2 * steps.gained / (steps.total + steps.gained + steps.after)))


def f1_max_bound(steps: Steps) -> float:
    """How far above ``highest_f1`` the true one can be: at best a step's positives come before its negatives."""
    return float(np.max(2 * steps.gained / (steps.total + steps.gained + steps.before)) - highest_f1(steps))


def curve(steps: Steps, points: int, limit: float = 1.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The curve for drawing: false-positive rates and heights in [0, 1], from 0 to ``limit``, at most ``points``.

    Points lie on the curve, evenly along its length (rate plus height); both ends are kept, the last interpolated.

    Raises:
        UsageError: fewer than 6 points.
    """
    if points < FEWEST_POINTS:
        raise UsageError(f"a curve needs at least {FEWEST_POINTS} points, but {points} was asked for; 200 draw well")
    end = limit * steps.negatives
    reached = int(steps.after.searchsorted(end, side="right"))
    length = steps.after[:reached] / end + steps.gained[:reached] / steps.total
    room = (points - 4) // 2
    kept = np.arange(reached)
    if reached > room:
        kept = np.unique(length.searchsorted(np.linspace(length[0], length[-1], room)).clip(max=reached - 1))
    lower = np.concatenate(([0], steps.gained))[kept]
    x = np.stack([steps.before[kept], steps.after[kept]], axis=1).ravel().astype(np.float64)
    y = np.stack([lower, steps.gained[kept]], axis=1).ravel().astype(np.float64)
    height = float(steps.gained[reached - 1]) if reached else 0.0
    last_x, last_y = [end], [height]
    if reached < steps.gained.size and steps.before[reached] < end:
        start, width = int(steps.before[reached]), int(steps.after[reached] - steps.before[reached])
        last_x, last_y = [start, end], [height, height + float(steps.gains[reached]) * (end - start) / width]
    x, y = np.concatenate(([0.0], x, last_x)), np.concatenate(([0.0], y, last_y))
    new = np.append(np.True_, (x[1:] != x[:-1]) | (y[1:] != y[:-1]))
    return x[new] / steps.negatives, y[new] / steps.total
