"""One kind of object before one camera: normal pictures, damaged ones, ones with pieces wrong, and where.

Every picture is a pure function of (object, seed, index). Unlike those of ``drawn.catalogue``, pictures need not be
square and may show several objects, and defects can be logical: each piece is sound, but one is missing, one is too
many or in a wrong place.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgevand.errors import UsageError
from edgevand_runtime.datasets.making.view import View, moved, together
from edgevand_runtime.drawn.catalogue import CATALOGUE
from edgevand_runtime.drawn.defects import Change, defects_of, plan
from edgevand_runtime.drawn.fields import Field, noise_tile, sample
from edgevand_runtime.drawn.parts import pick
from edgevand_runtime.drawn.picture import to_uint8, truth_mask
from edgevand_runtime.drawn.surface import Light, Pose
from edgevand_runtime.drawn.textures import TEXTURES

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

__all__ = ["LOGICAL", "Camera", "Mark", "Shot", "lay_ground", "shows", "widened"]

LOGICAL = ("missing", "additional", "misplaced")
"""What can be wrong with pieces that are sound."""

_GROUNDS = ("5a5f63", "26282b", "8a8d90", "c9c6be", "3d4a55", "6a5a48", "e6e4de")
_FAMILY = 0xDA7A  # designs other than those that ``drawn.catalogue`` makes of the same seed
_DESIGN, _POSE, _DEFECT, _SENSOR, _KINDS = range(5)
_LEAST_AREA = 1 / 4000  # of the picture: what shows on fewer pixels is planned anew
_LEAST_PIXELS = 4
_TRIES = 50
_SCALE = 0.39  # of the shorter side of an object's cell, for one part unit


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """One defect of a picture.

    Attributes:
        name: kind of damage with ``_`` for blanks, or ``missing_<n>``, ``additional_<n>`` for piece n.
        mask: (H, W) uint8, 0 or 255.
    """

    name: str
    mask: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A picture (H, W, 3) BGR uint8 and its defects; none for a normal one."""

    image: NDArray[np.uint8]
    marks: tuple[Mark, ...] = ()

    @property
    def union(self) -> NDArray[np.uint8]:
        """(H, W) uint8, 0 or 255: where any defect is."""
        return np.asarray(np.max([mark.mask for mark in self.marks], axis=0), np.uint8)


