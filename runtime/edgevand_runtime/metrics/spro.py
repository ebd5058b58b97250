"""Saturated per-region overlap, the localisation metric of MVTec LOCO (Bergmann et al., IJCV 2022).

A logical anomaly has no exact outline: a missing part may be anywhere in a wide area. So each defect has a saturation
area S, and counts as found whole once S of its A pixels are over the threshold:

    sPRO(defect, threshold) = min(pixels of the defect at or over it / S, 1)

Only its S highest pixels can therefore matter, each worth 1 / S: kept with this weight, they make sPRO a weighted PRO,
and the steps of steps.py give its area exactly. False positives are counted over the pixels that no defect marks.
Maps must have the size of the original images (enlarge the map, never shrink the mask).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgevand.errors import UsageError
from edgevand_runtime.metrics.counting import count, score_type
from edgevand_runtime.metrics.figures import Figures
from edgevand_runtime.metrics.pixels import checked_map
from edgevand_runtime.metrics.steps import Steps, area, distinct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.metrics.pixels import Maps
    from edgevand_runtime.metrics.steps import Floats

__all__ = ["SPRO_LIMITS", "SproDefect", "saturation_area", "spro", "spro_metrics"]

SPRO_LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)
"""False-positive rates that the areas end at; 0.05 is the one that is reported."""


class SproDefect(Protocol):
    """One defect of an image: ``datasets.DefectMask``, or anything with these two."""

    @property
    def pixels(self) -> NDArray[np.bool_]:
        """(h, w), True where the defect is."""

    @property
    def saturation(self) -> int:
        """Pixels that must be found for it to count as found whole, 1 to the number it has."""


def saturation_area(area_pixels: int, threshold: float, *, relative: bool) -> int:
    """Saturation area S of a defect in whole pixels, at least 1.

    Args:
        area_pixels: pixels that the defect's mask marks.
        threshold: ``saturation_threshold`` of its entry in ``defects_config.json``.
        relative: ``relative_saturation`` of it: the threshold is a share of the area, else a number of pixels.

    Returns:
        int(threshold * area) or min(threshold, area). A share that rounds down to no pixel at all gives 1.
    """
    return max(int(threshold * area_pixels) if relative else min(int(threshold), area_pixels), 1)


def spro(
    defects_per_image: Sequence[Sequence[SproDefect]], maps: Maps, limits: Sequence[float] = SPRO_LIMITS
) -> dict[float, float | None]:
    """Area under mean sPRO over the false-positive rate from 0 to each limit, divided by the limit.

    MVTec LOCO computes it twice, over good and structural and over good and logical images, and takes the mean.

    Args:
        defects_per_image: for each image its defects, none for a good one; defects may overlap.
        maps: for each image (h, w) float32, as in ``pixel_metrics``; images may differ in size.
        limits: false-positive rates in (0, 1].

    Returns:
        A value in [0, 1] for each limit; all None where there is no defect or no defect-free pixel.

    Raises:
        UsageError: numbers or sizes differ, a map holds NaN, a saturation area or limit is out of range.
    """
    steps, _ = _rank(defects_per_image, maps, limits)
    return {limit: None if steps is None else area(steps, limit) for limit in limits}


def spro_metrics(
    defects_per_image: Sequence[Sequence[SproDefect]], maps: Maps, limits: Sequence[float] = SPRO_LIMITS
) -> Figures:
    """``spro`` with names, ``spro_0.01``, ``spro_0.05``, … ``spro_1.0``, and the reason where undefined."""
    steps, reason = _rank(defects_per_image, maps, limits)
    names = [f"spro_{limit}" for limit in limits]
    if steps is None:
        return Figures.undefined(names, reason)
    return Figures({name: area(steps, limit) for name, limit in zip(names, limits, strict=True)}, {})


def _rank(
    defects_per_image: Sequence[Sequence[SproDefect]], maps: Maps, limits: Sequence[float]
) -> tuple[Steps | None, str]:
    if len(defects_per_image) != len(maps):
        raise UsageError(
            f"sPRO needs the defects of each map, but got {len(defects_per_image)} lists of defects and {len(maps)} "
            "maps; pass an empty list for a good image"
        )
    if any(not 0 < limit <= 1 for limit in limits):
        raise UsageError(f"the limits of sPRO must lie in (0, 1], but {list(limits)} were given")
    kept: list[Floats] = []  # of each defect its highest scores
    weights: list[NDArray[np.float64]] = []
    marked: list[Floats] = []  # scores of pixels that any defect marks
    dtypes, pixels = set(), 0
    for index, defects in enumerate(defects_per_image):
        values, _, _ = checked_map(index, None, maps[index])
        dtypes.add(values.dtype)
        pixels += values.size
        union = np.zeros(values.shape, np.bool_)
        for number, defect in enumerate(defects):
            scores = values[_checked_defect(index, number, defect, values.shape)]
            union |= defect.pixels
            first = scores.size - defect.saturation
            kept.append(np.partition(scores, first)[first:] if first else scores)
            weights.append(np.full(defect.saturation, 1 / defect.saturation))
        if defects:
            marked.append(values[union])
    excluded = sum(scores.size for scores in marked)
    if not kept:
        return None, "No image has a defect."
    if excluded == pixels:
        return None, "The defects cover every pixel of every image: no pixel is free of them."
    dtype = score_type("a map", dtypes)
    scores = np.concatenate(kept).astype(dtype, copy=False)
    order = np.argsort(scores)
    scores, overlap = scores[order], np.cumsum(np.concatenate(weights)[order[::-1]])
    ends = distinct(scores)
    wanted = scores[ends]
    flat = (np.asarray(maps[index]) for index in range(len(maps)))
    (around,) = count(flat, pixels, [wanted], dtype)
    (theirs,) = count(marked, excluded, [wanted], dtype)
    below = np.concatenate(([0], ends[:-1] + 1))
    negatives = pixels - excluded
    return Steps(
        before=negatives - (around.up_to - theirs.up_to)[::-1],
        after=negatives - (around.below - theirs.below)[::-1],
        gained=overlap[scores.size - below - 1][::-1],
        negatives=negatives,
    ), ""


def _checked_defect(index: int, number: int, defect: SproDefect, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if defect.pixels.shape != shape:
        raise UsageError(
            f"defect {number} of image {index} has shape {defect.pixels.shape}, but its map has {shape}; "
            "enlarge the map to the size of the image"
        )
    size = int(np.count_nonzero(defect.pixels))
    if not 1 <= defect.saturation <= size:
        raise UsageError(
            f"defect {number} of image {index} marks {size} pixels, so its saturation area must lie in 1..{size}, but "
            f"it is {defect.saturation}; leave out defects without a pixel"
        )
    return defect.pixels
