"""A part seen from above: colour, height, gloss and coverage at each pixel, and the light that makes it a picture.

Shapes are composed in part units (the part spans about [-1, 1]); the pose says where they lie in the frame.
Shading is Lambert + Blinn-Phong on the gradient of the height, with a soft cast shadow on what lies below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgevand_runtime.drawn.fields import Field, coverage, noise_tile, sample, smooth

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Light", "Material", "Pose", "Surface", "compose"]

_REACH = 1.65  # half the side of the square that is drawn around a part, in part units


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a part lies: centre in pixels, angle in radians, pixels for one part unit."""

    cx: float
    cy: float
    angle: float
    scale: float


@dataclass(frozen=True, slots=True)
class Light:
    """One distant lamp.

    Attributes:
        direction: unit vector to the lamp (x right, y down, z to the camera).
        gain: brightness of lamp and surroundings together.
        ambient: share of the light that comes from everywhere.
    """

    direction: tuple[float, float, float] = (-0.45, -0.55, 0.70)
    gain: float = 1.0
    ambient: float = 0.42


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What a solid is made of.

    Attributes:
        colour: (3,) BGR in [0, 1].
        gloss: strength of the highlight, 0 (matt) to 1 (polished).
        grain: relative contrast of the surface's texture.
        stretch: length of the grain along x and y of the part; (12, 1) is brushed.
        seed: which noise.
    """

    colour: Field
    gloss: float = 0.3
    grain: float = 0.03
    stretch: tuple[float, float] = (1.0, 1.0)
    seed: int = 0


class Surface:
    """What has been put down so far, in a square window around the part.

    Attributes:
        x, y: (h, w) part coordinates of each pixel.
        pixel: size of a pixel in part units.
        origin: column and row of the window's first pixel in the frame.
        colour: (3, h, w) BGR; height, gloss, cover: (h, w).
    """

    def __init__(
        self, size: tuple[int, int], pose: Pose, warp: Callable[[Field, Field], tuple[Field, Field]] | None = None
    ) -> None:
        """Start with nothing.

        Args:
            size: width and height of the frame in pixels.
            pose: where the part lies.
            warp: what maps part coordinates to the coordinates of the unbent part; None for a straight one.
        """
        half = _REACH * pose.scale
        left, top = max(0, int(pose.cx - half)), max(0, int(pose.cy - half))
        right, bottom = min(size[0], int(pose.cx + half) + 1), min(size[1], int(pose.cy + half) + 1)
        self.origin = (left, top)
        self.pixel = 1.0 / pose.scale
        columns = (np.arange(left, right, dtype=np.float32) - np.float32(pose.cx)) * np.float32(self.pixel)
        rows = (np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(pose.cy)) * np.float32(self.pixel)
        cos, sin = np.float32(np.cos(pose.angle)), np.float32(np.sin(pose.angle))
        self.x: Field = cos * columns + sin * rows
        self.y: Field = cos * rows - sin * columns
        if warp is not None:
            self.x, self.y = warp(self.x, self.y)
        shape = self.x.shape
        self.colour: Field = np.zeros((3, *shape), np.float32)
        self.height: Field = np.zeros(shape, np.float32)
        self.gloss: Field = np.zeros(shape, np.float32)
        self.cover: Field = np.zeros(shape, np.float32)

    def near(self, cx: float, cy: float, reach: float) -> tuple[slice, slice]:
        """The rows and columns whose part coordinates lie within ``reach`` of a point (empty where none does)."""
        close = (np.abs(self.x - cx) < reach) & (np.abs(self.y - cy) < reach)
        rows, columns = np.flatnonzero(close.any(axis=1)), np.flatnonzero(close.any(axis=0))
        if rows.size == 0:
            return slice(0, 0), slice(0, 0)
        return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)

    def grain(self, material: Material, where: tuple[slice, slice]) -> Field:
        """The material's texture, relative to 1."""
        tile = noise_tile(material.seed, 0.8, material.stretch)
        return 1 + material.grain * sample(tile, self.x[where] * 110, self.y[where] * 110)

    def solid(
        self,
        distance: Field,
        material: Material,
        *,
        rise: float,
        bevel: float,
        where: tuple[slice, slice] = (slice(None), slice(None)),
        ground: bool = False,
    ) -> None:
        """Put down a solid.

        Args:
            distance: signed distance over the window ``where``.
            material: what it is made of.
            rise: how far it rises over what is below, part units.
            bevel: width of its rounded rim, part units.
            where: rows and columns of the surface.
            ground: whether it lies on the ground (it then makes coverage) or only shows where something lies already.
        """
        cover = coverage(distance, self.pixel)
        if not ground:
            cover = cover * self.cover[where]
        rising = rise * smooth(-distance / bevel) * cover
        self.height[where] += rising
        self.paint(cover, material.colour, where, self.grain(material, where))
        self.gloss[where] += (material.gloss - self.gloss[where]) * cover
        if ground:
            self.cover[where] = np.maximum(self.cover[where], cover)

    def paint(self, amount: Field, colour: Field, where: tuple[slice, slice], grain: Field | float = 1.0) -> None:
        """Mix ``colour`` (3,) times ``grain`` (h, w) in, to the share ``amount`` (h, w)."""
        for channel, value in zip(self.colour, colour, strict=True):
            part = channel[where]
            part += (float(value) * grain - part) * amount

    def hole(self, distance: Field, *, rim: float, where: tuple[slice, slice]) -> None:
        """Drill through: the ground shows, the rim is chamfered by ``rim`` part units."""
        self.height[where] -= rim * smooth(1 - distance / rim)
        self.cover[where] *= 1 - coverage(distance, self.pixel)

    def tint(self, amount: Field, paint: Field, where: tuple[slice, slice], gloss: float | None = None) -> None:
        """Cover with paint: ``amount`` (h, w) in [0, 1] of ``paint`` (3,); the height stays."""
        self.paint(amount, paint, where)
        if gloss is not None:
            self.gloss[where] += (gloss - self.gloss[where]) * amount


