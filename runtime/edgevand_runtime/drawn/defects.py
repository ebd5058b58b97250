"""Defects of parts. Each is a change to how a part is drawn; where it shows is measured on the two pictures.

A defect acts before drawing (``warp``, ``without``: bent, missing piece) or after it (``apply``: scratch, dent, stain,
extra piece, broken). Places and shapes are drawn from a random generator and lie where the whole part has something.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edgevand_runtime.drawn.blueprint import bar, bore, disc
from edgevand_runtime.drawn.fields import Field, colour, coverage, noise_tile, polyline, sample, smooth
from edgevand_runtime.drawn.surface import Material, Surface

if TYPE_CHECKING:
    from numpy.random import Generator

    from edgevand_runtime.drawn.blueprint import Blueprint

__all__ = ["DEFECTS", "Change", "defects_of", "plan"]

Warp: TypeAlias = Callable[[Field, Field], tuple[Field, Field]]

_EVERYWHERE = (slice(None), slice(None))
_LONG = 1.4  # length over width


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What makes a part defective.

    Attributes:
        apply: changes the drawn surface; None where nothing is to be done after drawing.
        warp: see ``Surface``; None where the part keeps its shape.
        without: number of the piece that is left out; None where all are there.
    """

    apply: Callable[[Surface], None] | None = None
    warp: Warp | None = None
    without: int | None = None


def _spot(rng: Generator, whole: Surface, margin: float = 0.9) -> tuple[float, float]:
    """A place on the part, in part units."""
    rows, columns = np.nonzero(whole.cover >= margin)
    chosen = int(rng.integers(rows.size))
    return float(whole.x[rows[chosen], columns[chosen]]), float(whole.y[rows[chosen], columns[chosen]])


def _edge(rng: Generator, whole: Surface) -> tuple[float, float]:
    """A place at the outer contour of the part: the outermost point in some direction."""
    turn = rng.uniform(0, 2 * np.pi)
    along = whole.x * np.float32(np.cos(turn)) + whole.y * np.float32(np.sin(turn))
    place = np.unravel_index(int(np.argmax(np.where(whole.cover > 0.5, along, -np.inf))), along.shape)  # noqa: PLR2004 - half covered
    return float(whole.x[place]), float(whole.y[place])


def scratch(rng: Generator, _: Blueprint, whole: Surface) -> Change:
    """A bright or dark groove, slightly crooked."""
    x, y = _spot(rng, whole)
    turn, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.9)
    steps = np.linspace(-0.5, 0.5, 5) * length
    wander = np.cumsum(rng.normal(0, 0.025, 5))
    points = [
        (float(x + t * np.cos(turn) - w * np.sin(turn)), float(y + t * np.sin(turn) + w * np.cos(turn)))
        for t, w in zip(steps, wander, strict=True)
    ]
    width, bright = float(rng.uniform(0.009, 0.02)), rng.random() < 0.65  # noqa: PLR2004 - a share

    def apply(surface: Surface) -> None:
        radius = max(width, 0.6 * surface.pixel)
        distance = polyline(surface.x, surface.y, points, radius)
        inside = coverage(distance, surface.pixel) * surface.cover
        surface.height -= np.asarray(0.03 * inside, np.float32)
        surface.tint(
            np.asarray(0.75 * inside, np.float32), colour("f0f0ee" if bright else "1e1e20"), _EVERYWHERE, gloss=0.6
        )

    return Change(apply)


def dent(rng: Generator, _: Blueprint, whole: Surface) -> Change:
    """A round or oval hollow."""
    x, y = _spot(rng, whole)
    radius, oval, turn = float(rng.uniform(0.1, 0.2)), float(rng.uniform(0.6, 1.0)), float(rng.uniform(0, np.pi))
    depth = float(rng.uniform(0.5, 0.9)) * radius

    def apply(surface: Surface) -> None:
        where = surface.near(x, y, 2 * radius)
        dx, dy = surface.x[where] - x, surface.y[where] - y
        along, across = np.cos(turn) * dx + np.sin(turn) * dy, np.cos(turn) * dy - np.sin(turn) * dx
        hollow = smooth(np.asarray(1 - np.hypot(along, across / oval) / radius, np.float32))
        surface.height[where] -= np.asarray(depth * hollow, np.float32)
        surface.colour[(slice(None), *where)] *= 1 - 0.3 * hollow

    return Change(apply)


def stain(rng: Generator, _: Blueprint, whole: Surface) -> Change:
    """A blot of oil, rust, paint or dust with an uneven rim."""
    x, y = _spot(rng, whole)
    radius, seed = float(rng.uniform(0.14, 0.32)), int(rng.integers(8))
    paint = colour(("2a1a10", "15171a", "7a3512", "e9e4d2", "1d4a7a", "3f5a1c")[rng.integers(6)])
    strength = float(rng.uniform(0.5, 0.85))

    def apply(surface: Surface) -> None:
        where = surface.near(x, y, 2.2 * radius)
        dx, dy = surface.x[where] - x, surface.y[where] - y
        rim = sample(noise_tile(seed, 1.6), dx * 60 + 40 * x, dy * 60 + 40 * y)
        inside = smooth(np.asarray((1 - np.hypot(dx, dy) / radius + 0.28 * rim) / 0.25, np.float32))
        speck = np.clip(1 + 0.25 * sample(noise_tile(seed, 0.6), dx * 140, dy * 140), 0, 1)
        surface.tint(np.asarray(strength * inside * speck * surface.cover[where], np.float32), paint, where, gloss=0.5)

    return Change(apply)


