"""The metrics' definitions written down plainly: every threshold tried, every pixel looked at, nothing shared."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Points = list[tuple[float, float]]
Arrays: TypeAlias = "Sequence[NDArray] | NDArray"


@dataclass(frozen=True)
class Defect:
    """A defect for sPRO."""

    pixels: NDArray[np.bool_]
    saturation: int


def thresholds(scores: NDArray) -> list[float]:
    """Every distinct score, the highest first."""
    return sorted({float(score) for score in scores.ravel()}, reverse=True)


def auroc(labels: NDArray, scores: NDArray) -> float:
    """Won pairs over all pairs, a tie being half a win."""
    positives = [float(s) for s, label in zip(scores.ravel(), labels.ravel(), strict=True) if label]
    negatives = [float(s) for s, label in zip(scores.ravel(), labels.ravel(), strict=True) if not label]
    won = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    return won / (len(positives) * len(negatives))


def average_precision(labels: NDArray, scores: NDArray) -> float:
    total, recall = 0.0, 0.0
    for threshold in thresholds(scores):
        called = scores >= threshold
        reached = float((called & labels).sum() / labels.sum())
        total += (reached - recall) * float((called & labels).sum() / called.sum())
        recall = reached
    return total


def f1_max(labels: NDArray, scores: NDArray) -> float:
    best = 0.0
    for threshold in thresholds(scores):
        called = scores >= threshold
        precision, recall = float((called & labels).sum() / called.sum()), float((called & labels).sum() / labels.sum())
        if precision + recall:
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


def regions(mask: NDArray) -> list[set[tuple[int, int]]]:
    """8-connected components, by flood fill."""
    left = {(int(row), int(column)) for row, column in zip(*np.nonzero(mask), strict=True)}
    found = []
    while left:
        region, border = set(), {left.pop()}
        while border:
            row, column = border.pop()
            region.add((row, column))
            near = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            border |= near
            left -= near
        found.append(region)
    return found


def area_to(points: Points, limit: float) -> float:
    """Trapezoids up to the limit, the last one cut there by a straight line; over the limit."""
    total = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 <= limit:
            total += (x1 - x0) * (y0 + y1) / 2
        elif x0 < limit:
            end = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            total += (limit - x0) * (y0 + end) / 2
    return total / limit


def pro(masks: Arrays, maps: Arrays, limit: float) -> float:
    points: Points = [(0.0, 0.0)]
    outside = sum(int((~mask).sum()) for mask in masks)
    for threshold in thresholds(np.concatenate([values.ravel() for values in maps])):
        overlaps = [
            sum(float(values[place]) >= threshold for place in region) / len(region)
            for mask, values in zip(masks, maps, strict=True)
            for region in regions(mask)
        ]
        wrong = sum(int(((values >= threshold) & ~mask).sum()) for mask, values in zip(masks, maps, strict=True))
        points.append((wrong / outside, sum(overlaps) / len(overlaps)))
    return area_to(points, limit)


def pro_released(masks: Arrays, maps: Arrays) -> float | None:
    low, high = (float(pick([values.astype(float) for values in maps])) for pick in (np.min, np.max))
    outside = sum(int((~mask).sum()) for mask in masks)
    kept: Points = []
    for step in range(200):
        threshold = low + step * ((high - low) / 200)
        overlaps = [
            sum(float(values[place]) > threshold for place in region) / len(region)
            for mask, values in zip(masks, maps, strict=True)
            for region in regions(mask)
        ]
        over = [values.astype(float) > threshold for values in maps]
        wrong = sum(int((above & ~mask).sum()) for mask, above in zip(masks, over, strict=True))
        if wrong / outside < 0.3:
            kept.append((wrong / outside, sum(overlaps) / len(overlaps)))
    if not kept or kept[0][0] == kept[-1][0]:
        return None
    first, last = kept[-1][0], kept[0][0]
    stretched = [((x - first) / (last - first), y) for x, y in reversed(kept)]
    return area_to(stretched, 1.0)


def spro(defects: Sequence[Sequence[Defect]], maps: Arrays, limit: float) -> float:
    points: Points = [(0.0, 0.0)]
    free = [
        ~np.any([np.zeros(values.shape, bool), *(defect.pixels for defect in found)], axis=0)
        for values, found in zip(maps, defects, strict=True)
    ]
    for threshold in thresholds(np.concatenate([values.ravel() for values in maps])):
        overlaps = [
            min(int((values[defect.pixels] >= threshold).sum()) / defect.saturation, 1.0)
            for values, found in zip(maps, defects, strict=True)
            for defect in found
        ]
        wrong = sum(int(((values >= threshold) & marked).sum()) for values, marked in zip(maps, free, strict=True))
        points.append((wrong / sum(int(marked.sum()) for marked in free), sum(overlaps) / len(overlaps)))
    return area_to(points, limit)


@st.composite
def labelled_maps(draw: st.DrawFn, most: int = 3, side: int = 5, levels: int = 9) -> tuple[NDArray, NDArray]:
    """Masks and float32 maps (N, h, w), with an anomalous and a normal pixel; few levels, so that ties abound."""
    shape = (draw(st.integers(1, most)), draw(st.integers(1, side)), draw(st.integers(2, side)))
    size = shape[0] * shape[1] * shape[2]
    marks = draw(st.lists(st.booleans(), min_size=size, max_size=size).filter(lambda m: 0 < sum(m) < len(m)))
    scores = draw(st.lists(st.integers(-levels // 2, levels // 2), min_size=size, max_size=size))
    return np.array(marks).reshape(shape), (np.array(scores, np.float32) / 4).reshape(shape)


def drawn_blobs(seed: int, images: int = 6, side: int = 48) -> tuple[NDArray, NDArray]:
    """Masks with some rectangles, and maps with as many distinct scores as pixels that follow them partly."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((images, side, side), bool)
    for index in range(1, images):
        for _ in range(index % 4):
            top, left = generator.integers(0, side - 8, 2)
            height, width = generator.integers(1, 9, 2)
            masks[index, top : top + height, left : left + width] = True
    maps = generator.gamma(2.0, 0.2, masks.shape) + masks * generator.uniform(0.2, 1.0, (images, 1, 1))
    return masks, maps.astype(np.float32)
