"""Metrics of labels and scores: one score for each image, or for each pixel where memory is no matter.

Definitions: docs/metrics.md. Everything is exact; see steps.py for why the positives' scores suffice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevand.errors import UsageError
from edgevand_runtime.metrics.counting import BLOCK, count, score_type
from edgevand_runtime.metrics.figures import Figures
from edgevand_runtime.metrics.steps import Steps, area, curve, distinct, highest_f1, mean_precision

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["IMAGE_NAMES", "auroc", "average_precision", "f1_max", "f1_trivial", "image_metrics", "roc_curve"]

IMAGE_NAMES = ("image_auroc", "image_ap", "image_f1_max", "image_f1_trivial")


def auroc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the ROC curve: the probability that a positive scores above a negative, ties counting one half.

    Args:
        labels: any shape, True or non-zero where positive (anomalous).
        scores: the same number of values, higher means more anomalous.

    Returns:
        A value in [0, 1]; None where only one class is present, for which the area is not defined.

    Raises:
        UsageError: the sizes differ, or a score is NaN or no number.
    """
    steps = _steps("auroc", labels, scores)
    return None if steps is None else area(steps)


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Average precision: the sum over falling thresholds of precision times the recall that is added.

    No interpolation. Arguments, result and errors are those of ``auroc``.
    """
    steps = _steps("average_precision", labels, scores)
    return None if steps is None else mean_precision(steps)


def f1_max(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """F1-max: the highest F1 over all thresholds. Arguments, result and errors are those of ``auroc``."""
    steps = _steps("f1_max", labels, scores)
    return None if steps is None else highest_f1(steps)


def f1_trivial(labels: ArrayLike) -> float | None:
    """F1 of calling everything anomalous, 2 pi / (1 + pi) with pi the share of positives.

    F1-max is never below it. None where only one class is present, as for the others.
    """
    positive = np.asarray(labels).astype(bool).ravel()
    share = float(positive.mean()) if positive.size else 0.0
    return 2 * share / (1 + share) if 0 < share < 1 else None


def roc_curve(
    labels: ArrayLike, scores: ArrayLike, points: int = 200
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The ROC curve for drawing, at most ``points`` of it, ends kept: rates of false and of true positives.

    Arguments and errors are those of ``auroc``; None where only one class is present.
    """
    steps = _steps("roc_curve", labels, scores)
    return None if steps is None else curve(steps, points)


def image_metrics(labels: ArrayLike, scores: ArrayLike) -> Figures:
    """All metrics of one score for each image: ``image_auroc``, ``image_ap``, ``image_f1_max``, ``image_f1_trivial``.

    Args:
        labels: (N,), True or non-zero where the image is anomalous.
        scores: (N,), higher means more anomalous.

    Raises:
        UsageError: the sizes differ, or a score is NaN or no number.
    """
    steps = _steps("image_metrics", labels, scores)
    if steps is None:
        return Figures.undefined(IMAGE_NAMES, _reason(labels))
    found = (area(steps), mean_precision(steps), highest_f1(steps), f1_trivial(labels))
    return Figures(dict(zip(IMAGE_NAMES, found, strict=True)), {})


def _reason(labels: ArrayLike) -> str:
    positive = np.asarray(labels).astype(bool).ravel()
    if not positive.size:
        return "There is no image."
    kind, other = ("anomalous", "normal") if positive.all() else ("normal", "anomalous")
    if positive.size == 1:
        return f"The only image is {kind}: there is no {other} one to tell it from."
    return f"All {positive.size} images are {kind}: there is no {other} one to tell them from."


def _steps(who: str, labels: ArrayLike, scores: ArrayLike) -> Steps | None:
    """The curve; None where only one class is present."""
    positive = np.asarray(labels).astype(bool).ravel()
    values = np.asarray(scores).ravel()
    if positive.size != values.size:
        raise UsageError(
            f"{who} needs one score for each label, but got {positive.size} labels and {values.size} scores; "
            "pass both for the same frames"
        )
    dtype = score_type(who, [values.dtype])
    if np.isnan(values.min(initial=0)):
        raise UsageError(
            f"{who} needs scores that can be ordered, but found NaN among them: leave out the frames that have no score"
        )
    ordered = np.sort(values[positive].astype(dtype, copy=False))
    negatives = values.size - ordered.size
    if not negatives or not ordered.size:
        return None
    ends = distinct(ordered)
    up_to = ends + 1
    below = np.concatenate(([0], up_to[:-1]))
    blocks = (values[start : start + BLOCK] for start in range(0, values.size, BLOCK))
    (everything,) = count(blocks, values.size, [ordered[ends]], dtype)
    return Steps(
        before=negatives - (everything.up_to - up_to)[::-1],
        after=negatives - (everything.below - below)[::-1],
        gained=(ordered.size - below)[::-1],
        negatives=negatives,
    )
