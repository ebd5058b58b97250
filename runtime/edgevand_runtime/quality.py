"""Is this frame fit to be enrolled? Blur, exposure, and likeness to the frames taken before it.

Blur is judged against the frames at hand, because a smooth part is not a blurred one: normal frames of one scene
stay above 0.77 of their median sharpness, the same frames out of focus fall below 0.1 (four sets of photographs).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["NEAR_COPY", "Look", "Refusal", "blurred", "exposure_fault", "group_looks", "look_at", "nearest_look"]

NEAR_COPY = 0.5
"""Mean absolute difference of two thumbnails, in grey levels of 255, under which frames are copies of one another.

Neighbouring frames of a still scene on video differ by 0.1 to 0.45, frames of one part taken hours apart by 0.8 and
more.
"""

_BLUR = 0.4
"""Share of the median sharpness under which a frame counts as blurred."""

_DARK, _BRIGHT, _FLAT = 8.0, 247.0, 2.0
"""Grey levels: mean below and above which nothing can be seen, deviation under which nothing is there."""

_WIDTH, _THUMBNAIL = 320, 64


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a frame was not taken.

    Attributes:
        reason: one word or two: ``blurred``, ``too dark``, ``repeated frame`` …
        measure: what was measured, in ``unit``.
        limit: what it was held against.
        unit: of both.
    """

    reason: str
    measure: float
    limit: float
    unit: str

    def __str__(self) -> str:
        """``blurred: sharpness 12.0, limit 40.1``."""
        return f"{self.reason}: {self.unit} {self.measure:.3g}, limit {self.limit:.3g}"


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What the checks know of a frame.

    Attributes:
        sharpness: variance of the Laplacian at 320 px width, grey levels squared.
        brightness: mean grey level, 0 to 255.
        contrast: standard deviation of the grey levels.
        thumbnail: (64, 64) float32 grey levels.
    """

    sharpness: float
    brightness: float
    contrast: float
    thumbnail: NDArray[np.float32]

    def difference(self, other: Look) -> float:
        """Mean absolute difference of the thumbnails in grey levels; 0 for identical frames."""
        return float(np.abs(self.thumbnail - other.thumbnail).mean())


def look_at(image: NDArray[np.uint8]) -> Look:
    """Measure a frame: (H, W, 3) uint8 BGR."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    height = max(1, round(grey.shape[0] * _WIDTH / grey.shape[1]))
    small = cv2.resize(grey, (_WIDTH, height), interpolation=cv2.INTER_AREA)
    thumbnail = cv2.resize(grey, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32)
    return Look(
        sharpness=float(cv2.Laplacian(small, cv2.CV_64F).var()),
        brightness=float(small.mean()),
        contrast=float(small.std()),
        thumbnail=thumbnail,
    )


def exposure_fault(look: Look) -> Refusal | None:
    """Too dark, too bright, or without any contrast."""
    if look.brightness < _DARK:
        return Refusal("too dark", look.brightness, _DARK, "mean grey level")
    if look.brightness > _BRIGHT:
        return Refusal("too bright", look.brightness, _BRIGHT, "mean grey level")
    if look.contrast < _FLAT:
        return Refusal("no contrast", look.contrast, _FLAT, "deviation of grey levels")
    return None


def blurred(look: Look, others: Iterable[Look]) -> Refusal | None:
    """Far less sharp than the other frames; nothing can be said before there are any."""
    sharpness = [other.sharpness for other in others]
    if not sharpness:
        return None
    limit = _BLUR * median(sharpness)
    return Refusal("blurred", look.sharpness, limit, "sharpness") if look.sharpness < limit else None


def nearest_look(look: Look, others: Sequence[Look]) -> tuple[int, float] | None:
    """Position of the most similar frame and the difference to it in grey levels; None without others."""
    if not others:
        return None
    differences = [look.difference(other) for other in others]
    best = int(np.argmin(differences))
    return best, differences[best]


def group_looks(looks: Sequence[Look]) -> list[int]:
    """Group of each frame, counted from 0: near-copies share the group of the first frame that they resemble."""
    groups: list[int] = []
    for number, look in enumerate(looks):
        near = nearest_look(look, looks[:number])
        copy = near is not None and near[1] < NEAR_COPY
        groups.append(groups[near[0]] if near is not None and copy else max(groups, default=-1) + 1)
    return groups
