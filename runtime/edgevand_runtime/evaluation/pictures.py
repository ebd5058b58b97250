"""A picture of a frame that was judged wrongly: the frame itself beside its heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgevand_runtime.overlay import draw_overlay

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevand_runtime.results import Result

__all__ = ["draw_worst"]

_SIDE = 400
"""Width of each half, in pixels; a report holds tens of these."""

_TRUTH = (80, 220, 60)
_QUALITY = 82


def draw_worst(
    image: NDArray[np.uint8],
    result: Result,
    mask: NDArray[np.bool_] | None = None,
    *,
    uncalibrated_scale: float | None = None,
) -> bytes:
    """Draw a frame, its labelled defect outlined in green, and beside it the frame with its map, boxes and scores.

    Args:
        image: (H, W, 3) uint8 BGR, the frame that the result belongs to; it is not written to.
        result: its verdict.
        mask: (H, W) bool, the labelled defect; None or all False draws no outline.
        uncalibrated_scale: as for ``overlay.draw_overlay``.

    Returns:
        JPEG bytes, about 800 pixels wide.
    """
    overlay = draw_overlay(image, result, uncalibrated_scale=uncalibrated_scale)
    right = _fit(overlay)
    plain = image
    if mask is not None and mask.any():
        plain = image.copy()
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        line = max(1, round(2 * image.shape[1] / _SIDE))
        cv2.drawContours(plain, outlines, -1, (0, 0, 0), line + 2, cv2.LINE_AA)
        cv2.drawContours(plain, outlines, -1, _TRUTH, line, cv2.LINE_AA)
    left = _fit(plain)
    sheet = np.full((max(left.shape[0], right.shape[0]), 2 * _SIDE + 4, 3), (31, 27, 24), np.uint8)
    sheet[: left.shape[0], :_SIDE] = left
    sheet[: right.shape[0], _SIDE + 4 :] = right
    _, jpeg = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return jpeg.tobytes()


def _fit(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture at the width of one half."""
    height = max(1, round(picture.shape[0] * _SIDE / picture.shape[1]))
    filter_ = cv2.INTER_AREA if picture.shape[1] > _SIDE else cv2.INTER_CUBIC
    return cv2.resize(picture, (_SIDE, height), interpolation=filter_).astype(np.uint8)
