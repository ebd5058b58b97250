"""From raw scores to decisions, on normal frames only (methods.md (g)).

A line has no labelled defects on its first day. Every enrolled frame is scored against the others
(leave one frame out), and the threshold follows from those n scores at a wanted false-alarm rate R:

- n >= ceil(1/R) - 1: the order statistic of rank ceil((1 - R)(n + 1)); conformal p-values exist.
- n >= 4: a prediction limit on y = ln s, flagged ``extrapolated``; no p-value can reach R. A handful of scores says
  little of their own spread, so where the bundle says what is usual the variance is shrunk towards that.
- less: no scale exists, nothing is calibrated and nothing is guessed.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgevand.bank import CalibrationRecord, LimitRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "MIN_GROUPS",
    "PRIOR_DEGREES",
    "SD_FLOOR",
    "calibrate",
    "calibrated_score",
    "frames_for_rate",
    "manual_limit",
    "moderated_sd",
    "p_value",
    "promise",
    "student_quantile",
]

MIN_GROUPS = 4
"""Fewer independent frames say next to nothing of their own spread: the limit would be the prior's alone."""

SD_FLOOR = 0.05
"""Floor of the deviation of y: near-identical frames would give a scale near 0 and a flood of alarms."""

PRIOR_DEGREES = 4
"""Degrees of freedom that a bundle's usual deviation counts for beside the n - 1 of the enrolled frames."""

_SMALLEST = 1e-12
"""Raw scores are sums of distances and probabilities; rounding can put a perfect match just below 0."""


@lru_cache
def student_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t distribution for a whole number of degrees of freedom.

    Bisection on the closed form of the distribution in theta = atan(t / sqrt(degrees))
    (Abramowitz & Stegun 26.7.3 and 26.7.4).

    Args:
        probability: in [0.5, 1).
        degrees: at least 1.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        if 0.5 * (1 + _central_probability(middle, degrees)) < probability:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan(low)


def _central_probability(theta: float, degrees: int) -> float:
    """P(|T| <= sqrt(degrees) tan(theta))."""
    cosine, sine = math.cos(theta), math.sin(theta)
    odd = degrees % 2 == 1
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(3 if odd else 2, degrees - 1, 2):
        term *= (k - 1) / k * cosine * cosine
        total += term
    return 2 / math.pi * (theta + sine * total) if odd else sine * total


def frames_for_rate(rate: float) -> int:
    """Independent normal frames that a conformal decision at this false-alarm rate needs: ceil(1/R) - 1."""
    return math.ceil(1 / rate - 1e-9) - 1


def moderated_sd(y: NDArray[np.float64], usual_sd: float | None) -> float:
    """Deviation of a small sample, its variance shrunk towards the usual one; at least ``SD_FLOOR``.

    ``sqrt((d0 s0^2 + (n - 1) s^2) / (d0 + n - 1))`` with d0 = ``PRIOR_DEGREES``: the posterior of a normal variance
    under a scaled inverse chi-squared prior, with d0 + n - 1 degrees of freedom (Smyth 2004, "Linear models and
    empirical Bayes methods", section 4).

    Args:
        y: (n,) logarithms of raw scores, n at least 2.
        usual_sd: s0; None for no prior.
    """
    own, usual = len(y) - 1, usual_sd or 0.0
    degrees = _prior_degrees(usual_sd)
    return max(math.sqrt((degrees * usual**2 + own * float(y.var(ddof=1))) / (degrees + own)), SD_FLOOR)


def _prior_degrees(usual_sd: float | None) -> int:
    return 0 if usual_sd is None else PRIOR_DEGREES


