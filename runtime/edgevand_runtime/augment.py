"""Augmented copies for the memory bank: a part that arrives in any pose is normal in any pose.

The rotations are those of AnomalyDINO's "agnostic" setting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from edgevand.bundle import Manifest

__all__ = ["augmented_copies", "chosen_poses"]

_KINDS: tuple[Literal["rotate", "flip"], ...] = ("rotate", "flip")

_STEP = 45.0
"""Degrees between rotated copies: eight poses with the frame itself."""


def chosen_poses(
    augment: Collection[str] | None, manifest: Manifest, *, follow: bool = True
) -> tuple[Literal["rotate", "flip"], ...]:
    """What is added to a bank: what a person chose, or where nobody chose (None), what the bundle recommends.

    Args:
        augment: what a person chose.
        manifest: of the bundle.
        follow: whether its recommendation is good for the method (``MethodKind.poses``).
    """
    recommended = manifest.enrol.augment if follow else ()
    chosen = recommended if augment is None else augment
    return tuple(name for name in _KINDS if name in chosen)


def augmented_copies(image: NDArray[np.uint8], augment: Collection[str]) -> list[NDArray[np.uint8]]:
    """Turned and mirrored copies of a frame, without the frame itself.

    Args:
        image: (H, W, 3) uint8.
        augment: ``rotate`` gives the seven further multiples of 45 degrees (bilinear, reflected border);
            ``flip`` the left-right mirror image; both give all fifteen combinations.
    """
    poses = [image]
    if "rotate" in augment:
        poses += [_rotated(image, _STEP * turn) for turn in range(1, round(360 / _STEP))]
    if "flip" in augment:
        poses += [np.ascontiguousarray(pose[:, ::-1]) for pose in poses]
    return poses[1:]


def _rotated(image: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    turned = cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(turned, np.uint8)
