"""Pixel metrics of a set too large to sort, or that comes map by map: scores counted in bins, with a proved bound.

A bin holds the float32 scores that share sign, exponent and the leading ``digits`` bits of the mantissa, so its width
is 2^-digits of its scores whatever their scale, and bins never need a range given in advance. Magnitudes under 2^-40
share the bin of zero, those from 2^40 on the last one of their sign.

Why a bound can be proved: everything between two bins is ordered as it truly is; all that is lost is the order inside
a bin. The steps of steps.py describe that exactly, and their ``…_bound`` functions give the largest difference that
any order inside the bins could make. What is returned is therefore correct to within ``bounds``, for these very
scores (and rounding of the sums, under 1e-9).

Memory: 24 * 2^digits bytes (1.5 MiB at 16) for each power of two that scores take, one page; scores between 0.001 and
4 take 12 pages, and no scores whatever take more than 161.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgevand.errors import UsageError
from edgevand_runtime.metrics.figures import Figures
from edgevand_runtime.metrics.pixels import PIXEL_NAMES, PRO_LIMIT, checked_map, regions, why_undefined
from edgevand_runtime.metrics.steps import (
    Steps,
    area,
    area_bound,
    distinct,
    f1_max_bound,
    highest_f1,
    mean_precision,
    mean_precision_bound,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevand_runtime.metrics.steps import Floats

__all__ = ["StreamedFigures", "StreamedPixelMetrics"]

MANTISSA = 23
SMALLEST, LARGEST = np.float32(2.0**-40), np.nextafter(np.float32(2.0**40), np.float32(0))
NOT_STREAMED = "PRO as released depends on where single scores lie between its thresholds, which bins do not keep."


@dataclass(frozen=True, slots=True)
class StreamedFigures:
    """Pixel metrics of counted scores: ``values`` and ``reasons`` as in ``Figures``.

    ``bounds``: for each value that is not None, how far the exact figure can be from it at most.
    """

    values: dict[str, float | None]
    reasons: dict[str, str]
    bounds: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Page:
    """Counts of the scores of one sign and exponent."""

    scores: NDArray[np.int64]  # all pixels
    positives: NDArray[np.int64]
    weights: NDArray[np.float64]  # of the positives, one over the size of their region

    @classmethod
    def empty(cls, size: int) -> _Page:
        return cls(np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size))


class StreamedPixelMetrics:
    """Takes masks and maps one after the other, in memory that does not grow with their number.

    Example:
        >>> streamed = StreamedPixelMetrics()
        >>> for mask, anomaly_map in pairs:
        ...     streamed.add(mask, anomaly_map)
        >>> streamed.result().bounds["pixel_auroc"]
        3e-06
    """

    def __init__(self, digits: int = 16, limit: float = PRO_LIMIT) -> None:
        """Start empty.

        Args:
            digits: leading bits of the mantissa that are told apart, 1 to 23.
            limit: false-positive rate at which PRO ends, in (0, 1].

        Raises:
            UsageError: one of them is out of range.
        """
        if not 1 <= digits <= MANTISSA:
            raise UsageError(f"digits must lie in 1..{MANTISSA}, but {digits} was given; 16 is usual")
        if not 0 < limit <= 1:
            raise UsageError(f"the false-positive rate must end in (0, 1], but {limit} was given; 0.3 is usual")
        self._shift, self._digits, self._limit = MANTISSA - digits, digits, limit
        self._pages: dict[int, _Page] = {}
        self._images = self._pixels = self._anomalous = 0

    def add(self, mask: NDArray[np.bool_] | None, values: Floats) -> None:
        """Take an image.

        Args:
            mask: (h, w), True where anomalous; None where nothing is.
            values: (h, w) float32 map, higher means more anomalous. Other types are rounded to float32.

        Raises:
            UsageError: their sizes differ, or the map holds NaN; nothing of the image was taken then.
        """
        values, _, _ = checked_map(self._images, mask, values)
        where, weights = regions(mask)
        flat = values.ravel()
        keys = self._keys(np.sort(flat.astype(np.float32)))
        ends = distinct(keys)
        for page, places, part in self._split(keys[ends]):
            if page not in self._pages:
                self._pages[page] = _Page.empty(1 << self._digits)
            self._pages[page].scores[places] += np.diff(ends, prepend=-1)[part]
        order = np.argsort(flat[where])
        for page, places, part in self._split(self._keys(flat[where][order].astype(np.float32))):
            np.add.at(self._pages[page].positives, places, 1)
            np.add.at(self._pages[page].weights, places, weights[order][part])
        self._images += 1
        self._pixels += flat.size
        self._anomalous += where.size

    def result(self) -> StreamedFigures:
        """The figures of all images so far; more may be added after it."""
        reason = why_undefined(self._images, self._anomalous, self._pixels)
        if reason:
            undefined = Figures.undefined(PIXEL_NAMES, reason)
            return StreamedFigures(undefined.values, undefined.reasons, {})
        pixels, weighted = self._steps()
        found = {
            "pixel_auroc": (area(pixels), area_bound(pixels)),
            "pixel_ap": (mean_precision(pixels), mean_precision_bound(pixels)),
            "pixel_f1_max": (highest_f1(pixels), f1_max_bound(pixels)),
            "pro": (area(weighted, self._limit), area_bound(weighted, self._limit)),
        }
        values: dict[str, float | None] = {name: value for name, (value, _) in found.items()}
        bounds = {name: bound for name, (_, bound) in found.items()}
        return StreamedFigures({**values, "pro_released": None}, {"pro_released": NOT_STREAMED}, bounds)

    def _keys(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        """Numbers of the bins, in the order of the scores.

        The bits of a float32, read as an integer, grow with its magnitude; those of negative scores are turned round.
        """
        tamed = np.where(np.abs(values) < SMALLEST, np.float32(0), np.clip(values, -LARGEST, LARGEST))
        magnitude = (np.abs(tamed).view(np.int32) >> self._shift).astype(np.int64)
        return np.where(tamed < 0, ~magnitude, magnitude)

    def _split(self, keys: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64], slice]]:
        """Ordered keys by page: its number, the places on it, and which part of the keys they are."""
        numbers, places = keys >> self._digits, keys & ((1 << self._digits) - 1)
        stops = (distinct(numbers) + 1).tolist()
        parts = [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]
        return [(int(numbers[part.start]), places[part], part) for part in parts]

    def _steps(self) -> tuple[Steps, Steps]:
        """Steps of pixels and of regions, one for each bin that holds a positive, the highest first."""
        found: list[tuple[NDArray[np.int64], ...]] = []
        gained: list[NDArray[np.float64]] = []
        above = 0
        for number in sorted(self._pages, reverse=True):
            page = self._pages[number]
            normal = (page.scores - page.positives)[::-1]
            after = above + np.cumsum(normal)
            above = int(after[-1])
            held = np.flatnonzero(page.positives[::-1])
            found.append(((after - normal)[held], after[held], page.positives[::-1][held]))
            gained.append(page.weights[::-1][held])
        before, after, positives = (np.concatenate(parts) for parts in zip(*found, strict=True))
        negatives = self._pixels - self._anomalous
        return (
            Steps(before, after, np.cumsum(positives), negatives),
            Steps(before, after, np.cumsum(np.concatenate(gained)), negatives),
        )
