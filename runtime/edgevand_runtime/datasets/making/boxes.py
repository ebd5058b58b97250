"""Boxes with items in places: every item is sound, and whether the right ones lie in the right places is what counts.

Trays with compartments as in MVTec LOCO (Bergmann et al., IJCV 2022). What varies and is normal: where and how an item
lies in its compartment, which of several colours it has, light, crumbs, noise. What is wrong logically: an item is
missing, doubled, in another compartment, or two have changed places; structurally: an item is damaged.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from edgevand.errors import UsageError
from edgevand_runtime.datasets.making.camera import Mark, Shot, lay_ground, shows, widened
from edgevand_runtime.datasets.making.view import together
from edgevand_runtime.drawn.blueprint import Blueprint, Piece, label, plate
from edgevand_runtime.drawn.catalogue import CATALOGUE
from edgevand_runtime.drawn.defects import plan
from edgevand_runtime.drawn.fields import Field, colour
from edgevand_runtime.drawn.parts import pick
from edgevand_runtime.drawn.picture import Scene, to_uint8, truth_mask
from edgevand_runtime.drawn.surface import Light, Material, Pose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray

    from edgevand_runtime.drawn.defects import Change

__all__ = ["BOXES", "BoxCamera"]

_FAMILY = 0xB0C5
_DESIGN, _LAYOUT, _DEFECT, _SENSOR = range(4)
_TRIES = 50
_CANDIDATES = 40  # places that are tried for an item that must lie clear of the others
_MARKS = {"scratch": 5, "dent": 3}  # how many on a damaged item; of other kinds one
_LEAST_DAMAGE = 1 / 600  # of the picture: below, nothing is left of it at the size at which encoders look
_TRAY = (1.22, 0.95)  # half the size of a tray, in tray units: half the shorter side of the picture
_CRUMBS = 6  # on average
_MOST_GLOOM = 0.08  # by which light falls off from one side of the picture to the other, and on the other


class Kind(NamedTuple):
    """One kind of item."""

    designs: tuple[Blueprint, ...]
    """Any of them is right."""
    radius: float
    """Tray units for one part unit."""
    turn: float
    """How it lies, in radians."""
    swing: float
    """How far it may be turned from that either way, in radians."""


class Compartment(NamedTuple):
    """A part of a tray."""

    centre: tuple[float, float]
    half: tuple[float, float]
    kinds: tuple[int, ...]
    """What belongs into it, by number of the kind."""
    loose: bool
    """Whether items lie anywhere in it; else each in its place in a row, give or take."""


class Design(NamedTuple):
    """A box with all that belongs into it."""

    kinds: tuple[Kind, ...]
    compartments: tuple[Compartment, ...]
    tray: str
    hollow: str
    """Colours, ``rrggbb``."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something that lies in a box: its kind and design, where (tray units) and how (radians), and in which part."""

    kind: int
    design: int
    x: float
    y: float
    turn: float
    compartment: int


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """One picture but for its items: the empty tray in its light, and where it lies."""

    empty: Field
    tray: Pose
    light: Light
    gloom: Field


