"""Everything that can be drawn, by name, and single pictures of it with any ground, pose and light."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgevand_runtime.drawn.defects import defects_of
from edgevand_runtime.drawn.fields import Field, noise_tile, sample
from edgevand_runtime.drawn.parts import PARTS, pick
from edgevand_runtime.drawn.picture import Scene, to_uint8
from edgevand_runtime.drawn.prints import PRINTS
from edgevand_runtime.drawn.surface import Light, Pose
from edgevand_runtime.drawn.textures import TEXTURES

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

__all__ = ["CATALOGUE", "Drawing", "Product"]

CATALOGUE = {**PARTS, **TEXTURES, **PRINTS}

_GROUNDS = ("5a5f63", "26282b", "8a8d90", "c9c6be", "3d4a55", "6a5a48", "e6e4de")
_POSE, _DEFECT, _SENSOR = range(3)


class Drawing(NamedTuple):
    """A picture (H, W, 3) BGR uint8, where it is defective (H, W) uint8 or None, and the kind of defect or None."""

    image: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None
    defect: str | None


class Product:
    """One design before one camera; every picture is a pure function of (name, seed, index)."""

    def __init__(self, name: str, seed: int, size: int = 224) -> None:
        """Design it.

        Args:
            name: a key of ``CATALOGUE``.
            seed: which design, ground and light; not negative.
            size: side of a picture in pixels.
        """
        self.name = name
        self.size = size
        self._key = [zlib.crc32(name.encode()), seed]
        rng = np.random.default_rng(self._key)
        self.blueprint = CATALOGUE[name](rng)
        self.kinds = defects_of(self.blueprint)
        self._fills = name in TEXTURES
        self._ground = _ground(rng, size)
        self._turn = float(rng.uniform(0, 2 * np.pi)) if not self._fills else 0.0
        self._gain, self._lamp = float(rng.uniform(0.8, 1.05)), float(rng.uniform(0, 2 * np.pi))
        self._noise = float(rng.uniform(0.5, 3))

    def draw(self, index: int, defect: str | None = None) -> Drawing:
        """One picture.

        Args:
            index: which; the same index with and without a defect has the same pose, light and noise.
            defect: one of ``kinds``; None for a normal one.
        """
        scene = self._scene(index)
        noise = self._sensor(index)
        if defect is None:
            return Drawing(to_uint8(scene.picture(scene.surface()), noise), None, None)
        picture, truth = scene.defective(defect, np.random.default_rng([*self._key, index, _DEFECT]))
        return Drawing(to_uint8(picture, noise), truth, defect)

    def _scene(self, index: int) -> Scene:
        """Pose and light, slightly different from picture to picture."""
        rng = np.random.default_rng([*self._key, index, _POSE])
        half = self.size / 2
        scale = half * (1.0 if self._fills else rng.normal(0.78, 0.02))
        moved = rng.uniform(-0.5, 0.5, 2) if self._fills else rng.normal(0, 0.03, 2)
        cx, cy = (half + scale * float(n) for n in moved)
        pose = Pose(cx, cy, self._turn + float(rng.normal(0, 0.04)), float(scale))
        turn, gain = self._lamp + float(rng.normal(0, 0.05)), self._gain * float(rng.normal(1, 0.02))
        light = Light((0.71 * float(np.cos(turn)), 0.71 * float(np.sin(turn)), 0.70), gain)
        return Scene(np.asarray(self._ground * gain, np.float32), self.blueprint, pose, light)

    def _sensor(self, index: int) -> Field:
        """Sensor noise, (H, W) in grey levels."""
        rng = np.random.default_rng([*self._key, index, _SENSOR])
        return np.asarray(rng.normal(0, self._noise, (self.size, self.size)), np.float32)


def _ground(rng: Generator, size: int) -> Field:
    """What the part lies on."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) * (160 / size)
    slope, stretch = float(rng.uniform(0.5, 1.6)), ((1.0, 1.0), (10.0, 1.0))[rng.integers(2)]
    cloud = sample(noise_tile(int(rng.integers(8)), slope, stretch), x, y)
    return np.asarray(pick(rng, _GROUNDS)[:, None, None] * (1 + rng.uniform(0.01, 0.08) * cloud), np.float32)
