"""How far a graph may be from what torch computed: asked at export, and again by ``edgevand verify``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgevand.bundle import Precision

__all__ = ["LIMITS", "Limits"]


@dataclass(frozen=True)
class Limits:
    """What the graph must hold, for one precision.

    Attributes:
        relative: largest difference of an output, relative to its largest value; None: not asked.
        cosine: smallest cosine of an output's rows; None: not asked.
        map: largest difference of the map; absolute, or a share of the map's range.
        map_of_range: whether ``map`` is a share of the range.
        score: largest difference of the image score.
    """

    relative: float | None
    cosine: float | None
    map: float
    map_of_range: bool
    score: float


LIMITS: dict[Precision, Limits] = {
    "fp32": Limits(relative=1e-3, cosine=None, map=1e-3, map_of_range=False, score=1e-3),
    "fp16": Limits(relative=None, cosine=0.999, map=0.02, map_of_range=True, score=0.01),
    "int8": Limits(relative=None, cosine=0.95, map=0.2, map_of_range=True, score=0.2),
}
"""fp32 and fp16 differ from torch by rounding alone, so these find faults of a graph. int8 was scaled on other pictures
than the golden ones, one of which is noise: its limits find a broken graph or kernel (a wrong scale or zero point, an
overflow), and what it costs on a scene is the gate's business (``gate``, docs/precision.md)."""