class BoxCamera:
    """What one class of boxes is photographed with; every picture is a pure function of (name, seed, index)."""

    kinds = ("scratch", "dent", "stain", "broken")
    logical = ("missing", "additional", "misplaced", "swapped")

    def __init__(self, name: str, seed: int, size: tuple[int, int]) -> None:
        """Design the box and what lies in it.

        Args:
            name: a key of ``BOXES``.
            seed: which design; not negative.
            size: width and height of a picture in pixels, the width not below the height.
        """
        self._name = name
        self._size = size
        self._key = [_FAMILY, zlib.crc32(name.encode()), seed]
        rng = np.random.default_rng([*self._key, _DESIGN])
        self._design = BOXES[name](rng)
        self._ground = lay_ground(rng, size)
        self._tray = _tray(self._design)
        self._gain, self._lamp = float(rng.uniform(0.85, 1.0)), float(rng.uniform(0, 2 * np.pi))
        self._noise = float(rng.uniform(1.5, 3.5))

    def normal(self, index: int) -> Shot:
        """A picture of a box with everything in its place; ``index`` says which."""
        view, items = self._view(index)
        return Shot(self._expose(self._picture(view, items), index))

    def pieces(self) -> dict[int, int]:
        """The items by number, and how many pixels of picture 0 show each."""
        view, items = self._view(0)
        whole = self._picture(view, items)
        gaps = [
            truth_mask(whole, self._picture(view, [*items[:number], *items[number + 1 :]]))
            for number in range(len(items))
        ]
        return {number: int(np.count_nonzero(gap)) for number, gap in enumerate(gaps)}

    def damaged(self, index: int, *kinds: str) -> Shot:
        """A picture with one damaged item for each of ``kinds``.

        Raises:
            UsageError: the damage is too small to be seen in this picture.
        """
        view, items = self._view(index)
        rng = self._dice(index, _DEFECT)
        whole = self._picture(view, items)
        changes: dict[int, Change] = {}
        marks = []
        order = [int(number) for number in rng.permutation(len(items))]
        for kind in kinds:
            for number in order * _TRIES:
                if number in changes:
                    continue
                change = self._damage(kind, view, items[number], rng)
                mask = truth_mask(whole, self._picture(view, items, {number: change}))
                if np.count_nonzero(mask) >= _LEAST_DAMAGE * mask.size and shows(mask):
                    break
            else:
                raise UsageError(self._unseen(kind))
            changes[number] = change
            marks.append(Mark(kind, mask))
        return Shot(self._expose(self._picture(view, items, changes), index), tuple(marks))

    def _damage(self, kind: str, view: _View, item: Item, rng: Generator) -> Change:
        """Damage of one item."""
        blueprint, surface = self._blueprint(item), self._scene(view, item).surface()
        return together([plan(kind, rng, blueprint, surface) for _ in range(_MARKS.get(kind, 1))])

    def illogical(self, index: int, kind: str) -> Shot:
        """A picture of a box whose items are sound but not the right ones in the right places.

        The mask of a missing item is where it could be: its compartment where it lies loose, else its place with a
        margin. A misplaced item is one that is missing here and additional there.

        Args:
            index: which.
            kind: of ``logical``.

        Raises:
            UsageError: the items are too small to be seen in this picture.
        """
        view, items = self._view(index)
        rng = self._dice(index, _DEFECT)
        number = int(rng.integers(len(items)))
        if kind == "swapped":
            changed, marks = self._swapped(view, items, number, rng)
        else:
            changed, marks = self._moved(view, items, number, kind, rng)
        if not all(shows(mark.mask) for mark in marks):
            raise UsageError(self._unseen(kind))
        return Shot(self._expose(self._picture(view, changed), index), marks)

    def _moved(
        self, view: _View, items: list[Item], number: int, kind: str, rng: Generator
    ) -> tuple[list[Item], tuple[Mark, ...]]:
        """Items of which one is missing, doubled or elsewhere, and the marks of it."""
        whole, item = self._picture(view, items), items[number]
        others = [*items[:number], *items[number + 1 :]]
        lacking = self._picture(view, others)
        gap = truth_mask(whole, lacking)
        if self._design.compartments[item.compartment].loose:
            gap = np.maximum(gap, self._area(view, item.compartment))
        missing = Mark(f"missing_{number}", widened(gap))
        if kind == "missing":
            return others, (missing,)
        there = item.compartment
        if kind == "misplaced":
            there = int(rng.choice([n for n in range(len(self._design.compartments)) if n != item.compartment]))
        kept, before = (items, whole) if kind == "additional" else (others, lacking)
        designs = self._design.kinds[item.kind].designs
        design = int(rng.integers(len(designs))) if kind == "additional" else item.design
        changed = [*kept, self._clear(replace(item, design=design, compartment=there), kept, rng)]
        additional = Mark(f"additional_{number}", truth_mask(before, self._picture(view, changed)))
        return changed, (missing, additional) if kind == "misplaced" else (additional,)

    def _swapped(
        self, view: _View, items: list[Item], number: int, rng: Generator
    ) -> tuple[list[Item], tuple[Mark, ...]]:
        """Items of which two of different kinds have changed places, and the marks of them."""
        others = [at for at, item in enumerate(items) if item.kind != items[number].kind]
        pair = (number, int(rng.choice(others)))
        whole = self._picture(view, items)
        changed, marks = list(items), []
        for here, there in (pair, pair[::-1]):
            changed[here] = replace(items[here], kind=items[there].kind, design=items[there].design)
            alone = [*items[:here], changed[here], *items[here + 1 :]]
            marks.append(Mark(f"swapped_{here}", truth_mask(whole, self._picture(view, alone))))
        return changed, tuple(marks)

    def _view(self, index: int) -> tuple[_View, list[Item]]:
        """Tray, light and items, different from picture to picture."""
        rng = self._dice(index, _LAYOUT)
        width, height = self._size
        scale = height / 2 * float(rng.normal(1, 0.008))
        way = rng.normal(0, 0.015, 2) * height
        tray = Pose(width / 2 + float(way[0]), height / 2 + float(way[1]), float(rng.normal(0, 0.012)), scale)
        turn, gain = self._lamp + float(rng.normal(0, 0.15)), self._gain * float(rng.normal(1, 0.04))
        light = Light((0.71 * float(np.cos(turn)), 0.71 * float(np.sin(turn)), 0.70), gain)
        slope = rng.uniform(-_MOST_GLOOM, _MOST_GLOOM, 2)
        rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
        gloom = np.asarray(1 + slope[0] * columns + slope[1] * rows, np.float32)
        scene = Scene(np.asarray(self._ground * gain, np.float32), self._tray, tray, light)
        empty = _crumbs(scene.picture(scene.surface()), rng)
        return _View(empty, tray, light, gloom), self._lay(rng)

    def _lay(self, rng: Generator) -> list[Item]:
        """The items of one normal picture, where they belong."""
        items: list[Item] = []
        for number, part in enumerate(self._design.compartments):
            for place, kind in enumerate(part.kinds):
                what = self._design.kinds[kind]
                design = int(rng.integers(len(what.designs)))
                turn = what.turn + float(rng.uniform(-what.swing, what.swing))
                step = 2 * part.half[0] / len(part.kinds)
                jitter = rng.normal(0, 0.02, 2)
                x = part.centre[0] - part.half[0] + (place + 0.5) * step + float(jitter[0])
                item = Item(kind, design, x, part.centre[1] + float(jitter[1]), turn, number)
                items.append(self._clear(item, items, rng) if part.loose else item)
        return items

    def _clear(self, item: Item, others: Sequence[Item], rng: Generator) -> Item:
        """The item in a random place of its compartment: of those tried the first that is clear, else the clearest."""
        part, radius = self._design.compartments[item.compartment], self._design.kinds[item.kind].radius
        room = np.maximum(np.array(part.half) - 1.05 * radius, 0.01)
        best, most = item, -np.inf
        for _ in range(_CANDIDATES):
            x, y = np.array(part.centre) + rng.uniform(-1, 1, 2) * room
            gaps = [
                np.hypot(x - other.x, y - other.y) - radius - self._design.kinds[other.kind].radius for other in others
            ]
            gap = min(gaps, default=np.inf)
            if gap > most:
                best, most = replace(item, x=float(x), y=float(y)), gap
            if gap >= 0:
                break
        return best

    def _picture(self, view: _View, items: Sequence[Item], changes: Mapping[int, Change] | None = None) -> Field:
        """(3, H, W) in [0, 1]: the items in the tray, some of them changed."""
        picture = view.empty
        for number, item in enumerate(items):
            scene = replace(self._scene(view, item), ground=picture)
            picture = scene.picture(scene.surface((changes or {}).get(number)))
        return np.asarray(np.clip(picture * view.gloom, 0, 1), np.float32)

    def _scene(self, view: _View, item: Item) -> Scene:
        """One item alone in the tray."""
        tray, cos, sin = view.tray, np.cos(view.tray.angle), np.sin(view.tray.angle)
        x = tray.cx + tray.scale * float(cos * item.x - sin * item.y)
        y = tray.cy + tray.scale * float(sin * item.x + cos * item.y)
        scale = tray.scale * self._design.kinds[item.kind].radius
        return Scene(view.empty, self._blueprint(item), Pose(x, y, tray.angle + item.turn, scale), view.light)

    def _blueprint(self, item: Item) -> Blueprint:
        """What an item looks like."""
        return self._design.kinds[item.kind].designs[item.design]

    def _area(self, view: _View, number: int) -> NDArray[np.uint8]:
        """(H, W) uint8, 255 in a compartment."""
        part, tray = self._design.compartments[number], view.tray
        cos, sin = np.cos(tray.angle), np.sin(tray.angle)
        corners = np.array(part.centre) + np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * part.half
        turned = corners @ np.array([[cos, sin], [-sin, cos]]) * tray.scale + (tray.cx, tray.cy)
        area = np.zeros(self._size[::-1], np.uint8)
        return np.asarray(cv2.fillPoly(area, [np.rint(turned).astype(np.int32)], 255), np.uint8)

    def _expose(self, picture: Field, index: int) -> NDArray[np.uint8]:
        """With this picture's sensor noise, as bytes."""
        noise = self._dice(index, _SENSOR).normal(0, self._noise, self._size[::-1])
        return to_uint8(picture, np.asarray(noise, np.float32))

    def _dice(self, index: int, stream: int) -> Generator:
        """Random numbers of one picture; the streams do not disturb each other."""
        return np.random.default_rng([*self._key, index, stream])

    def _unseen(self, defect: str) -> str:
        """The sentence for a defect that cannot be seen wherever it is drawn."""
        return f"expected the defect {defect!r} of {self._name} to be seen, found it too small; raise --size"


