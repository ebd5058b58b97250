"""Drawn surfaces of the kinds that inspection looks at in grey: ground, milled and cast metal, tiles, solar cells.

They differ from ``edgevand_runtime.drawn`` in what varies: no two pictures show the same place of the surface, and
light, position and direction change from one to the next. Every picture has a twin with a defect. All are
(S, S) float32 grey levels; S is ``SIDE``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

__all__ = ["DEFECTS", "SIDE", "SURFACES", "Pair", "flaw", "pair", "picture"]

SIDE = 224
Grey: TypeAlias = NDArray[np.float32]

_SENSOR = 2.0
_SEEN = 8  # grey levels from which on a pixel counts as changed by a defect
_FINE = 4  # lines and outlines are drawn this many times as large


class Pair(NamedTuple):
    """The same place of a surface, whole and with a defect: (S, S, 3) uint8, and where they differ, (S, S) bool."""

    whole: NDArray[np.uint8]
    defective: NDArray[np.uint8]
    truth: NDArray[np.bool_]


def picture(name: str, rng: Generator) -> NDArray[np.uint8]:
    """One picture (S, S, 3) uint8 of a surface without a defect; ``name`` is a key of ``SURFACES``."""
    return _taken(SURFACES[name](rng), _noise(rng, 0.0, _SENSOR))


def pair(name: str, kind: str, rng: Generator) -> Pair:
    """One place of a surface, without and with a defect of a kind of ``DEFECTS``, under the same sensor noise."""
    surface = SURFACES[name](rng)
    spoilt = flaw(surface, kind, rng)
    noise = _noise(rng, 0.0, _SENSOR)
    whole, defective = _taken(surface, noise), _taken(spoilt, noise)
    return Pair(whole, defective, np.abs(whole.astype(int) - defective).max(axis=-1) > _SEEN)


def _taken(surface: Grey, noise: Grey) -> NDArray[np.uint8]:
    """What a grey camera makes of it."""
    grey = np.clip(surface + noise, 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)


# ---- what surfaces are made of


def _noise(rng: Generator, blur: float, scale: float = 1.0, stretch: tuple[float, float] = (1.0, 1.0)) -> Grey:
    """Noise of a standard deviation ``scale``, smoothed over ``blur`` pixels times ``stretch`` along x and y."""
    noise = rng.normal(size=(SIDE, SIDE)).astype(np.float32)
    if blur:
        smooth = cv2.GaussianBlur(noise, (0, 0), sigmaX=blur * stretch[0], sigmaY=blur * stretch[1])
        noise = np.asarray(smooth, np.float32)
    return np.asarray(noise * (scale / noise.std()), np.float32)


def _grid() -> tuple[Grey, Grey]:
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    return y, x


def _lit(surface: Grey, rng: Generator, slope: float, gain: float) -> Grey:
    """Brighter towards one side by up to ``slope``, all of it by up to ``gain``."""
    y, x = _grid()
    turn = rng.uniform(0, 2 * np.pi)
    ramp = (x / SIDE - 0.5) * np.cos(turn) + (y / SIDE - 0.5) * np.sin(turn)
    return np.asarray(surface * (1 + slope * rng.uniform() * ramp) * (1 + gain * rng.uniform(-1, 1)), np.float32)


def _blob(rng: Generator, radius: float) -> Grey:
    """A ragged spot anywhere, 0 outside and 1 inside."""
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ragged = 1 + 0.25 * np.cumsum(rng.normal(0, 0.35, 24)) * np.sin(turn / 2)
    reach = np.abs(radius * ragged) + 0.4 * radius
    x, y = reach * np.cos(turn), rng.uniform(0.5, 1) * reach * np.sin(turn)
    tilt, centre = rng.uniform(0, np.pi), rng.uniform(0.1, 0.9, 2) * SIDE
    outline = np.stack([x * np.cos(tilt) - y * np.sin(tilt), x * np.sin(tilt) + y * np.cos(tilt)], axis=1) + centre
    fine = np.zeros((SIDE * _FINE, SIDE * _FINE), np.uint8)
    cv2.fillPoly(fine, [np.round(outline * _FINE).astype(np.int32)], (255,))
    return np.asarray(cv2.resize(fine, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32) / np.float32(255)


def _line(points: NDArray[np.float64], width: float) -> Grey:
    """A line through points (x, y), 0 outside and 1 inside."""
    fine = np.zeros((SIDE * _FINE, SIDE * _FINE), np.uint8)
    cv2.polylines(fine, [np.round(points * _FINE).astype(np.int32)], False, (255,), max(1, round(width * _FINE)))  # noqa: FBT003 - an open line
    return np.asarray(cv2.resize(fine, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32) / np.float32(255)


# ---- surfaces


def _magnet(rng: Generator) -> Grey:
    """A magnetic tile: nearly even, clouded, now and then with its edge in sight."""
    surface = rng.uniform(90, 150) + _noise(rng, rng.uniform(25, 60), rng.uniform(5, 22))
    surface += _noise(rng, 0.8, rng.uniform(2, 6)) + _noise(rng, 2.5, rng.uniform(1, 5), (1, (1, 6)[rng.integers(2)]))
    if rng.random() < 0.5:  # noqa: PLR2004 - half of them
        edge = np.zeros((SIDE, SIDE), np.float32)
        edge[:, : rng.integers(6, 40)] = 1
        surface *= 1 - 0.55 * np.rot90(edge, int(rng.integers(4)))
    if rng.random() < 0.35:  # noqa: PLR2004 - a third of them
        surface += _noise(rng, 8, rng.uniform(0, 14), (0.2, 8))
    return _lit(surface, rng, 0.4, 0.2)


def _ground(rng: Generator) -> Grey:
    """Ground metal: grain and marks along one direction."""
    surface = 120 + _noise(rng, 1.2, rng.uniform(8, 18), (0.5, rng.uniform(15, 60)))
    surface += _noise(rng, 5, rng.uniform(4, 10), (0.6, 20)) + _noise(rng, 0.6, 5)
    for _ in range(rng.poisson(6)):
        x = int(rng.integers(1, SIDE))
        surface[:, x - 1 : x + 1] += rng.normal(0, 12)
    turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), rng.normal(0, 3), 1.1)
    turned = cv2.warpAffine(surface, turn, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
    return _lit(np.asarray(turned, np.float32), rng, 0.35, 0.15)


def _cast(rng: Generator) -> Grey:
    """A round casting from above: hub, ribs, rings, a rough skin."""
    y, x = _grid()
    cx, cy = SIDE / 2 + rng.normal(0, 4, 2)
    radius, turn = np.hypot(x - cx, y - cy), np.arctan2(y - cy, x - cx)
    lamp = rng.uniform(0, 2 * np.pi) if rng.random() < 0.3 else 2.2 + rng.normal(0, 0.3)  # noqa: PLR2004 - a third of them
    body = 150 + 20 * np.cos(radius / 9) * (radius > 40) + 18 * np.cos(turn - lamp)  # noqa: PLR2004 - a design
    body += _noise(rng, 1, 5) + _noise(rng, 4, 6) + _noise(rng, 0.5, 6)
    ribs = np.cos(6 * (turn - rng.uniform(0, 2 * np.pi)) + radius * 0.03)
    body += 24 * np.clip(ribs - 0.6, 0, 1) * ((radius > 38) & (radius < 80))  # noqa: PLR2004 - a design
    for inner, outer, step in ((0, 30, 25), (30, 33, -35), (86, 89, -25)):
        body[(radius >= inner) & (radius < outer)] += step
    body[radius < 12] = 60  # noqa: PLR2004 - a design
    surface = np.where(radius < rng.normal(96, 2), body, 225).astype(np.float32)
    return _lit(np.asarray(cv2.GaussianBlur(surface, (0, 0), 0.8), np.float32), rng, 0.3, 0.12)


def _cell(rng: Generator) -> Grey:
    """A solar cell of one crystal: bus bars, fingers, dark corners."""
    y, x = _grid()
    surface = (
        rng.uniform(110, 150) + _noise(rng, 30, 4) + _noise(rng, 0.8, 3) + _noise(rng, 8, rng.uniform(0, 8), (1, 6))
    )
    shift = rng.normal(0, 3)
    for bar in (1, 3, 5):
        away = y - (SIDE * bar / 6 + shift)
        surface[np.abs(away) < 2] = 40  # noqa: PLR2004 - a design
        surface -= 18 * np.exp(-((away / 9) ** 2))
    surface -= 3 * (np.cos(2 * np.pi * x / 4) > 0.6)  # noqa: PLR2004 - a design
    sides = np.minimum(x, SIDE - 1 - x), np.minimum(y, SIDE - 1 - y)
    surface -= rng.uniform(0, 18) * np.clip((np.hypot(x - SIDE / 2, y - SIDE / 2) - 85) / 50, 0, 1)
    surface[(sides[0] + sides[1] < 14 + rng.normal()) | (np.minimum(*sides) < 3)] = 15  # noqa: PLR2004 - a design
    return _lit(surface.astype(np.float32), rng, 0.1, 0.15)


def _crystals(rng: Generator) -> Grey:
    """A solar cell of many crystals, with the dark clouds that are normal in it."""
    y, x = _grid()
    plane = cv2.Subdiv2D((0, 0, SIDE, SIDE))
    for place in rng.uniform(0, SIDE, (rng.integers(60, 160), 2)):
        plane.insert((float(place[0]), float(place[1])))
    surface = np.zeros((SIDE, SIDE), np.float32)
    for facet in plane.getVoronoiFacetList([])[0]:
        cv2.fillPoly(surface, [np.asarray(facet, np.int32)], (float(rng.normal(130, 9)),))
    for _ in range(rng.poisson(14)):
        surface -= rng.uniform(10, 35) * cv2.GaussianBlur(_blob(rng, rng.uniform(6, 18)), (0, 0), 4)
    surface = cv2.GaussianBlur(surface, (0, 0), 1.2) + _noise(rng, 0.7, 3)
    shift = rng.normal(0, 3)
    for bar in (1, 3):
        surface[np.abs(y - (SIDE * bar / 4 + shift)) < 2.5] = 35  # noqa: PLR2004 - a design
    surface[np.minimum.reduce([x, y, SIDE - 1 - x, SIDE - 1 - y]) < 3] = 15  # noqa: PLR2004 - a design
    return _lit(surface, rng, 0.15, 0.15)


def _skin(rng: Generator) -> Grey:
    """The porous skin of a casting."""
    surface = 115 + _noise(rng, 1.2, 9) + _noise(rng, 3, 8) + _noise(rng, 15, 5)
    return _lit(surface - 14 * np.clip(_noise(rng, 1.6) - 1.6, 0, 1), rng, 0.35, 0.15)


def _milled(rng: Generator) -> Grey:
    """Milled metal: arcs of one radius after the other."""
    y, x = _grid()
    cx, cy = rng.uniform(-1, 2, 2) * SIDE
    wave = np.sin(np.hypot(x - cx, y - cy) / rng.uniform(1.6, 2.0) + _noise(rng, 20, 0.8))
    surface = 135 + 16 * wave + _noise(rng, 1, 6) + _noise(rng, 30, 8)
    return _lit(surface.astype(np.float32), rng, 0.35, 0.15)


SURFACES: dict[str, Callable[[Generator], Grey]] = {
    "magnetic tile": _magnet,
    "ground metal": _ground,
    "round casting": _cast,
    "solar cell": _cell,
    "solar cell of crystals": _crystals,
    "cast skin": _skin,
    "milled metal": _milled,
}

# ---- defects


def _crack(surface: Grey, strength: float, rng: Generator) -> Grey:
    turns = np.cumsum(rng.normal(0, 0.35, int(rng.uniform(40, 140) / 4))) + rng.uniform(0, 2 * np.pi)
    steps = 4 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    return surface - strength * _line(rng.uniform(0.15, 0.85, 2) * SIDE + np.cumsum(steps, axis=0), rng.uniform(1, 2.4))


def _scratch(surface: Grey, strength: float, rng: Generator) -> Grey:
    turn = rng.uniform(0, 2 * np.pi)
    for _ in range(rng.integers(1, 3)):
        start, own = rng.uniform(30, SIDE - 30, 2), turn + rng.normal(0, 0.2)
        end = start + rng.uniform(25, 110) * np.array([np.cos(own), np.sin(own)])
        surface = surface + _sign(rng) * strength * _line(np.stack([start, end]), rng.uniform(0.8, 2))
    return surface


def _pits(surface: Grey, strength: float, rng: Generator) -> Grey:
    for _ in range(rng.integers(1, 6)):
        surface = surface - strength * cv2.GaussianBlur(_blob(rng, rng.uniform(1.5, 4)), (0, 0), 0.7)
    return surface


def _hole(surface: Grey, strength: float, rng: Generator) -> Grey:
    spot = _blob(rng, rng.uniform(4, 10))
    return surface - strength * cv2.GaussianBlur(spot, (0, 0), 1) + _slope(spot, 0.5 * strength, rng)


def _dent(surface: Grey, strength: float, rng: Generator) -> Grey:
    return surface + _slope(_blob(rng, rng.uniform(6, 18)), strength, rng)


def _stain(surface: Grey, strength: float, rng: Generator) -> Grey:
    spot = cv2.GaussianBlur(_blob(rng, rng.uniform(10, 28)), (0, 0), rng.uniform(1, 4))
    return np.asarray(surface + 0.7 * _sign(rng) * strength * spot, np.float32)


def _smear(surface: Grey, _: float, rng: Generator) -> Grey:
    spot = cv2.GaussianBlur(_blob(rng, rng.uniform(10, 24)), (0, 0), 1.5)
    return np.asarray(surface * (1 - spot) + spot * cv2.GaussianBlur(surface, (0, 0), rng.uniform(4, 8)), np.float32)


def _chip(surface: Grey, _: float, rng: Generator) -> Grey:
    spot = _blob(rng, rng.uniform(6, 14))
    return np.asarray(surface * (1 - spot) + spot * rng.uniform(20, 235), np.float32)


def _slope(spot: Grey, strength: float, rng: Generator) -> Grey:
    """A spot that stands out or lies deeper, lit from one side."""
    height, turn = cv2.GaussianBlur(spot, (0, 0), 2.0), rng.uniform(0, 2 * np.pi)
    lit = cv2.Sobel(height, cv2.CV_32F, 1, 0) * np.cos(turn) + cv2.Sobel(height, cv2.CV_32F, 0, 1) * np.sin(turn)
    return np.asarray(lit * (strength / max(float(np.abs(lit).max()), 1e-6)), np.float32)


def _sign(rng: Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0  # noqa: PLR2004 - half and half


DEFECTS: dict[str, Callable[[Grey, float, Generator], Grey]] = {
    "crack": _crack,
    "pits": _pits,
    "hole": _hole,
    "scratch": _scratch,
    "dent": _dent,
    "stain": _stain,
    "smear": _smear,
    "chip": _chip,
}


def flaw(surface: Grey, kind: str, rng: Generator) -> Grey:
    """Put a defect into a surface, as strong as the surface's own contrast asks for."""
    contrast = max(float(np.clip(surface.std(), 10, 45)), 16.0)
    return DEFECTS[kind](surface, rng.uniform(1.0, 2.2) * contrast, rng)
