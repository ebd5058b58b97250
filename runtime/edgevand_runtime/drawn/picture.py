"""One part in one pose, whole or defective, and the truth of what differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgevand_runtime.drawn.defects import plan
from edgevand_runtime.drawn.surface import Surface, compose

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from edgevand_runtime.drawn.blueprint import Blueprint
    from edgevand_runtime.drawn.defects import Change
    from edgevand_runtime.drawn.fields import Field
    from edgevand_runtime.drawn.surface import Light, Pose

__all__ = ["VISIBLE", "Scene", "to_uint8", "truth_mask"]

VISIBLE = 10
"""Least change of a channel, in grey levels of 255, that counts as visible."""

_LEAST_AREA = 1 / 4000  # of the frame: a change that shows on fewer pixels is drawn anew
_TRIES = 8


def to_uint8(picture: Field, noise: Field | None = None) -> NDArray[np.uint8]:
    """(3, H, W) in [0, 1] to (H, W, 3) BGR uint8, with (H, W) sensor noise in grey levels added."""
    levels = picture * 255
    if noise is not None:
        levels += noise
    return np.asarray(cv2.merge([cv2.convertScaleAbs(np.maximum(plane, 0)) for plane in levels]), np.uint8)


def truth_mask(whole: Field, defective: Field) -> NDArray[np.uint8]:
    """Where two noise-free pictures differ visibly, gaps of a pixel closed.

    Args:
        whole: (3, H, W) in [0, 1].
        defective: likewise.

    Returns:
        (H, W) uint8, 0 or 255.
    """
    visible = (np.abs(whole - defective).max(axis=0) * 255 >= VISIBLE).astype(np.uint8) * 255
    return np.asarray(cv2.morphologyEx(visible, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A part on a ground under a light.

    Attributes:
        ground: (3, H, W) BGR in [0, 1], lit.
        blueprint: the part.
        pose: where it lies.
        light: the lamp.
    """

    ground: Field
    blueprint: Blueprint
    pose: Pose
    light: Light

    def surface(self, change: Change | None = None) -> Surface:
        """The part, drawn."""
        size = (self.ground.shape[2], self.ground.shape[1])
        surface = Surface(size, self.pose, change.warp if change else None)
        self.blueprint.draw(surface, without=change.without if change else None)
        if change and change.apply:
            change.apply(surface)
        return surface

    def picture(self, surface: Surface) -> Field:
        """The surface on its ground, (3, H, W) in [0, 1]."""
        return compose(self.ground, surface, self.light, thickness=self.blueprint.thickness)

    def defective(self, kind: str, rng: Generator) -> tuple[Field, NDArray[np.uint8]]:
        """The picture with a defect of this kind, and its truth mask.

        A defect that hardly shows (dark on dark, inside a hole) is planned anew, at most a few times.
        """
        drawn = self.surface()
        whole = self.picture(drawn)
        for _ in range(_TRIES):
            picture = self.picture(self.surface(plan(kind, rng, self.blueprint, drawn)))
            truth = truth_mask(whole, picture)
            if np.count_nonzero(truth) >= _LEAST_AREA * truth.size:
                break
        return picture, truth