def _tray(design: Design) -> Blueprint:
    """An empty box."""
    body = Material(colour(design.tray), gloss=0.2, grain=0.02, seed=1)
    hollow = Material(colour(design.hollow), gloss=0.05, grain=0.05, seed=2)
    pieces = [Piece(plate((0, 0), _TRAY, 0.08, body, rise=0.06, bevel=0.05, ground=True))]
    pieces += [
        Piece(plate(part.centre, part.half, 0.05, hollow, rise=-0.06, bevel=0.04)) for part in design.compartments
    ]
    return Blueprint("box", tuple(pieces), 0.1, flexible=False)


def _crumbs(picture: Field, rng: Generator) -> Field:
    """Dust and crumbs wherever they fell."""
    height, width = picture.shape[1:]
    found = picture.copy()
    for _ in range(int(rng.poisson(_CRUMBS))):
        x, y = float(rng.uniform(0, width)), float(rng.uniform(0, height))
        radius = float(rng.uniform(0.003, 0.009)) * height
        rows, columns = np.ogrid[0:height, 0:width]
        amount = np.clip(0.5 + radius - np.hypot(columns - x, rows - y), 0, 1) * float(rng.uniform(0.2, 0.6))
        found += (float(rng.uniform(0.15, 0.85)) - found) * np.asarray(amount, np.float32)
    return found


