"""Everything in a picture, as SAM's automatic mask generation finds it (Kirillov et al., ICCV 2023; its defaults).

A grid of points is asked one by one; each point has three masks. A mask is kept if SAM itself trusts it (predicted
intersection over union), if it hardly changes when its threshold does (stability), and if no better mask has nearly the
same box (non-maximum suppression). No crops, no least area.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Decoder = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]

__all__ = ["EverythingRule", "everything", "point_grid", "sam_input", "scaled_size"]

MEAN = np.array((123.675, 116.28, 103.53), np.float32)
STD = np.array((58.395, 57.12, 57.375), np.float32)
POINTS_AT_ONCE = 64


class EverythingRule(NamedTuple):
    """Defaults of the release."""

    points: int = 32
    """On each side of the grid."""
    iou: float = 0.88
    """Least predicted intersection over union."""
    stability: float = 0.95
    """Least stability."""
    offset: float = 1.0
    """Of the threshold, either way, in logits."""
    suppression: float = 0.7
    """Intersection over union of boxes, above which the less trusted mask goes."""


def everything(decode: Decoder, size: tuple[int, int], side: int, rule: EverythingRule) -> list[NDArray[np.bool_]]:
    """All masks of a picture.

    Args:
        decode: points (P, 2) float32 in pixels of SAM's input to logits (P, 3, h, w) and predicted IoU (P, 3).
        size: width and height of the picture.
        side: of SAM's input.
        rule: what is kept.

    Returns:
        (H, W) each, best first.
    """
    width, height = size
    inner = scaled_size(size, side)
    points = point_grid(rule.points) * np.array(inner, np.float32)
    packed, boxes, trust = [], [], []
    for start in range(0, len(points), POINTS_AT_ONCE):
        logits, predicted = decode(points[start : start + POINTS_AT_ONCE])
        for low, iou in _trusted(logits, predicted, rule.iou):
            mask = _enlarged(low, inner, side, size)
            if _stability(mask, rule.offset) >= rule.stability and (inside := mask > 0).any():
                packed.append(np.packbits(inside))
                boxes.append(_box(inside))
                trust.append(iou)
    kept = _suppress(np.array(boxes, np.float64).reshape(-1, 4), np.array(trust), rule.suppression)
    pixels = width * height
    return [np.unpackbits(packed[index], count=pixels).astype(np.bool_).reshape(height, width) for index in kept]


def point_grid(count: int) -> NDArray[np.float32]:
    """(count², 2) x, y in (0, 1): the middles of ``count`` by ``count`` cells, row by row."""
    middles = (np.arange(count, dtype=np.float32) + np.float32(0.5)) / np.float32(count)
    x, y = np.meshgrid(middles, middles)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def scaled_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height of a picture whose longer side is scaled to ``side``."""
    scale = side / max(size)
    return int(size[0] * scale + 0.5), int(size[1] * scale + 0.5)


def sam_input(image: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """(H, W, 3) uint8 BGR to (1, 3, side, side) float32: longer side scaled (bilinear), the rest padded with 0."""
    inner = scaled_size((image.shape[1], image.shape[0]), side)
    rgb = Image.fromarray(np.ascontiguousarray(image[..., ::-1])).resize(inner, Image.Resampling.BILINEAR)
    padded = np.zeros((side, side, 3), np.float32)
    padded[: inner[1], : inner[0]] = (np.asarray(rgb, np.float32) - MEAN) / STD
    return np.ascontiguousarray(padded.transpose(2, 0, 1)[None])


def _trusted(
    logits: NDArray[np.float32], predicted: NDArray[np.float32], least: float
) -> Iterator[tuple[NDArray[np.float32], float]]:
    """Masks (h, w) whose predicted intersection over union is above ``least``."""
    for point, mask in np.argwhere(predicted > least):
        yield logits[point, mask], float(predicted[point, mask])


def _enlarged(
    low: NDArray[np.float32], inner: tuple[int, int], side: int, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Logits on SAM's coarse grid as logits of the picture's pixels: to SAM's input, without its padding, to size."""
    whole = cv2.resize(low, (side, side), interpolation=cv2.INTER_LINEAR)
    large = cv2.resize(whole[: inner[1], : inner[0]], size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.float32)


def _stability(mask: NDArray[np.float32], offset: float) -> float:
    """Intersection over union of the masks at the threshold plus and minus the offset."""
    union = np.count_nonzero(mask > -offset)
    return np.count_nonzero(mask > offset) / union if union else 0.0


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom pixel, as SAM's boxes have it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _suppress(boxes: NDArray[np.float64], trust: NDArray[np.float64], limit: float) -> list[int]:
    """Positions of the boxes that stay, most trusted first."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left = np.argsort(-trust, kind="stable")
    kept = []
    while len(left):
        best, others = left[0], left[1:]
        kept.append(int(best))
        sides = np.minimum(boxes[best, 2:], boxes[others, 2:]) - np.maximum(boxes[best, :2], boxes[others, :2])
        shared = sides.clip(min=0).prod(axis=1)
        union = areas[best] + areas[others] - shared
        iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        left = others[iou <= limit]
    return kept
