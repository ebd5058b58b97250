"""Calibrated fusion: terms of unlike size on the scale of normal frames (methods.md (h)).

::

    y    = ln(term), or logit(term) for a probability
    z    = (y - mean) / sd                     over the enrolled frames, each left out of the bank
    raw  = exp(mean_map + sd_map * Z)          Z the mean of the terms' z, or the largest

The released code brings text and map together by the minimum and maximum over a whole test set; here normal frames say
what is usual of each, and one frame suffices. ``raw`` lies on the scale of the map's term, above 0, so that calibration
(ln) finds in it the spread that it knows, and a threshold set by hand keeps its meaning.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgevand_runtime.calibration import SD_FLOOR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Scale", "fused", "scale_of"]

Scale = tuple[float, float]
"""Mean and deviation of a term's y among normal frames."""

_SMALLEST = 1e-12
_LARGEST = 80.0
"""Of ln(raw), either way: beyond it lies only what is anomalous by any measure."""


def scale_of(term: str, values: Sequence[float], floor: float = SD_FLOOR) -> Scale:
    """What is usual of a term.

    Args:
        term: ``text`` for a probability; else a distance.
        values: of at least two normal frames.
        floor: of the deviation.
    """
    y = np.array([_y(term, value) for value in values])
    return float(y.mean()), max(float(y.std(ddof=1)), floor)


def fused(terms: Mapping[str, float], scales: Mapping[str, Scale], rule: Literal["mean", "max"]) -> float:
    """The raw score, above 0.

    Args:
        terms: ``map`` and others, by name.
        scales: of each.
        rule: how the terms' z are brought together.
    """
    deviations = [(_y(term, value) - scales[term][0]) / scales[term][1] for term, value in terms.items()]
    together = max(deviations) if rule == "max" else sum(deviations) / len(deviations)
    mean, sd = scales["map"]
    return math.exp(min(max(mean + sd * together, -_LARGEST), _LARGEST))


def _y(term: str, value: float) -> float:
    if term == "text":
        inside = min(max(value, _SMALLEST), 1 - _SMALLEST)
        return math.log(inside / (1 - inside))
    return math.log(max(value, _SMALLEST))
