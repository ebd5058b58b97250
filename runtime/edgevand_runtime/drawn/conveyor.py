"""``test://conveyor``: machined parts pass one after the other under a fixed camera, and some are defective."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgevand_runtime.drawn.defects import defects_of
from edgevand_runtime.drawn.fields import Field, colour, noise_tile
from edgevand_runtime.drawn.parts import flange
from edgevand_runtime.drawn.picture import Scene, to_uint8
from edgevand_runtime.drawn.surface import Light, Pose

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ConveyorScene"]

_NOISE = 1.6  # sensor noise, grey levels of 255
_NOISE_TILE = 1024
# What is drawn from (seed, index, stream): the streams do not disturb each other.
_POSE, _DEFECT, _SENSOR = range(3)


class ConveyorScene:
    """A belt, a lamp and one kind of part. Every frame is a pure function of (seed, index)."""

    def __init__(
        self, seed: int = 0, defect_rate: float = 0.1, size: tuple[int, int] = (640, 480), clean_start: int = 20
    ) -> None:
        """Design the part and the belt.

        Args:
            seed: which belt and which part; not negative.
            defect_rate: share of defective parts, 0..1.
            size: width and height of a frame in pixels.
            clean_start: so many frames at the beginning are always normal, for enrolment.
        """
        self.seed = seed
        self.defect_rate = defect_rate
        self.size = size
        self.clean_start = clean_start
        self.blueprint = flange(np.random.default_rng([seed, 7]))
        self.kinds = defects_of(self.blueprint)
        self._belt = _belt(size, seed)
        self._frame_around = _surroundings(size)

    def frame(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, str | None]:
        """One frame.

        Args:
            index: 0-based.

        Returns:
            The picture (H, W, 3) BGR uint8; where it is defective, (H, W) uint8, 0 or 255, None for a normal one;
            the kind of defect, None for a normal one.
        """
        rng = np.random.default_rng([self.seed, index, _DEFECT])
        if index < self.clean_start or rng.random() >= self.defect_rate:
            return self.clean(index), None, None
        kind = self.kinds[rng.integers(len(self.kinds))]
        picture, truth = self._scene(index).defective(kind, rng)
        return to_uint8(picture, self._noise(index)), truth, kind

    def clean(self, index: int) -> NDArray[np.uint8]:
        """The frame as it would be without a defect: same pose, light and noise."""
        scene = self._scene(index)
        return to_uint8(scene.picture(scene.surface()), self._noise(index))

    def _scene(self, index: int) -> Scene:
        """The part on the belt, with its small differences from frame to frame."""
        rng = np.random.default_rng([self.seed, index, _POSE])
        width, height = self.size
        scale = 0.33 * min(width, height)
        pose = Pose(
            cx=width / 2 + rng.normal(0, 0.02) * scale,
            cy=height / 2 + rng.normal(0, 0.02) * scale,
            angle=float(rng.normal(0, 0.015)),
            scale=float(scale * rng.normal(1, 0.003)),
        )
        gain = float(rng.normal(1, 0.015))
        moved = np.roll(self._belt, int(rng.integers(width)), axis=2)
        around, amount = self._frame_around
        ground = np.asarray((moved + (around - moved) * amount) * gain, np.float32)
        return Scene(ground, self.blueprint, pose, Light(gain=gain))

    def _noise(self, index: int) -> Field:
        """Sensor noise, (H, W) in grey levels."""
        rng = np.random.default_rng([self.seed, index, _SENSOR])
        tile = noise_tile(0, 0.0, size=_NOISE_TILE)
        shift = tuple(int(n) for n in rng.integers(_NOISE_TILE, size=2))
        rows, columns = (np.arange(n) + s for n, s in zip(reversed(self.size), shift, strict=True))
        return np.asarray(_NOISE * tile.take(rows, axis=0, mode="wrap").take(columns, axis=1, mode="wrap"), np.float32)


def _belt(size: tuple[int, int], seed: int) -> Field:
    """A rubber belt: woven, worn along its way; periodic along x."""
    width, height = size
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    weave = 0.012 * np.sin(2 * np.pi * x * round(width / 8) / width) * np.sin(2 * np.pi * y / 8)
    side = max(width, height)
    wear = cv2.resize(noise_tile(seed % 64 + 100, 1.3, (6.0, 1.0)), (width, side))[:height]
    belt = 0.2 + weave + 0.012 * wear
    return np.asarray(belt * np.array([1.06, 1.0, 0.94])[:, None, None], np.float32)


def _surroundings(size: tuple[int, int]) -> tuple[Field, Field]:
    """Guide rails above and below, which stand still, and the corners' fall of light: picture and opacity (H, W)."""
    width, height = size
    y = np.abs(np.arange(height, dtype=np.float32)[:, None] / height - 0.5) * 2
    rail = np.clip((y - 0.87) * height / 2 + 0.5, 0, 1)
    shine = 0.42 + 0.25 * np.exp(-(((y - 0.93) / 0.02) ** 2)) - 0.2 * np.clip((0.9 - y) / 0.03, 0, 1)
    brushed = cv2.resize(noise_tile(5, 0.8, (24.0, 1.0)), (width, height))
    picture = (shine + 0.012 * brushed) * colour("c6cbd0")[:, None, None]
    opacity = np.broadcast_to(rail, (height, width))
    return np.asarray(picture, np.float32), np.asarray(opacity, np.float32)
