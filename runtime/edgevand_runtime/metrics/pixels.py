"""Metrics of the pixels of a class: AUROC, AP, F1-max, PRO exact and PRO as released, from one shared sorting.

All pixels of all images are pooled, those of normal images included. Per-region overlap (PRO): Bergmann et al., "The
MVTec Anomaly Detection Dataset", IJCV 2021; as released: ByChelsea/VAND-APRIL-GAN, whose 200 thresholds depend on the
scale of the maps and which rescales the rates it keeps. Definitions word by word: docs/metrics.md.

Memory beside the masks and maps: one block of scores (64 MiB) and about 130 bytes for each anomalous pixel. Each map
and each mask is read one at a time (maps twice, masks once), so both may be lazy: a ``numpy.memmap``, or a sequence
that reads files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from edgevand.errors import UsageError
from edgevand_runtime.metrics.counting import count, score_type
from edgevand_runtime.metrics.figures import Figures
from edgevand_runtime.metrics.steps import Steps, area, curve, distinct, highest_f1, mean_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.metrics.steps import Floats

__all__ = [
    "PIXEL_NAMES",
    "PRO_LIMIT",
    "Maps",
    "Masks",
    "PixelRanking",
    "Taken",
    "checked_map",
    "pixel_metrics",
    "pro",
    "pro_curve",
    "pro_released",
    "rank_pixels",
    "regions",
    "why_undefined",
]

PIXEL_NAMES = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "pro", "pro_released")
PRO_LIMIT = 0.3
RELEASED_THRESHOLDS = 200

Masks: TypeAlias = "Sequence[NDArray[np.bool_] | None] | NDArray[np.bool_]"
Maps: TypeAlias = "Sequence[NDArray[np.floating]] | NDArray[np.floating]"


@dataclass(frozen=True, slots=True)
class PixelRanking:
    """All that the pixel metrics need of the maps; small beside them.

    ``pixels`` are the steps of the anomalous pixels, ``regions`` the same steps with each pixel weighing one over the
    size of its region; both None where ``reason`` says why nothing is defined. ``released`` is PRO as released, or
    None for ``released_reason``.
    """

    pixels: Steps | None
    regions: Steps | None
    released: float | None
    reason: str
    released_reason: str

    def figures(self) -> Figures:
        """``pixel_auroc``, ``pixel_ap``, ``pixel_f1_max``, ``pro``, ``pro_released``."""
        if self.pixels is None:
            return Figures.undefined(PIXEL_NAMES, self.reason)
        found = (
            area(self.pixels),
            mean_precision(self.pixels),
            highest_f1(self.pixels),
            self.pro(),
            self.released,
        )
        reasons = {"pro_released": self.released_reason} if self.released is None else {}
        return Figures(dict(zip(PIXEL_NAMES, found, strict=True)), reasons)

    def pro(self, limit: float = PRO_LIMIT) -> float | None:
        """Exact PRO to a false-positive rate of ``limit``, in (0, 1]."""
        return None if self.regions is None else area(self.regions, _checked_limit(limit))

    def pro_curve(
        self, points: int = 200, limit: float = 1.0
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """False-positive rates from 0 to ``limit`` and mean overlap there, at most ``points`` of the curve."""
        return None if self.regions is None else curve(self.regions, points, _checked_limit(limit))

    def roc_curve(self, points: int = 200) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """The ROC curve of the pixels, at most ``points`` of it."""
        return None if self.pixels is None else curve(self.pixels, points)


def pixel_metrics(masks: Masks | None, maps: Maps) -> Figures:
    """All pixel metrics of a class.

    Args:
        masks: for each image (h, w) bool, True where anomalous, or None where nothing is; None altogether where the
            dataset has no masks.
        maps: for each image (h, w) float32, higher means more anomalous; (N, h, w), a sequence, or a memmap.

    Returns:
        ``pixel_auroc``, ``pixel_ap``, ``pixel_f1_max``, ``pro`` (exact, to a false-positive rate of 0.3) and
        ``pro_released``.

    Raises:
        UsageError: numbers or sizes differ, or a map holds NaN.
    """
    return rank_pixels(masks, maps).figures()


def pro(masks: Masks | None, maps: Maps, limit: float = PRO_LIMIT) -> float | None:
    """Exact PRO: area under the mean overlap of the regions over the false-positive rate up to ``limit``.

    Arguments and errors are those of ``pixel_metrics``; None where there is no region, or no pixel outside them.
    """
    return rank_pixels(masks, maps).pro(limit)


def pro_released(masks: Masks | None, maps: Maps) -> float | None:
    """PRO as APRIL-GAN's code computes it; None also where fewer than two thresholds are kept.

    Arguments and errors are those of ``pixel_metrics``.
    """
    return rank_pixels(masks, maps).released


def pro_curve(
    masks: Masks | None, maps: Maps, points: int = 200, limit: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The PRO curve for drawing, see ``PixelRanking.pro_curve``."""
    return rank_pixels(masks, maps).pro_curve(points, limit)