def missing_piece(rng: Generator, blueprint: Blueprint, _: Surface) -> Change:
    """One of the removable pieces is not there."""
    return Change(without=int(rng.choice(blueprint.removable)))


def extra_piece(rng: Generator, _: Blueprint, whole: Surface) -> Change:
    """Something that does not belong there: a chip of swarf, a pellet, a ring, one hole too many."""
    x, y = _spot(rng, whole)
    kind, size = int(rng.integers(4)), float(rng.uniform(0.08, 0.15))
    material = Material(colour(("d8d9da", "c9a24a", "26282c", "b5362c")[rng.integers(4)]), gloss=0.6, grain=0.03)
    if kind == 0:
        turns = np.linspace(0, rng.uniform(3, 6), 12)
        curl = tuple(
            (float(x + size * (0.5 + 0.2 * t) * np.cos(t)), float(y + size * (0.5 + 0.2 * t) * np.sin(t)))
            for t in turns
        )
        return Change(bar(curl, 0.022, material, rise=0.05, ground=True))
    if kind == 1:
        return Change(disc(x, y, size, material, rise=0.12, bevel=0.8 * size, ground=True))
    if kind == 2:  # noqa: PLR2004 - the third kind
        ring, hole = (
            disc(x, y, 1.2 * size, material, rise=0.05, bevel=0.03, ground=True),
            disc(x, y, 0.6 * size, Material(material.colour * 0.25, 0.0, 0.0), rise=-0.05, bevel=0.02),
        )

        def apply(surface: Surface) -> None:
            ring(surface)
            hole(surface)

        return Change(apply)
    return Change(bore(x, y, 0.8 * size))


def bent(rng: Generator, _: Blueprint, whole: Surface) -> Change:
    """One end is bent aside; a long part bends at one of its ends."""
    there = whole.cover > 0
    long = np.ptp(whole.x[there]) > _LONG * np.ptp(whole.y[there])
    turn = float(rng.choice((0.0, np.pi)) if long else rng.uniform(0, 2 * np.pi))
    start, angle = float(rng.uniform(0.1, 0.4)), float(rng.choice((-1, 1)) * rng.uniform(0.3, 0.6))

    def warp(x: Field, y: Field) -> tuple[Field, Field]:
        cos, sin = np.cos(turn), np.sin(turn)
        along, across = cos * x + sin * y, cos * y - sin * x
        bend = np.asarray(angle * np.clip((along - start) / 0.25, 0, 1), np.float32)
        ahead = along - start
        straight = np.where(ahead > 0, start + np.cos(bend) * ahead + np.sin(bend) * across, along)
        aside = np.where(ahead > 0, np.cos(bend) * across - np.sin(bend) * ahead, across)
        return np.asarray(cos * straight - sin * aside, np.float32), np.asarray(
            sin * straight + cos * aside, np.float32
        )

    return Change(warp=warp)


def broken(rng: Generator, _: Blueprint, whole: Surface) -> Change:
    """A piece is broken off at the rim, along a rough line."""
    x, y = _edge(rng, whole)
    radius, seed = float(rng.uniform(0.22, 0.4)), int(rng.integers(8))

    def apply(surface: Surface) -> None:
        dx, dy = surface.x - np.float32(x), surface.y - np.float32(y)
        rough = sample(noise_tile(seed, 1.2), surface.x * 70, surface.y * 70)
        distance = np.asarray(np.hypot(dx, dy) - radius * (1 + 0.16 * rough), np.float32)
        fracture = smooth(np.asarray(1 - distance / 0.05, np.float32)) * surface.cover
        surface.height -= np.asarray(0.05 * fracture, np.float32)
        surface.tint(np.asarray(0.5 * fracture, np.float32), colour("8d8a86"), _EVERYWHERE, gloss=0.0)
        surface.cover *= 1 - coverage(distance, surface.pixel)

    return Change(apply)


DEFECTS: dict[str, Callable[[Generator, Blueprint, Surface], Change]] = {
    "scratch": scratch,
    "dent": dent,
    "stain": stain,
    "missing piece": missing_piece,
    "extra piece": extra_piece,
    "bent": bent,
    "broken": broken,
}


def defects_of(blueprint: Blueprint) -> tuple[str, ...]:
    """The defects that this part can have."""
    impossible = set()
    if not blueprint.flexible:
        impossible.add("bent")
    if not blueprint.removable:
        impossible.add("missing piece")
    return tuple(name for name in DEFECTS if name not in impossible)


def plan(kind: str, rng: Generator, blueprint: Blueprint, whole: Surface) -> Change:
    """Decide what a defect of this kind looks like on this part.

    Args:
        kind: a key of ``DEFECTS``.
        rng: decides place and shape.
        blueprint: the part.
        whole: the part as drawn without a defect.
    """
    return DEFECTS[kind](rng, blueprint, whole)