def _of(
    name: str, rng: Generator, radius: float, *, variants: int = 1, turn: float = 0.0, swing: float = np.pi
) -> Kind:
    """A kind of item out of the catalogue."""
    return Kind(tuple(CATALOGUE[name](rng) for _ in range(variants)), radius, turn, swing)


def _fuse(rng: Generator, codes: tuple[str, ...], text: str) -> Blueprint:
    """A blade fuse: a coloured body between two metal feet, with its rating."""
    body = Material(pick(rng, codes), gloss=0.5, grain=0.02)
    feet = Material(colour("c8cacc"), gloss=0.8, grain=0.03)
    pieces = [Piece(plate((0, y), (0.34, 0.2), 0.05, feet, rise=0.08, bevel=0.05, ground=True)) for y in (-0.78, 0.78)]
    pieces.append(Piece(plate((0, 0), (0.5, 0.68), 0.1, body, rise=0.16, bevel=0.1, ground=True)))
    pieces.append(Piece(label(text, (0, 0), 0.4, colour("f2efe8" if body.colour.mean() < 0.5 else "26282c"))))  # noqa: PLR2004 - half grey
    return Blueprint("fuse", tuple(pieces), 0.25, flexible=False)


def tool_tray(rng: Generator) -> Design:
    """Foam with a hollow for each tool: three loose washers, two screws, a gear, a nut, a key and a connector."""
    kinds = (
        _of("washer", rng, 0.17),
        _of("screw", rng, 0.27, turn=np.pi / 2, swing=0.08),
        _of("gear", rng, 0.27, variants=2),
        _of("metal nut", rng, 0.22),
        _of("key", rng, 0.3, swing=0.15),
        _of("connector", rng, 0.27, variants=3, swing=0.08),
    )
    compartments = (
        Compartment((-0.74, -0.44), (0.4, 0.4), (0, 0, 0), loose=True),
        Compartment((0.06, -0.44), (0.34, 0.4), (1, 1), loose=False),
        Compartment((0.8, -0.44), (0.34, 0.4), (2,), loose=False),
        Compartment((-0.82, 0.45), (0.32, 0.4), (3,), loose=False),
        Compartment((-0.05, 0.45), (0.38, 0.4), (4,), loose=False),
        Compartment((0.76, 0.45), (0.36, 0.4), (5,), loose=False),
    )
    return Design(kinds, compartments, "3a3f46", "24272b")