def rank_pixels(masks: Masks | None, maps: Maps) -> PixelRanking:
    """Sort the pixels of a class once, for all pixel metrics and curves.

    Arguments and errors are those of ``pixel_metrics``.
    """
    if masks is None:
        return _undefined("The dataset has no masks, so nothing is known of its pixels.")
    if len(masks) != len(maps):
        raise UsageError(
            f"pixel metrics need one mask for each map, but got {len(masks)} masks and {len(maps)} maps; "
            "pass None as the mask of a normal image"
        )
    taken = Taken()
    for index, mask in enumerate(masks):
        taken.add(index, mask, maps[index])
    reason = why_undefined(len(masks), taken.anomalous, taken.pixels)
    if reason:
        return _undefined(reason)
    return _rank(taken, maps)


@dataclass(slots=True)
class Taken:
    """What a pass over masks and maps takes along: the anomalous pixels' scores, and a few words on all maps."""

    scores: list[Floats] = field(default_factory=list)  # of anomalous pixels, one array an image
    weights: list[NDArray[np.float64]] = field(default_factory=list)  # one over the size of the pixel's region
    anomalous: int = 0
    pixels: int = 0
    dtypes: set[np.dtype[np.floating]] = field(default_factory=set)
    low: float = np.inf
    high: float = -np.inf

    def add(self, index: int, mask: NDArray[np.bool_] | None, values: Floats) -> None:
        """Take an image's mask and map.

        Raises:
            UsageError: their sizes differ, or the map holds NaN.
        """
        values, low, high = checked_map(index, mask, values)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.dtypes.add(values.dtype)
        self.pixels += values.size
        where, weights = regions(mask)
        if where.size:
            self.scores.append(values.ravel()[where])
            self.weights.append(weights)
            self.anomalous += where.size


def checked_map(index: int, mask: NDArray[np.bool_] | None, values: Floats) -> tuple[Floats, float, float]:
    """The map as an array with its lowest and highest score.

    Raises:
        UsageError: it is no map, its size is not its mask's, or it holds NaN.
    """
    values = np.asarray(values)
    score_type("a map", [values.dtype])
    if not values.size or values.ndim != 2:  # noqa: PLR2004 - rows and columns
        raise UsageError(f"map {index} has shape {values.shape}, but rows and columns are needed; pass maps of (h, w)")
    if mask is not None and np.shape(mask) != values.shape:
        raise UsageError(
            f"mask {index} has shape {np.shape(mask)}, but its map has {values.shape}; bring both to one size"
        )
    low, high = float(values.min()), float(values.max())
    if np.isnan(low):
        raise UsageError(
            f"map {index} holds NaN, which cannot be ordered among scores; leave its image out of maps and masks"
        )
    return values, low, high


