"""The parts that can be drawn. Each function designs one from a random generator; a design can be drawn in any pose."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edgevand_runtime.drawn.blueprint import Blueprint, Piece, bar, bore, disc, label, plate
from edgevand_runtime.drawn.fields import Field, circle, colour, noise_tile, polygon, sample, smooth
from edgevand_runtime.drawn.surface import Material, Surface

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

__all__ = ["PARTS", "Designer", "flange", "metal", "pick", "plastic", "some_seed"]

Designer: TypeAlias = "Callable[[Generator], Blueprint]"

_METALS = ("b9bdc1", "a7abad", "c9b27a", "b87a56", "8c9096", "6b7076", "d3d5d6")
_PLASTICS = ("c23b32", "2f6db3", "2f9457", "e0b12c", "e8e6df", "2b2d31", "7a4aa0", "e07a2a", "4db3b0", "b5b9bd")
_THREAD_FROM = -0.35  # where the thread of a screw begins
_BOARDS = ("1f6b3a", "14507f", "222428", "7d1f24")


def pick(rng: Generator, codes: tuple[str, ...]) -> Field:
    """One of the colours, slightly varied."""
    varied = colour(codes[rng.integers(len(codes))]) * rng.uniform(0.88, 1.06) * rng.uniform(0.98, 1.02, 3)
    return np.asarray(np.clip(varied, 0, 1), np.float32)


def some_seed(rng: Generator) -> int:
    """Which noise: few, so that tiles stay cached."""
    return int(rng.integers(8))


def metal(rng: Generator) -> Material:
    """Machined, brushed or cast metal."""
    stretch = ((14.0, 1.0), (1.0, 1.0), (1.0, 14.0))[rng.integers(3)]
    grain = float(rng.uniform(0.03, 0.08))
    return Material(
        pick(rng, _METALS), gloss=float(rng.uniform(0.4, 0.9)), grain=grain, stretch=stretch, seed=some_seed(rng)
    )


def plastic(rng: Generator, codes: tuple[str, ...] = _PLASTICS) -> Material:
    """Moulded plastic or lacquer."""
    return Material(
        pick(rng, codes), gloss=float(rng.uniform(0.1, 0.6)), grain=float(rng.uniform(0.0, 0.03)), seed=some_seed(rng)
    )


def washer(rng: Generator) -> Blueprint:
    """A flat ring."""
    rim = float(rng.uniform(0.04, 0.14))
    ring = disc(0, 0, 0.95, metal(rng), rise=rim, bevel=rim, ground=True)
    return Blueprint("washer", (Piece(ring), Piece(bore(0, 0, float(rng.uniform(0.35, 0.6))))), 0.08)


def metal_nut(rng: Generator) -> Blueprint:
    """A hexagon nut with a threaded hole."""
    material, hole = metal(rng), float(rng.uniform(0.4, 0.52))

    def body(surface: Surface) -> None:
        distance = np.maximum(polygon(surface.x, surface.y, 0, 0, 0.84, 6), circle(surface.x, surface.y, 0, 0, 0.94))
        surface.solid(np.asarray(distance, np.float32), material, rise=0.18, bevel=0.16, ground=True)

    def thread(surface: Surface) -> None:
        where = surface.near(0, 0, hole + 0.15)
        x, y = surface.x[where], surface.y[where]
        distance = circle(x, y, 0, 0, hole)
        spiral = np.sin(2 * np.pi * distance / 0.05 + np.arctan2(y, x))
        surface.height[where] += np.asarray(
            0.01 * spiral * smooth(np.asarray((0.1 - np.abs(distance)) / 0.04, np.float32)), np.float32
        )

    return Blueprint("metal nut", (Piece(body), Piece(bore(0, 0, hole, 0.08)), Piece(thread)), 0.3, flexible=False)


def screw(rng: Generator) -> Blueprint:
    """A screw lying on its side."""
    material, pitch = metal(rng), float(rng.uniform(0.09, 0.14))
    radius, head = float(rng.uniform(0.13, 0.17)), float(rng.uniform(0.26, 0.36))

    def shaft(surface: Surface) -> None:
        teeth = 0.024 * np.abs(np.mod(surface.x / pitch - 0.6 * surface.y, 1.0) - 0.5) * 4
        teeth = np.where(surface.x > _THREAD_FROM, teeth, 0)
        taper = radius * np.clip((0.98 - surface.x) / 0.25, 0, 1)
        distance = np.maximum(np.abs(surface.y) - taper - teeth, -0.75 - surface.x)
        distance = np.maximum(distance, surface.x - 0.98)
        surface.solid(np.asarray(distance, np.float32), material, rise=radius, bevel=radius + 0.02, ground=True)
        surface.height += np.asarray(0.6 * teeth * surface.cover, np.float32)

    top = plate((-0.8, 0), (0.14, head), 0.06, material, rise=0.3, bevel=head, ground=True)
    return Blueprint("screw", (Piece(shaft), Piece(top, removable=True)), 0.2)


def gear(rng: Generator) -> Blueprint:
    """A toothed wheel with a keyed bore and lightening holes."""
    material, teeth = (metal, plastic)[rng.integers(2)](rng), int(rng.integers(12, 25))
    holes, bolt_circle = int(rng.integers(3, 7)), 0.48

    def body(surface: Surface) -> None:
        angle = np.arctan2(surface.y, surface.x)
        wave = np.clip(1.6 * np.cos(teeth * angle), -1, 1)
        distance = np.asarray(np.hypot(surface.x, surface.y) - 0.87 - 0.08 * wave, np.float32)
        surface.solid(distance, material, rise=0.07, bevel=0.05, ground=True)

    pieces = [Piece(body), Piece(disc(0, 0, 0.3, material, rise=0.1, bevel=0.06))]
    for turn in np.arange(holes) * 2 * np.pi / holes:
        x, y = float(bolt_circle * np.cos(turn)), float(bolt_circle * np.sin(turn))
        pieces.append(Piece(bore(x, y, 0.1), removable=True))
    return Blueprint("gear", (*pieces, Piece(bore(0, 0, 0.14))), 0.18, flexible=False)


def flange(rng: Generator) -> Blueprint:
    """A machined housing cover: rounded square, raised ring, bore, four screws, an engraved type number."""
    body, ring = metal(rng), metal(rng)
    dark = Material(colour("3a3d42"), gloss=0.5, grain=0.02)
    steel = Material(colour("d0d2d3"), gloss=0.8, grain=0.02)
    pieces = [
        Piece(plate((0, 0), (0.94, 0.94), 0.26, body, rise=0.07, bevel=0.07, ground=True)),
        Piece(disc(0, 0, 0.56, ring, rise=0.1, bevel=0.05)),
        Piece(disc(0, 0, 0.4, dark, rise=-0.06, bevel=0.05)),
        Piece(bore(0, 0, 0.24, 0.05)),
    ]
    for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        x, y = 0.7 * sx, 0.7 * sy
        pieces.append(Piece(disc(x, y, 0.17, dark, rise=-0.04, bevel=0.03)))
        pieces.append(Piece(_cap_screw(x, y, 0.13, steel), removable=True))
    text = f"E{rng.integers(10, 99)}-{rng.integers(100, 999)}"
    pieces.append(Piece(label(text, (0, 0.76), 0.13, colour("25282c")), removable=True))
    return Blueprint("flange", tuple(pieces), 0.2, flexible=False)


def _cap_screw(x: float, y: float, radius: float, material: Material) -> Callable[[Surface], None]:
    """A screw head with a hexagon socket, from above."""
    rim = disc(x, y, radius, material, rise=0.07, bevel=0.04)
    socket = Material(material.colour * 0.3, gloss=0.1, grain=0.0)

    def paint(surface: Surface) -> None:
        rim(surface)
        where = surface.near(x, y, radius)
        distance = polygon(surface.x[where], surface.y[where], x, y, 0.5 * radius, 6, 0.3)
        surface.solid(distance, socket, rise=-0.05, bevel=0.03, where=where)

    return paint


def bracket(rng: Generator) -> Blueprint:
    """A flat strip of metal with a row of holes."""
    holes, width = int(rng.integers(3, 6)), float(rng.uniform(0.22, 0.34))
    pieces = [Piece(plate((0, 0), (0.98, width), 0.12, metal(rng), rise=0.04, bevel=0.05, ground=True))]
    pieces += [Piece(bore(float(x), 0, 0.35 * width), removable=True) for x in np.linspace(-0.75, 0.75, holes)]
    return Blueprint("bracket", tuple(pieces), 0.08)


def circuit_board(rng: Generator) -> Blueprint:
    """A small board: traces, chips, capacitors, mounting holes."""
    board = plastic(rng, _BOARDS)
    copper = Material(np.asarray(np.clip(board.colour * 1.5 + 0.06, 0, 1), np.float32), gloss=0.5, grain=0.0)
    pieces = [Piece(plate((0, 0), (0.95, 0.72), 0.06, board, rise=0.04, bevel=0.03, ground=True))]
    for y in rng.uniform(-0.6, 0.6, 9):
        x = float(rng.uniform(-0.85, 0.3))
        bend, end = float(y + rng.uniform(-0.2, 0.2)), float(x + rng.uniform(0.3, 0.55))
        pieces.append(Piece(bar(((x, float(y)), (x + 0.2, bend), (end, bend)), 0.014, copper, rise=0.01)))
    pieces += [Piece(bore(0.86 * sx, 0.63 * sy, 0.05)) for sx in (-1, 1) for sy in (-1, 1)]
    cells = [(cx, cy) for cx in (-0.58, -0.19, 0.2, 0.59) for cy in (-0.36, 0.02, 0.4)]
    for number in rng.permutation(len(cells))[:8]:
        pieces.append(Piece(_component(rng, *cells[number]), removable=True))
    return Blueprint("circuit board", tuple(pieces), 0.1)


def _component(rng: Generator, x: float, y: float) -> Callable[[Surface], None]:
    """A chip with legs or a round capacitor."""
    if rng.random() < 0.4:  # noqa: PLR2004 - a share
        return disc(
            x, y, float(rng.uniform(0.1, 0.14)), plastic(rng, ("2b2d31", "b5b9bd", "2f6db3")), rise=0.14, bevel=0.05
        )
    half = (float(rng.uniform(0.1, 0.16)), float(rng.uniform(0.08, 0.13)))
    legs = plate(
        (x, y), (half[0] + 0.03, half[1] - 0.02), 0.01, Material(colour("c8cacc"), 0.8, 0.0), rise=0.02, bevel=0.02
    )
    body = plate((x, y), half, 0.02, plastic(rng, ("222428", "2b2d31")), rise=0.08, bevel=0.02)

    def paint(surface: Surface) -> None:
        legs(surface)
        body(surface)

    return paint


def bottle_cap(rng: Generator) -> Blueprint:
    """A crown cap or screw cap from above, with a printed mark."""
    material, ridges = plastic(rng), int(rng.integers(18, 40))
    ink = colour("f2efe8") if float(material.colour.mean()) < 0.5 else colour("26282c")  # noqa: PLR2004 - half grey

    def body(surface: Surface) -> None:
        wave = np.cos(ridges * np.arctan2(surface.y, surface.x))
        distance = np.asarray(np.hypot(surface.x, surface.y) - 0.92 - 0.025 * wave, np.float32)
        surface.solid(distance, material, rise=0.2, bevel=0.18, ground=True)

    text = "".join(chr(65 + int(n)) for n in rng.integers(0, 26, 3))
    pieces = (
        Piece(body),
        Piece(disc(0, 0, 0.68, material, rise=-0.03, bevel=0.04)),
        Piece(label(text, (0, 0), 0.36, ink), removable=True),
    )
    return Blueprint("bottle cap", pieces, 0.25, flexible=False)


def bottle(rng: Generator) -> Blueprint:
    """A bottle lying on its side, with a label and a cap."""
    glass = Material(pick(rng, ("1f5a35", "5a3415", "a9c4cc", "2a4a7a")), gloss=0.95, grain=0.0)
    radius = float(rng.uniform(0.3, 0.38))

    def body(surface: Surface) -> None:
        neck = 0.12 + (radius - 0.12) * smooth(np.asarray((0.45 - surface.x) / 0.35, np.float32))
        distance = np.maximum(np.abs(surface.y) - neck, np.abs(surface.x) - 0.95)
        surface.solid(np.asarray(distance, np.float32), glass, rise=radius, bevel=radius, ground=True)

    paper = Material(pick(rng, ("f2efe8", "e8d9a8", "d8e4ea")), gloss=0.05, grain=0.02)
    sticker = plate((-0.35, 0), (0.3, 0.92 * radius), 0.02, paper, rise=0.0, bevel=0.02)
    text = label(f"No.{rng.integers(1, 99)}", (-0.35, 0), 0.16, pick(rng, ("26282c", "8a1f24", "14507f")))

    def print_label(surface: Surface) -> None:
        sticker(surface)
        text(surface)

    cap = plate((0.9, 0), (0.09, 0.15), 0.03, plastic(rng), rise=0.06, bevel=0.1, ground=True)
    return Blueprint(
        "bottle", (Piece(body), Piece(print_label, removable=True), Piece(cap, removable=True)), 0.3, flexible=False
    )


def hazelnut(rng: Generator) -> Blueprint:
    """A nut: brown, veined, with a pale scar at its base."""
    shell = Material(
        pick(rng, ("8a5a2b", "9a6a38", "7a4a22")), gloss=0.25, grain=0.1, stretch=(1.0, 5.0), seed=some_seed(rng)
    )
    scar = Material(pick(rng, ("c9ab7e", "b99868")), gloss=0.0, grain=0.08, seed=some_seed(rng))
    slim, seed = float(rng.uniform(0.8, 0.95)), some_seed(rng)

    def body(surface: Surface) -> None:
        angle = np.arctan2(surface.y, surface.x)
        wobble = 0.02 * np.cos(3 * angle + seed)
        distance = np.asarray(np.hypot(surface.x / slim, surface.y) - 0.85 - wobble, np.float32)
        surface.solid(distance, shell, rise=0.5, bevel=0.8, ground=True)
        veins = sample(noise_tile(seed, 0.9, (1.0, 10.0)), surface.x * 60, surface.y * 60)
        surface.tint(
            np.asarray(0.35 * smooth(veins - 0.4) * surface.cover, np.float32),
            colour("4a2a10"),
            (slice(None), slice(None)),
        )

    return Blueprint(
        "hazelnut",
        (Piece(body), Piece(disc(0, 0.62, 0.3, scar, rise=-0.04, bevel=0.1), removable=True)),
        0.5,
        flexible=False,
    )


def tablet(rng: Generator) -> Blueprint:
    """A pill with a score line and an imprint."""
    material = plastic(rng, ("f2efe8", "e8c9b0", "d8e4ea", "e6b84a", "c9d9a8"))
    half = ((0.92, 0.52), (0.8, 0.8))[rng.integers(2)]
    body = plate((0, 0), half, half[1], material, rise=0.2, bevel=0.3, ground=True)
    groove = bar(((0, -half[1]), (0, half[1])), 0.045, material, rise=-0.05)
    imprint = label(str(rng.integers(10, 99)), (-0.4, 0), 0.3, material.colour * 0.6)
    return Blueprint(
        "pill", (Piece(body), Piece(groove, removable=True), Piece(imprint, removable=True)), 0.25, flexible=False
    )


def cable(rng: Generator) -> Blueprint:
    """Three insulated wires in a clamp, with bare ends."""
    copper = Material(colour("b87a56"), gloss=0.7, grain=0.05, stretch=(8.0, 1.0))
    pieces = []
    for y in (-0.42, 0.0, 0.42):
        sag = float(rng.uniform(-0.06, 0.06))
        pieces.append(Piece(bar(((0.6, y), (0.97, y)), 0.08, copper, rise=0.08, ground=True), removable=True))
        wire = bar(((-0.95, y), (-0.2, y + sag), (0.3, y - sag), (0.68, y)), 0.13, plastic(rng), rise=0.14, ground=True)
        pieces.append(Piece(wire))
    clamp = plate((-0.3, 0), (0.16, 0.68), 0.05, metal(rng), rise=0.12, bevel=0.05, ground=True)
    return Blueprint("cable", (*pieces, Piece(clamp, removable=True)), 0.2)


def key(rng: Generator) -> Blueprint:
    """A key with a round bow and a toothed blade."""
    material = metal(rng)
    cuts = rng.uniform(0.02, 0.14, 7)

    def blade(surface: Surface) -> None:
        slot = np.clip(((surface.x + 0.2) / 1.15 * 7).astype(np.int32), 0, 6)
        lower = 0.17 - cuts[slot]
        distance = np.maximum(np.maximum(surface.y - lower, -0.17 - surface.y), np.abs(surface.x - 0.35) - 0.6)
        surface.solid(np.asarray(distance, np.float32), material, rise=0.04, bevel=0.03, ground=True)

    groove = bar(((-0.1, -0.06), (0.85, -0.06)), 0.025, material, rise=-0.03)
    bow = disc(-0.58, 0, 0.4, material, rise=0.05, bevel=0.04, ground=True)
    hole = bore(-0.72, 0, 0.12)
    return Blueprint(
        "key", (Piece(blade), Piece(groove, removable=True), Piece(bow), Piece(hole, removable=True)), 0.08
    )


def connector(rng: Generator) -> Blueprint:
    """A plug housing with rows of contacts and a latch."""
    body = plastic(rng)
    inside, pin = Material(body.colour * 0.35, gloss=0.1, grain=0.0), Material(colour("d6b55c"), gloss=0.8, grain=0.02)
    columns = int(rng.integers(4, 7))
    pieces = [
        Piece(plate((0, -0.62), (0.25, 0.14), 0.05, body, rise=0.08, bevel=0.04, ground=True), removable=True),
        Piece(plate((0, 0), (0.95, 0.55), 0.1, body, rise=0.14, bevel=0.06, ground=True)),
        Piece(plate((0, 0), (0.83, 0.42), 0.06, inside, rise=-0.1, bevel=0.04)),
    ]
    for x in np.linspace(-0.66, 0.66, columns):
        pieces += [
            Piece(plate((float(x), y), (0.06, 0.1), 0.02, pin, rise=0.06, bevel=0.03), removable=True)
            for y in (-0.2, 0.2)
        ]
    return Blueprint("connector", tuple(pieces), 0.25, flexible=False)


PARTS: dict[str, Designer] = {
    "washer": washer,
    "metal nut": metal_nut,
    "screw": screw,
    "gear": gear,
    "flange": flange,
    "bracket": bracket,
    "circuit board": circuit_board,
    "bottle cap": bottle_cap,
    "bottle": bottle,
    "hazelnut": hazelnut,
    "pill": tablet,
    "cable": cable,
    "key": key,
    "connector": connector,
}