def snack_box(rng: Generator) -> Design:
    """A lunch box: four loose nuts, two drinks' caps in any of four colours, a heap of six pills of two sorts."""
    kinds = (
        _of("hazelnut", rng, 0.2, variants=3),
        _of("bottle cap", rng, 0.25, variants=4),
        _of("pill", rng, 0.13, variants=1),
        _of("pill", rng, 0.15, variants=1),
    )
    compartments = (
        Compartment((-0.58, 0.0), (0.52, 0.82), (0, 0, 0, 0), loose=True),
        Compartment((0.56, -0.48), (0.54, 0.36), (1, 1), loose=False),
        Compartment((0.56, 0.4), (0.54, 0.42), (2, 2, 2, 3, 3, 3), loose=True),
    )
    return Design(kinds, compartments, "d9d4c6", "f0ece2")


def fuse_row(rng: Generator) -> Design:
    """A fuse box: two rows of five, whose colours must come in one order."""
    kinds = tuple(
        Kind((_fuse(rng, codes, text),), 0.27, 0.0, 0.05)
        for codes, text in ((("b5302a",), "10"), (("2f6db3",), "15"), (("e0b12c",), "20"), (("e8e6df",), "25"))
    )
    compartments = (
        Compartment((0.0, -0.44), (1.1, 0.36), (0, 1, 2, 1, 0), loose=False),
        Compartment((0.0, 0.44), (1.1, 0.36), (3, 3, 2, 0, 1), loose=False),
    )
    return Design(kinds, compartments, "2b2d31", "16181a")


BOXES: dict[str, Callable[[Generator], Design]] = {
    "tool_tray": tool_tray,
    "snack_box": snack_box,
    "fuse_row": fuse_row,
}
"""The boxes that can be drawn, by the names of their classes."""