def regions(mask: NDArray[np.bool_] | None) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Places of the anomalous pixels in the flattened mask and, for each, one over the size of its region.

    Regions are the 8-connected components of the mask. Weights sum to the number of regions.
    """
    if mask is None or not np.any(mask):
        return np.empty(0, np.intp), np.empty(0, np.float64)
    marked = np.ascontiguousarray(np.asarray(mask) != 0).view(np.uint8)
    where = np.flatnonzero(marked)
    _, labels = cv2.connectedComponents(marked, connectivity=8)
    region = labels.ravel()[where]
    return where, (1 / np.bincount(region)[1:])[region - 1]


def why_undefined(images: int, anomalous: int, pixels: int) -> str:
    """The sentence that says why pixel metrics are not defined; empty where they are."""
    if not images:
        return "There is no image."
    if not anomalous:
        return f"All {images} masks are empty: no pixel is anomalous." if images > 1 else "The only mask is empty."
    if anomalous == pixels:
        return "The masks cover every pixel of every image: no pixel is normal."
    return ""


def _undefined(reason: str) -> PixelRanking:
    return PixelRanking(pixels=None, regions=None, released=None, reason=reason, released_reason=reason)


def _checked_limit(limit: float) -> float:
    if not 0 < limit <= 1:
        raise UsageError(f"the false-positive rate must end in (0, 1], but {limit} was given; 0.3 is usual")
    return limit


def _rank(taken: Taken, maps: Maps) -> PixelRanking:
    dtype = score_type("a map", taken.dtypes)
    scores = np.concatenate(taken.scores).astype(dtype, copy=False)
    taken.scores.clear()
    order = np.argsort(scores)
    scores = scores[order]
    weights = np.concatenate(taken.weights)[order]
    taken.weights.clear()
    del order
    ends = distinct(scores)
    thresholds = _released_thresholds(taken, dtype)
    flat = (np.asarray(maps[index]) for index in range(len(maps)))
    around, over = count(flat, taken.pixels, [scores[ends], thresholds], dtype)
    up_to = ends + 1
    below = np.concatenate(([0], up_to[:-1]))
    negatives = taken.pixels - taken.anomalous
    before = negatives - (around.up_to - up_to)[::-1]
    after = negatives - (around.below - below)[::-1]
    overlap = np.cumsum(weights[::-1])  # of the pixels from the highest score down
    steps = Steps(before=before, after=after, gained=(scores.size - below)[::-1], negatives=negatives)
    weighted = Steps(before=before, after=after, gained=overlap[steps.gained - 1], negatives=negatives)
    under = scores.searchsorted(thresholds, side="right")
    rates = (negatives - (over.up_to - under)) / negatives
    heights = np.append(overlap, 0.0)[scores.size - under - 1] / overlap[-1]
    released, reason = _released(rates, heights, finite=bool(np.isfinite([taken.low, taken.high]).all()))
    return PixelRanking(pixels=steps, regions=weighted, released=released, reason="", released_reason=reason)


def _released_thresholds(taken: Taken, dtype: np.dtype[np.floating]) -> Floats:
    """The released thresholds in ascending order, (200,): equal steps from the lowest score, the highest left out.

    They are rounded down to the maps' type, which changes nothing: a score of that type is above one exactly where it
    is above the other.
    """
    if not np.isfinite([taken.low, taken.high]).all():
        return np.empty(0, dtype)
    exact = np.linspace(taken.low, taken.high, RELEASED_THRESHOLDS, endpoint=False)
    rounded = exact.astype(dtype)
    return np.where(rounded > exact, np.nextafter(rounded, dtype.type(-np.inf)), rounded)


def _released(rates: NDArray[np.float64], heights: NDArray[np.float64], *, finite: bool) -> tuple[float | None, str]:
    """Area over the kept points, their rates stretched to [0, 1]; or None and why."""
    if not finite:
        return None, "The maps hold infinite scores, so no equal steps lie between the lowest and the highest."
    kept = rates < PRO_LIMIT
    rates, heights = rates[kept], heights[kept]
    if not rates.size or rates[0] == rates[-1]:
        return None, (
            f"Of the {RELEASED_THRESHOLDS} released thresholds fewer than two give different false-positive rates "
            f"under {PRO_LIMIT}."
        )
    stretched = (rates - rates.min()) / (rates.max() - rates.min())
    return float(np.sum((stretched[:-1] - stretched[1:]) * (heights[:-1] + heights[1:]) / 2)), ""
