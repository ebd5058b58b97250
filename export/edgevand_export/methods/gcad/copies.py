"""Augmented copies of the training's frames, made once before it: the set becomes 1 + ``copies`` times as large.

Source: the Course, which flips, turns by up to 30 degrees and jitters colours, five times as many pictures in all. On
fixed cameras a mirrored or turned layout is itself an anomaly, so only colours are jittered unless one asks for more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevand_runtime.methods.gcad import GcadSettings

__all__ = ["copies_of", "jittered"]

_GREY = np.array([0.114, 0.587, 0.299], np.float32)
"""Weights of blue, green and red in the grey value (ITU-R BT.601)."""


def copies_of(image: NDArray[np.uint8], frame: int, settings: GcadSettings) -> list[NDArray[np.uint8]]:
    """The copies of one frame; the same for every run with these settings.

    Args:
        image: (H, W, 3) uint8 BGR.
        frame: its number, part of the seed.
        settings: of the training.
    """
    found = []
    for copy in range(settings.copies):
        rng = np.random.default_rng([settings.seed, frame, copy])
        picture = image
        if settings.flips:
            across, down = rng.random(2) < 0.5  # noqa: PLR2004 (as often as not)
            picture = picture[:: -1 if down else 1, :: -1 if across else 1]
        if settings.rotation:
            picture = _turned(np.ascontiguousarray(picture), rng.uniform(-settings.rotation, settings.rotation))
        found.append(jittered(picture, *(1 + settings.jitter * rng.uniform(-1, 1, 3))))
    return found


def jittered(image: NDArray[np.uint8], brightness: float, contrast: float, saturation: float) -> NDArray[np.uint8]:
    """Change a picture's colours, one after the other, each held within black and white.

    Args:
        image: (H, W, 3) uint8 BGR.
        brightness: factor of all values.
        contrast: factor of the distance from the picture's mean grey.
        saturation: factor of the distance from each pixel's grey.
    """
    values = (image.astype(np.float32) * np.float32(brightness)).clip(0, 255)
    values = _apart(values, (values @ _GREY).mean(), contrast)
    values = _apart(values, (values @ _GREY)[..., None], saturation)
    return values.round().astype(np.uint8)


def _apart(values: NDArray[np.float32], middle: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    apart: NDArray[np.float32] = (middle + np.float32(factor) * (values - middle)).clip(0, 255)
    return apart


def _turned(image: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    """Turned about the middle, bilinear, with a mirrored border."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    turned = cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(turned, np.uint8)
