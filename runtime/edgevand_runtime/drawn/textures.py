"""Surfaces without an outline that fill the whole picture, designed like parts (``parts``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevand_runtime.drawn.blueprint import Blueprint, Piece, bore, plate
from edgevand_runtime.drawn.fields import colour, noise_tile, sample, smooth
from edgevand_runtime.drawn.parts import metal, pick, plastic, some_seed
from edgevand_runtime.drawn.surface import Material, Surface

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

    from edgevand_runtime.drawn.parts import Designer

__all__ = ["TEXTURES"]

_EVERYWHERE = (slice(None), slice(None))
_WIDE = (3.0, 3.0)  # half the size of what fills the picture, in part units


def _sheet(
    name: str, material: Material, *finish: Callable[[Surface], None], removable: tuple[Piece, ...] = ()
) -> Blueprint:
    """A surface that fills the picture."""
    base = Piece(plate((0, 0), _WIDE, 0.0, material, rise=0.0, bevel=0.1, ground=True))
    return Blueprint(name, (base, *map(Piece, finish), *removable), 0.0, flexible=False)


def wood(rng: Generator) -> Blueprint:
    """A planed board with its grain and rings."""
    material = Material(pick(rng, ("b98a55", "8f6238", "c9a878", "6d4a2c")), 0.1, 0.08, (1.0, 12.0), some_seed(rng))
    seed, rings = some_seed(rng), float(rng.uniform(5, 11))

    def grain(surface: Surface) -> None:
        drift = sample(noise_tile(seed, 1.8, (1.0, 5.0)), surface.x * 40, surface.y * 40)
        wave = np.sin(2 * np.pi * (rings * surface.x + 0.45 * drift))
        surface.tint(
            np.asarray(0.3 * smooth(np.asarray(wave, np.float32)), np.float32), material.colour * 0.55, _EVERYWHERE
        )

    return _sheet("wood", material, grain)


def metal_sheet(rng: Generator) -> Blueprint:
    """Rolled or brushed sheet metal."""
    return _sheet("metal sheet", metal(rng))


def fabric(rng: Generator) -> Blueprint:
    """A plain weave of two yarns."""
    material = plastic(rng)
    other, threads = pick(rng, ("e8e6df", "2b2d31", "7a6a58")), float(rng.integers(14, 26))

    def weave(surface: Surface) -> None:
        u, v = surface.x * threads, surface.y * threads
        over = np.where((np.floor(u) + np.floor(v)) % 2 == 0, np.abs(np.sin(np.pi * u)), np.abs(np.sin(np.pi * v)))
        surface.height += np.asarray(0.35 / threads * over, np.float32)
        surface.tint(np.asarray(0.5 * ((np.floor(u) + np.floor(v)) % 2), np.float32), other, _EVERYWHERE, gloss=0.0)

    return _sheet("fabric", material, weave)


def leather(rng: Generator) -> Blueprint:
    """Grained leather."""
    material = Material(pick(rng, ("6a4226", "3a2a20", "8f5a30", "26231f")), 0.35, 0.06, (1.0, 1.0), some_seed(rng))
    seed = some_seed(rng)

    def creases(surface: Surface) -> None:
        noise = sample(noise_tile(seed, 0.9), surface.x * 55, surface.y * 55)
        surface.height -= np.asarray(0.02 * smooth(np.asarray(1 - np.abs(noise) / 0.35, np.float32)), np.float32)

    return _sheet("leather", material, creases)


def stone(rng: Generator) -> Blueprint:
    """Speckled stone or concrete."""
    material = Material(pick(rng, ("a09c94", "c9c2b4", "77787a", "8a6f62")), 0.15, 0.07, (1.0, 1.0), some_seed(rng))
    seed, specks = some_seed(rng), pick(rng, ("33322f", "e6e2d8", "6a3f34"))

    def speckle(surface: Surface) -> None:
        noise = sample(noise_tile(seed, 0.5), surface.x * 70, surface.y * 70)
        surface.tint(
            np.asarray(0.6 * smooth((noise - np.float32(1.3)) / np.float32(0.5)), np.float32), specks, _EVERYWHERE
        )

    return _sheet("stone", material, speckle)


def tile(rng: Generator) -> Blueprint:
    """Glazed tiles with joints."""
    material = Material(pick(rng, ("e6e2d8", "9fb8c4", "c4a58a", "56707a")), 0.7, 0.02, (1.0, 1.0), some_seed(rng))
    count = float(rng.uniform(1.2, 2.6))

    def joints(surface: Surface) -> None:
        u, v = np.abs(np.mod(surface.x * count, 1) - 0.5), np.abs(np.mod(surface.y * count, 1) - 0.5)
        rim = np.asarray((0.5 - np.maximum(u, v)) / count, np.float32)
        surface.height += 0.03 * smooth(rim / 0.06)
        surface.tint(smooth((0.025 - rim) / 0.012), colour("8d8a86"), _EVERYWHERE, gloss=0.0)

    return _sheet("tile", material, joints)


def carpet(rng: Generator) -> Blueprint:
    """A coarse pile."""
    material = Material(pick(rng, ("6f6a66", "8a3a34", "3d4f66", "a08a6a")), 0.0, 0.3, (1.0, 1.0), some_seed(rng))
    seed = some_seed(rng)

    def pile(surface: Surface) -> None:
        noise = sample(noise_tile(seed, 0.2), surface.x * 90, surface.y * 90)
        surface.height += np.asarray(0.012 * noise, np.float32)

    return _sheet("carpet", material, pile)


def perforated_sheet(rng: Generator) -> Blueprint:
    """Sheet metal with a regular field of holes."""
    pitch = float(rng.uniform(0.3, 0.45))
    places = np.arange(-4, 5) * pitch
    holes = tuple(Piece(bore(float(x), float(y), 0.28 * pitch), removable=True) for x in places for y in places)
    return _sheet("perforated sheet", metal(rng), removable=holes)


TEXTURES: dict[str, Designer] = {
    "wood": wood,
    "metal sheet": metal_sheet,
    "fabric": fabric,
    "leather": leather,
    "stone": stone,
    "tile": tile,
    "carpet": carpet,
    "perforated sheet": perforated_sheet,
}
