"""The object in a picture as DIS (IS-Net) sees it (Qin et al., ECCV 2022; preprocessing as released).

1024 x 1024 bilinear without antialiasing, /255, minus 0.5; the answer is enlarged to the picture and stretched to
[0, 1]. The release rounds the resized picture down to whole numbers of 255, which is left out here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["dis_input", "salient"]

_HALF = 0.5


def dis_input(image: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """(H, W, 3) uint8 BGR to (1, 3, side, side) float32 in [-0.5, 0.5], RGB."""
    rgb = image[..., ::-1].astype(np.float32)
    small = cv2.resize(rgb, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray((small / np.float32(255) - np.float32(_HALF)).transpose(2, 0, 1)[None])


def salient(answer: NDArray[np.float32], size: tuple[int, int], threshold: float) -> NDArray[np.bool_]:
    """Pixels of the object.

    Args:
        answer: (side, side) float32, the network's, in [0, 1].
        size: width and height of the picture.
        threshold: on the answer stretched to [0, 1].

    Returns:
        (H, W); nowhere true where the answer is the same everywhere.
    """
    large = cv2.resize(answer, size, interpolation=cv2.INTER_LINEAR)
    low, high = float(large.min()), float(large.max())
    if not high > low:
        return np.zeros(large.shape, np.bool_)
    return np.asarray((large - low) / (high - low) > threshold)
