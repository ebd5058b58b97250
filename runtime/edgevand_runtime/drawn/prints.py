"""Printed things, designed like parts: labels, cards, scales."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevand_runtime.drawn.blueprint import Blueprint, Piece, label, plate
from edgevand_runtime.drawn.fields import box, circle, coverage, polygon
from edgevand_runtime.drawn.parts import pick, plastic, some_seed
from edgevand_runtime.drawn.surface import Material, Surface

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

    from edgevand_runtime.drawn.fields import Field
    from edgevand_runtime.drawn.parts import Designer

__all__ = ["PRINTS"]

_INKS = ("1c1d20", "8a1f24", "14507f", "1f6b3a")
_PAPERS = ("f4f2ec", "eee6cf", "e2eaee", "f2dc8a")


def _paper(rng: Generator, half: tuple[float, float]) -> Piece:
    """What is printed on."""
    material = Material(pick(rng, _PAPERS), gloss=0.1, grain=0.015, seed=some_seed(rng))
    return Piece(plate((0, 0), half, 0.06, material, rise=0.02, bevel=0.02, ground=True))


def _word(rng: Generator, length: int) -> str:
    """Capitals and digits."""
    return "".join("ABCDEFGHKLMNPRSTUVXYZ0123456789"[n] for n in rng.integers(0, 31, length))


def _ink(distance: Callable[[Field, Field], Field], paint: Field) -> Callable[[Surface], None]:
    """A printed shape."""

    def stamp(surface: Surface) -> None:
        amount = coverage(distance(surface.x, surface.y), surface.pixel) * surface.cover
        surface.tint(np.asarray(0.9 * amount, np.float32), paint, (slice(None), slice(None)))

    return stamp


def printed_label(rng: Generator) -> Blueprint:
    """A label: a mark, three lines of text, a bar code."""
    ink, dark = pick(rng, _INKS), pick(rng, _INKS[:1])
    bars = np.cumsum(rng.integers(1, 4, 60)) / 75

    def code(surface: Surface) -> None:
        where = surface.near(0.3, 0.42, 0.55)
        x, y = surface.x[where], surface.y[where]
        inside = coverage(box(x, y, 0.3, 0.42, (0.5, 0.16)), surface.pixel) * surface.cover[where]
        odd = np.searchsorted(bars, (x + 0.2).ravel()).reshape(x.shape) % 2
        surface.tint(np.asarray(0.9 * inside * odd, np.float32), dark, where)

    sides = int(rng.integers(3, 7))
    pieces = [
        _paper(rng, (0.95, 0.68)),
        Piece(_ink(lambda x, y: polygon(x, y, -0.62, -0.3, 0.18, sides), ink), removable=True),
        *(
            Piece(label(_word(rng, n), (0.2, y), h, dark), removable=True)
            for n, y, h in ((7, -0.42, 0.2), (10, -0.16, 0.12), (9, 0.06, 0.12))
        ),
        Piece(code, removable=True),
    ]
    return Blueprint("label", tuple(pieces), 0.03)


def name_plate(rng: Generator) -> Blueprint:
    """A plate with a frame and two lines, screwed on at its corners."""
    ink = pick(rng, _INKS)
    head = Material(pick(rng, ("b9bdc1", "8c9096")), gloss=0.8, grain=0.02)
    frame = _ink(lambda x, y: np.asarray(np.abs(box(x, y, 0, 0, (0.8, 0.4), 0.05)) - 0.015, np.float32), ink)
    pieces = [_paper(rng, (0.97, 0.56)), Piece(frame)]
    pieces += [
        Piece(plate((0.88 * sx, 0.47 * sy), (0.05, 0.05), 0.05, head, rise=0.05, bevel=0.04), removable=True)
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    pieces += [
        Piece(label(_word(rng, 6), (0, -0.14), 0.26, ink), removable=True),
        Piece(label(_word(rng, 9), (0, 0.2), 0.15, ink), removable=True),
    ]
    return Blueprint("name plate", tuple(pieces), 0.05)


def dial(rng: Generator) -> Blueprint:
    """A round scale with ticks, figures and a pointer."""
    ink, face = pick(rng, _INKS), Material(pick(rng, _PAPERS), gloss=0.2, grain=0.01)
    rim, count, turn = plastic(rng), int(rng.integers(16, 31)), float(rng.uniform(0.6, 2.4))

    def body(surface: Surface) -> None:
        surface.solid(circle(surface.x, surface.y, 0, 0, 0.96), rim, rise=0.1, bevel=0.08, ground=True)
        surface.solid(circle(surface.x, surface.y, 0, 0, 0.84), face, rise=-0.03, bevel=0.03)

    def ticks(surface: Surface) -> None:
        angle = np.arctan2(surface.y, surface.x) * count / (2 * np.pi)
        radius = np.hypot(surface.x, surface.y)
        aside = np.abs(angle - np.round(angle)) * 2 * np.pi / count * radius - 0.014
        distance = np.maximum(aside, np.abs(radius - 0.73) - 0.06)
        surface.tint(coverage(np.asarray(distance, np.float32), surface.pixel), ink, (slice(None), slice(None)))

    cos, sin = float(np.cos(turn)), float(np.sin(turn))
    pointer = _ink(
        lambda x, y: np.asarray(
            np.maximum(np.abs(cos * y - sin * x) - 0.03, np.abs(cos * x + sin * y - 0.25) - 0.37), np.float32
        ),
        pick(rng, ("b5362c", "1c1d20")),
    )
    pieces = [
        Piece(body),
        Piece(ticks),
        Piece(label(_word(rng, 3), (0, -0.3), 0.18, ink), removable=True),
        Piece(pointer, removable=True),
    ]
    return Blueprint("dial", tuple(pieces), 0.12, flexible=False)


PRINTS: dict[str, Designer] = {"label": printed_label, "name plate": name_plate, "dial": dial}
