"""The one metric that the runtime itself needs, for the demo: the area under the ROC curve.

The area is the probability that a positive scores above a negative, ties counting one half (Mann and Whitney's U
over the number of pairs), so it comes from counting and needs no curve. Only the negatives are sorted, in place:
the pixels of some hundred frames fit into a small device's memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevand.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["auroc"]


def auroc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the ROC curve.

    Args:
        labels: any shape, True or non-zero where positive (anomalous).
        scores: the same number of values, higher means more anomalous.

    Returns:
        A value in [0, 1]; None where only one class is present, for which the area is not defined.

    Raises:
        UsageError: the sizes differ, or a score is NaN.
    """
    positive = np.asarray(labels).astype(bool).ravel()
    values = np.asarray(scores).ravel()
    if positive.size != values.size:
        raise UsageError(
            f"auroc needs one score for each label, but got {positive.size} labels and {values.size} scores; "
            "pass both for the same frames"
        )
    if np.isnan(values).any():
        message = (
            "auroc needs scores that can be ordered, but found NaN among them: leave out the frames that have no score"
        )
        raise UsageError(message)
    negatives = np.sort(values[~positive])
    positives = values[positive]
    if negatives.size == 0 or positives.size == 0:
        return None
    below = np.searchsorted(negatives, positives, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(negatives, positives, side="right").sum(dtype=np.int64)
    return float((int(below) + int(not_above)) / (2 * negatives.size * positives.size))