def calibrate(
    image_scores: Sequence[float], map_scores: Sequence[float], rate: float, usual_sd: float | None = None
) -> CalibrationRecord:
    """Calibrate on leave-one-out scores of normal frames.

    Args:
        image_scores: raw image score of each independent frame.
        map_scores: maximum of the raw map of each, which calibrates the map's own threshold.
        rate: wanted false-alarm rate per frame, in (0, 1).
        usual_sd: deviation of ln(raw score) that is usual for the bundle (``score.usual_sd``); None where none is
            known, and only the frames themselves count.
    """
    n = len(image_scores)
    kind: Literal["conformal", "extrapolated", "none"] = "conformal" if n >= frames_for_rate(rate) else "extrapolated"
    if n < MIN_GROUPS:
        kind = "none"
    limits = [None if kind == "none" else _limit(scores, rate, kind, usual_sd) for scores in (image_scores, map_scores)]
    return CalibrationRecord(
        kind=kind,
        false_alarm_rate=rate,
        n=n,
        scores=tuple(float(score) for score in image_scores),
        image=limits[0],
        map=limits[1],
    )


def _limit(scores: Sequence[float], rate: float, kind: str, usual_sd: float | None) -> LimitRecord:
    """Threshold at a wanted rate.

    ``extrapolated``: mean + t(d0 + n - 1, 1 - R) sd sqrt(1 + 1/n) with the moderated sd: the predictive distribution of
    one more y (Gelman et al., Bayesian Data Analysis, 3rd ed., section 3.3), which is Student's limit at d0 = 0.
    """
    y = np.log(np.maximum(np.asarray(scores, np.float64), _SMALLEST))
    n = len(y)
    mean, sd = float(y.mean()), moderated_sd(y, usual_sd)
    if kind == "conformal":
        rank = math.ceil((1 - rate) * (n + 1) - 1e-9)
        limit = float(np.sort(y)[rank - 1])
    else:
        limit = mean + student_quantile(1 - rate, _prior_degrees(usual_sd) + n - 1) * sd * math.sqrt(1 + 1 / n)
    return LimitRecord(mean=mean, sd=sd, threshold=math.exp(limit))


def manual_limit(threshold: float, calibrated: LimitRecord | None) -> LimitRecord:
    """A threshold set by hand on the raw score; the scale comes from the calibration, or is its floor."""
    sd = SD_FLOOR if calibrated is None else calibrated.sd
    return LimitRecord(mean=math.log(threshold), sd=sd, threshold=threshold)


def calibrated_score(raw: float, limit: LimitRecord) -> float:
    """1 / (1 + exp(-(ln raw - ln threshold) / sd)): in [0, 1], 0.5 at the threshold, monotone."""
    z = (math.log(max(raw, _SMALLEST)) - math.log(limit.threshold)) / limit.sd
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def p_value(raw: float, calibration: CalibrationRecord) -> float | None:
    """Conformal p-value (1 + #{s_j >= s}) / (n + 1), or None while the n frames cannot reach the wanted rate."""
    if calibration.kind != "conformal":
        return None
    at_least = sum(score >= raw for score in calibration.scores)
    return (1 + at_least) / (calibration.n + 1)


def promise(calibration: CalibrationRecord) -> str:
    """One line that tells a person what n frames can promise, and how many more would do."""
    n, rate = calibration.n, calibration.false_alarm_rate
    frames = f"{n} independent frame{'s' if n != 1 else ''}"
    if calibration.kind == "conformal":
        return f"{frames}: false alarms at most {rate:.2%} a frame while frames stay like these (conformal)."
    more = frames_for_rate(rate) - n
    if calibration.kind == "none":
        return (
            f"{frames}: no threshold can be set below {MIN_GROUPS}: scores stay raw and nothing is called anomalous; "
            f"append {MIN_GROUPS - n} more for an extrapolated threshold, {more} for a proven one at {rate:.2%}."
        )
    return (
        f"{frames}: the threshold for {rate:.2%} false alarms is extrapolated (prediction limit); "
        f"{n} frames alone prove no rate below {1 / (n + 1):.1%}, {more} more would prove {rate:.2%}."
    )