def shade(surface: Surface, light: Light) -> Field:
    """The lit surface, (3, h, w) BGR from 0 to about 1 (highlights reach beyond)."""
    height = surface.height / surface.pixel
    nx = -cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125)
    ny = -cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)
    norm = 1 / np.sqrt(nx * nx + ny * ny + 1)
    lx, ly, lz = light.direction
    diffuse = np.maximum((nx * lx + ny * ly + lz) * norm, 0)
    middle = np.array([lx, ly, lz + 1])
    hx, hy, hz = (float(part) for part in middle / np.linalg.norm(middle))
    highlight = cv2.pow(np.maximum((nx * hx + ny * hy + hz) * norm, 0), 40)
    sheen = 0.5 + 0.5 * np.sin(2.2 * surface.x - 1.4 * surface.y + 3 * nx * norm + 0.6)
    lit = light.ambient + (1.22 - light.ambient) * diffuse
    lit *= light.gain * (1 + surface.gloss * 0.35 * (sheen - 0.5))
    shine = 0.55 * light.gain * surface.gloss * highlight
    return np.asarray(surface.colour * lit + shine, np.float32)


def compose(ground: Field, surface: Surface, light: Light, *, thickness: float = 0.16) -> Field:
    """Lay the lit surface and its shadow on the ground.

    Args:
        ground: (3, H, W) BGR in [0, 1], already lit.
        surface: what lies on it.
        light: the lamp.
        thickness: how high the part stands, part units: the length of its shadow.

    Returns:
        A new (3, H, W) float32 picture in [0, 1].
    """
    picture = ground.copy()
    left, top = surface.origin
    rows, columns = surface.cover.shape
    window = picture[:, top : top + rows, left : left + columns]
    reach = thickness / surface.pixel
    move = np.array([[1, 0, -light.direction[0] * reach], [0, 1, -light.direction[1] * reach]], np.float32)
    cast = np.asarray(cv2.warpAffine(surface.cover, move, (columns, rows)), np.float32)
    shadow = 0.55 * _blur(cast, 0.35 * reach)
    contact = 0.35 * _blur(surface.cover, 0.25 * reach)
    window *= 1 - np.maximum(shadow, contact)
    window += (shade(surface, light) - window) * surface.cover
    np.clip(window, 0, 1, out=window)
    return picture


def _blur(field: Field, sigma: float) -> Field:
    """Gaussian blur; a wide one is made at half the size."""
    if sigma < 4:  # noqa: PLR2004 - pixels: below, half the size would show
        return np.asarray(cv2.GaussianBlur(field, (0, 0), max(sigma, 0.5)), np.float32)
    half = cv2.resize(field, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(half, (0, 0), sigma / 2)
    return np.asarray(cv2.resize(blurred, (field.shape[1], field.shape[0])), np.float32)
