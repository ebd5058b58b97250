"""From a draw to what the encoder reads and what the heads should say, by the runtime's own preprocessing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgevand_export.training.plan import MOSAIC
from edgevand_runtime.datasets import mask_at, read_mask
from edgevand_runtime.preprocess import load_image, squash, to_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand.bundle import ImageRecord
    from edgevand_export.training.plan import Draw

__all__ = ["Picture", "collage", "read_draw"]


class Picture(NamedTuple):
    """One training picture.

    Attributes:
        pixels: (3, S, S) float32, normalised, as the encoder reads them.
        mask: (S, S) bool, True where anomalous.
    """

    pixels: NDArray[np.float32]
    mask: NDArray[np.bool_]


def read_draw(draw: Draw, image: ImageRecord) -> Picture:
    """Read a draw's files.

    Args:
        draw: one picture, or the four of a collage.
        image: size, mean and standard deviation of the encoder's input.

    Raises:
        FrameError: a file is missing or damaged.
        BadInputError: a mask that does not fit its picture.
    """
    pictures, masks = [], []
    for sample in draw.parts:
        picture = load_image(sample.image)
        pictures.append(picture)
        masks.append(read_mask(sample, (picture.shape[0], picture.shape[1])))
    whole, mask = collage(pictures, masks) if len(pictures) == MOSAIC else (pictures[0], masks[0])
    return Picture(to_tensor(whole, image), mask_at(mask, (image.height, image.width)))


def collage(
    pictures: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.bool_]]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Put four pictures into a 2 x 2 grid at full size: top left, top right, bottom left, bottom right.

    Args:
        pictures: four of (H, W, 3) uint8 BGR. The first gives the size of a cell; others are squashed to it.
        masks: four of (H, W) bool, each of its picture's size.

    Returns:
        (2H, 2W, 3) uint8 BGR and (2H, 2W) bool.
    """
    height, width = pictures[0].shape[:2]
    whole = np.empty((2 * height, 2 * width, 3), np.uint8)
    mask = np.empty((2 * height, 2 * width), np.bool_)
    for number, (picture, part) in enumerate(zip(pictures, masks, strict=True)):
        row, column = divmod(number, 2)
        cell = np.s_[row * height : (row + 1) * height, column * width : (column + 1) * width]
        same = picture.shape[:2] == (height, width)
        whole[cell] = picture if same else squash(picture, (width, height))[..., ::-1]
        mask[cell] = part if same else mask_at(part, (height, width))
    return whole, mask