class Camera:
    """What one class of a drawn dataset is photographed with."""

    logical = LOGICAL

    def __init__(
        self, name: str, seed: int, size: tuple[int, int], *, cells: tuple[int, int] = (1, 1), upright: bool = False
    ) -> None:
        """Design the object, the ground and the light.

        Args:
            name: a key of ``CATALOGUE``.
            seed: which design; not negative.
            size: width and height of a picture in pixels.
            cells: columns and rows of objects in a picture; a surface without an outline always fills it.
            upright: whether the object lies straight; otherwise at an angle of its own.
        """
        self._size = size
        self._key = [_FAMILY, zlib.crc32(name.encode()), seed]
        rng = np.random.default_rng([*self._key, _DESIGN])
        self._blueprint = CATALOGUE[name](rng)
        self.kinds = defects_of(self._blueprint)
        self._pieces: dict[int, int] | None = None
        self._fills = name in TEXTURES
        self._cells = (1, 1) if self._fills else cells
        self._ground = lay_ground(rng, size)
        turn = float(rng.uniform(0, 2 * np.pi))
        self._turn = 0.0 if upright or self._fills else turn
        self._gain, self._lamp = float(rng.uniform(0.8, 1.05)), float(rng.uniform(0, 2 * np.pi))
        self._noise = float(rng.uniform(0.5, 3))

    def normal(self, index: int) -> Shot:
        """A picture without a defect; ``index`` says which."""
        return Shot(self._expose(self._view(index).picture({}), index))

    def damaged(self, index: int, *kinds: str) -> Shot:
        """A picture of an object with damage.

        Args:
            index: which; with and without damage it has the same pose, light and noise.
            kinds: of ``self.kinds``, each once; all but the first leave the object its shape.

        Raises:
            UsageError: the damage is too small to be seen in this picture.
        """
        view, rng = self._view(index), self._dice(index, _DEFECT)
        place = int(rng.integers(len(view.poses)))
        whole, surface = view.picture({}), view.surface(place)
        changes, marks = [], []
        for kind in kinds:
            for _ in range(_TRIES):
                change = plan(kind, rng, self._blueprint, surface)
                picture = view.picture({place: (self._blueprint, change)})
                mask = truth_mask(whole, picture)
                if shows(mask):
                    break
            else:
                raise UsageError(self._unseen(kind))
            changes.append(change)
            marks.append(Mark(kind.replace(" ", "_"), mask))
        if len(changes) > 1:
            picture = view.picture({place: (self._blueprint, together(changes))})
        return Shot(self._expose(picture, index), tuple(marks))

    def illogical(self, index: int, kind: str) -> Shot:
        """A picture of an object whose pieces are sound but wrong.

        The mask of a missing piece is wider than the piece: it marks where the piece could be. A misplaced piece is
        one that is missing here and additional there.

        Args:
            index: which.
            kind: of ``LOGICAL``; ``pieces`` must not be empty.

        Raises:
            UsageError: the pieces are too small to be seen in this picture.
        """
        view, rng = self._view(index), self._dice(index, _DEFECT)
        whole = view.picture({})
        for piece in map(int, rng.permutation(list(self.pieces()))):
            lacking = view.picture({0: (self._blueprint, Change(without=piece))})
            gap = truth_mask(whole, lacking)
            if shows(gap):
                break
        else:
            raise UsageError(self._unseen(kind))
        missing = Mark(f"missing_{piece}", widened(gap))
        if kind == "missing":
            return Shot(self._expose(lacking, index), (missing,))
        kept, before = self._blueprint.pieces, whole
        if kind == "misplaced":
            kept, before = (*kept[:piece], *kept[piece + 1 :]), lacking
        for _ in range(_TRIES):
            elsewhere = moved(self._blueprint.pieces[piece], view.way(0, gap, rng))
            picture = view.picture({0: (replace(self._blueprint, pieces=(*kept, elsewhere)), None)})
            mask = truth_mask(before, picture)
            if shows(mask):
                break
        else:
            raise UsageError(self._unseen(kind))
        additional = Mark(f"additional_{piece}", mask)
        marks = (missing, additional) if kind == "misplaced" else (additional,)
        return Shot(self._expose(picture, index), marks)

    def _unseen(self, defect: str) -> str:
        """The sentence for a defect that cannot be seen wherever it is drawn."""
        return f"expected the defect {defect!r} of {self._blueprint.name} to be seen, found it too small; raise --size"

    def pieces(self) -> dict[int, int]:
        """The pieces that can be seen to be missing, and how many pixels of picture 0 show it."""
        if self._pieces is None:
            self._pieces = self._find_pieces()
        return self._pieces

    def _find_pieces(self) -> dict[int, int]:
        """See ``pieces``."""
        view = self._view(0)
        whole = view.picture({})
        gaps = {
            piece: truth_mask(whole, view.picture({0: (self._blueprint, Change(without=piece))}))
            for piece in self._blueprint.removable
        }
        return {piece: int(np.count_nonzero(gap)) for piece, gap in gaps.items() if shows(gap)}

    def some_kinds(self, count: int) -> tuple[str, ...]:
        """A few of the kinds of damage, which ones being part of the design."""
        order = self._dice(0, _KINDS).permutation(len(self.kinds))[:count]
        return tuple(self.kinds[number] for number in sorted(order))

    def _view(self, index: int) -> View:
        """Poses and light, slightly different from picture to picture."""
        rng = self._dice(index, _POSE)
        columns, rows = self._cells
        width, height = self._size[0] / columns, self._size[1] / rows
        poses = []
        for number in range(columns * rows):
            scale = max(width, height) / 2 if self._fills else _SCALE * min(width, height) * rng.normal(1, 0.02)
            way = rng.uniform(-0.5, 0.5, 2) if self._fills else rng.normal(0, 0.03, 2)
            cx = width * (number % columns + 0.5) + scale * float(way[0])
            cy = height * (number // columns + 0.5) + scale * float(way[1])
            poses.append(Pose(cx, cy, self._turn + float(rng.normal(0, 0.03)), float(scale)))
        turn, gain = self._lamp + float(rng.normal(0, 0.05)), self._gain * float(rng.normal(1, 0.02))
        light = Light((0.71 * float(np.cos(turn)), 0.71 * float(np.sin(turn)), 0.70), gain)
        return View(np.asarray(self._ground * gain, np.float32), self._blueprint, tuple(poses), light)

    def _expose(self, picture: Field, index: int) -> NDArray[np.uint8]:
        """With this picture's sensor noise, as bytes."""
        width, height = self._size
        noise = self._dice(index, _SENSOR).normal(0, self._noise, (height, width))
        return to_uint8(picture, np.asarray(noise, np.float32))

    def _dice(self, index: int, stream: int) -> Generator:
        """Random numbers of one picture; the streams do not disturb each other."""
        return np.random.default_rng([*self._key, index, stream])


def shows(mask: NDArray[np.uint8]) -> bool:
    """Whether a defect can be seen."""
    return int(np.count_nonzero(mask)) >= max(_LEAST_PIXELS, _LEAST_AREA * mask.size)


def widened(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A mask with a margin of a fortieth of the picture."""
    side = 2 * (min(mask.shape) // 40) + 1
    return np.asarray(cv2.dilate(mask, np.ones((side, side), np.uint8)), np.uint8)


def lay_ground(rng: Generator, size: tuple[int, int]) -> Field:
    """What the object lies on, (3, H, W)."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) * np.float32(160 / min(size))
    slope, stretch = float(rng.uniform(0.5, 1.6)), ((1.0, 1.0), (10.0, 1.0))[rng.integers(2)]
    cloud = sample(noise_tile(int(rng.integers(8)), slope, stretch), x, y)
    return np.asarray(pick(rng, _GROUNDS)[:, None, None] * (1 + rng.uniform(0.01, 0.08) * cloud), np.float32)
