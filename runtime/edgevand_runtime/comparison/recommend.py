"""Which of the methods to take, and why, in one sentence.

With the few frames that a person has, an AUROC is uncertain. The methods judged the same frames, so that the difference
of two AUROCs has the paired standard error of DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988): with V(x) the
share of frames of the other side that frame x is on the right side of (ties half),

    var(A_1 - A_2) = var(V_1 - V_2 over anomalous) / m + var(V_1 - V_2 over normal) / n.

Whatever lies within one such error of the best is as good as it, as far as these frames say (the one-standard-error
rule of Breiman et al., Classification and Regression Trees, 1984). Of those the fastest is recommended; times within a
quarter of each other count as the same, and the better AUROC decides. Where two errors do not part the best from
chance, nothing is recommended.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.comparison.measure import Measured

__all__ = ["Recommendation", "difference_error", "recommend", "standard_error"]

_ERRORS = 2.0
_CHANCE = 0.5
_SAME_TIME = 1.25


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to take.

    Attributes:
        label: the method's; None where none can be recommended.
        sentence: why.
    """

    label: str | None
    sentence: str


def recommend(measured: Sequence[Measured], *, drawn: bool, budget_ms: float | None = None) -> Recommendation:
    """Choose among methods.

    Args:
        measured: what was measured, at least one, in any order.
        drawn: whether the defects were drawn.
        budget_ms: most milliseconds that a frame may take; slower methods are not recommended.
    """
    affordable = [one for one in measured if budget_ms is None or one.milliseconds <= budget_ms]
    if not affordable:
        first = min(measured, key=lambda one: one.milliseconds)
        told = (
            f"within {budget_ms:g} ms none can be recommended: {first.label}, the fastest, takes {_ms(first)} a frame"
        )
        return Recommendation(None, told)
    best = max(affordable, key=lambda one: one.auroc)
    error = _ERRORS * standard_error(best.scores)
    where = "drawn defects" if drawn else "these frames"
    if best.auroc - error <= _CHANCE:
        told = (
            f"none can be recommended: on {where} the best AUROC, {best.auroc:.2f} of {best.label}, may be chance "
            f"(±{error:.2f}); give more anomalous frames, or look at other methods"
        )
        return Recommendation(None, told)
    alike = [one for one in affordable if best.auroc - one.auroc <= difference_error(best.scores, one.scores)]
    fastest = min(alike, key=lambda one: one.milliseconds)
    same = [one for one in alike if one.milliseconds <= _SAME_TIME * fastest.milliseconds]
    chosen = max(same, key=lambda one: one.auroc)
    if len(alike) == 1:
        second = max((one for one in affordable if one is not best), key=lambda one: one.auroc, default=None)
        than = "" if second is None else f"; the next is {second.label} with {second.auroc:.2f}"
        told = f"on {where} its AUROC, {best.auroc:.2f} ±{error:.2f}, is best{than}"
    elif chosen is best:
        others = " and ".join(one.label for one in alike if one is not best)
        verb = "is" if len(alike) == 2 else "are"  # noqa: PLR2004 - the best and another
        told = (
            f"on {where} its AUROC, {best.auroc:.2f} ±{error:.2f}, is best, and {others}, which cannot be told from "
            f"it, {verb} not clearly faster than {_ms(chosen)} a frame"
        )
    else:
        told = (
            f"on {where} its AUROC, {chosen.auroc:.2f}, cannot be told from the best ({best.label}, {best.auroc:.2f} "
            f"±{error:.2f}), and at {_ms(chosen)} a frame it is faster ({best.label} {_ms(best)})"
        )
    return Recommendation(chosen.label, f"{chosen.label}: {told}")


Scores = tuple[list[float], list[float]]
"""Raw scores of normal and of anomalous frames, in the same order for every method."""


def standard_error(scores: Scores) -> float:
    """DeLong's standard error of an AUROC; at least half a frame of the smaller side, for an area of 1 has none."""
    return max(_error(*_placements(scores)), _least(scores))


def difference_error(one: Scores, other: Scores) -> float:
    """DeLong's paired standard error of the difference of two AUROCs on the same frames; at least half that floor."""
    pairs = zip(_placements(one), _placements(other), strict=True)
    return max(_error(*(first - second for first, second in pairs)), _least(one) / 2)


def _placements(scores: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each normal and each anomalous frame: the share of the other side that it is on the right side of."""
    normal, anomalous = (np.asarray(side, np.float64) for side in scores)
    right = (anomalous[:, None] > normal) + 0.5 * (anomalous[:, None] == normal)
    return right.mean(axis=0), right.mean(axis=1)


def _error(normal: NDArray[np.float64], anomalous: NDArray[np.float64]) -> float:
    return math.sqrt(sum(float(side.var(ddof=1)) / len(side) if len(side) > 1 else 0.0 for side in (normal, anomalous)))


def _least(scores: Scores) -> float:
    return 0.5 / min(len(side) for side in scores)


def _ms(one: Measured) -> str:
    return f"{one.milliseconds:.3g} ms"
