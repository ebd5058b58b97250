"""A heat map that a person can read, over the frame it belongs to.

The colours are fixed by the calibration and not by each frame's own maximum, so that the same colour means the same
thing on every frame: nothing up to what normal frames typically reach, cool up to the threshold, warm above it,
magenta from twice the threshold on. A thin line runs where the map crosses the threshold, which also serves who
cannot tell the colours apart. Every region of the result has a white box with its peak; a strip below the picture (no
pixel of the frame is hidden by it) holds the verdict, the scores and the legend.

What a method says in words (``Result.reason``) stands in a line of its own in the strip, and what it points at
(``Result.marks``) in labelled boxes of another colour; both unless the frame was found normal, where they would only
say what came nearest to being wrong.

Where nothing was calibrated the strip says "uncalibrated" and ``uncalibrated_scale`` takes the threshold's place, a
fixed raw value: one half for each stage of a zero-shot map (where normal and abnormal are equally likely) and one
quarter for each stage of a memory-bank map. The colours then start at half of it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevand.bundle import Manifest
    from edgevand_runtime.methods import Mark
    from edgevand_runtime.results import Region, Result

__all__ = ["UNCALIBRATED_SCALE", "draw_heat", "draw_overlay", "uncalibrated_scale"]

UNCALIBRATED_SCALE = 1.0
"""Raw map value drawn in the threshold's colours where neither the result nor the caller says another."""

_MIN_WIDTH, _MIN_HEIGHT = 480, 360
"""A frame smaller than both is enlarged by a whole factor first: its text would not fit otherwise."""

_MAX_LABELS = 24
"""Boxes beyond the highest ones are drawn without their number: labels on labels cannot be read."""

# Place on the scale (0.5 where the colours start, 1 the threshold, 2 twice that), colour (R, G, B) and opacity there;
# linear in between.
_STOPS = (
    (0.00, (50, 80, 255), 0.00),
    (0.50, (50, 80, 255), 0.00),
    (0.65, (50, 90, 255), 0.18),
    (0.85, (30, 150, 255), 0.32),
    (0.98, (40, 220, 220), 0.38),
    (1.00, (255, 226, 40), 0.38),
    (1.35, (255, 120, 20), 0.42),
    (1.70, (236, 30, 40), 0.46),
    (2.00, (190, 0, 120), 0.50),
)
_TOP = 2.0

_MOST_NORMAL = 0.95
"""Of the threshold; a hand-set threshold may lie below what normal frames reach."""

_MARK = (255, 214, 64)
_MOST_LINES = 3
"""Of a reason; what is longer ends in an ellipsis and is in the result in full."""

_INK = (238, 240, 243)
_PAPER = (24, 27, 31)
_VERDICTS = {True: ("ANOMALY", (200, 30, 40)), False: ("normal", (30, 122, 62)), None: ("uncalibrated", (92, 98, 107))}


def uncalibrated_scale(manifest: Manifest, *, bank: bool) -> float:
    """The raw map value that stands at the threshold's colour where nothing was calibrated.

    Args:
        manifest: of the bundle that scores; its stages and score terms say what the raw map sums.
        bank: whether a memory bank is part of the map.
    """
    heads = sum(stage.head for stage in manifest.stages)
    zero_shot = heads if not bank or "zero-shot-map" in manifest.score.terms else 0
    memory = len(manifest.stages) if bank else 0
    return 0.5 * zero_shot + 0.25 * memory or UNCALIBRATED_SCALE


def draw_overlay(
    image: NDArray[np.uint8], result: Result, *, uncalibrated_scale: float | None = None
) -> NDArray[np.uint8]:
    """Draw a result over its frame.

    Args:
        image: (H, W, 3) uint8 BGR, the frame that the result belongs to; it is not written to.
        result: its verdict; regions are taken to be in pixels of ``image``.
        uncalibrated_scale: raw map value drawn in the threshold's colours where the result has no map
            threshold; default ``UNCALIBRATED_SCALE``.

    Returns:
        (H * f + strip, W * f, 3) uint8 BGR: the frame (f = 1 unless it is tiny) and the strip below it.
    """
    factor = _enlargement(image.shape[1], image.shape[0])
    canvas = image
    if factor > 1:
        canvas = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    scale = result.map_threshold or uncalibrated_scale or UNCALIBRATED_SCALE
    start = _start(result, scale)
    heated = canvas if result.raw_map is None else draw_heat(canvas, result.raw_map, scale, start)
    text_height = max(12, round(min(heated.shape[0], heated.shape[1] * 0.75) / 28))
    picture = Image.fromarray(heated[..., ::-1])
    draw, said = ImageDraw.Draw(picture), result.anomalous is not False
    labels = _Labels(draw, _font(text_height), picture.size)
    _draw_regions(draw, result.regions, factor, text_height, labels)
    if said:
        _draw_marks(draw, result.marks, text_height, labels)
    strip = _strip(result, scale, picture.width, text_height)
    whole = Image.new("RGB", (picture.width, picture.height + strip.height))
    whole.paste(picture, (0, 0))
    whole.paste(strip, (0, picture.height))
    return np.ascontiguousarray(np.asarray(whole)[..., ::-1])


def draw_heat(
    image: NDArray[np.uint8], raw_map: NDArray[np.float32], threshold: float, start: float
) -> NDArray[np.uint8]:
    """Blend the heat map alone over a frame, with the line where the map crosses the threshold.

    Args:
        image: (H, W, 3) uint8 BGR, of any size; it is not written to.
        raw_map: (h, w) float32 raw map; enlarged to the frame bilinearly.
        threshold: raw value at which the colours turn warm, above 0.
        start: raw value from which on there is any colour, below the threshold.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    height, width = image.shape[:2]
    finite = np.nan_to_num(raw_map, nan=0.0, posinf=_TOP * threshold, neginf=0.0).astype(np.float32, copy=False)
    enlarged = cv2.resize(finite, (width, height), interpolation=cv2.INTER_LINEAR)
    below = 0.5 + 0.5 * (enlarged - start) / (threshold - start)
    place = np.where(enlarged < threshold, below, enlarged / threshold)
    level = np.clip(place * (255 / _TOP), 0, 255).astype(np.uint8)
    colours, opacity = _table()
    alpha = cv2.LUT(level, opacity)[..., None]
    blended = image * (1 - alpha) + cv2.LUT(cv2.merge([level] * 3), colours[None]) * alpha
    heated: NDArray[np.uint8] = np.rint(blended).astype(np.uint8)
    outlines, _ = cv2.findContours((enlarged >= threshold).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    line = max(1, round(min(height, width) / 500))
    cv2.drawContours(heated, outlines, -1, (255, 255, 255), line, cv2.LINE_AA)
    return heated


def _start(result: Result, threshold: float) -> float:
    """Where the colours start: what normal frames typically reach, or half the threshold where that is not known."""
    normal = result.map_normal
    return normal if normal is not None and normal < _MOST_NORMAL * threshold else threshold / 2


@lru_cache(maxsize=1)
def _table() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The colours (256, 3) uint8 BGR and opacities (256,) float32 over places 0 .. ``_TOP``."""
    at = np.linspace(0, _TOP, 256)
    stops = [ratio for ratio, _, _ in _STOPS]
    channels = [np.interp(at, stops, [colour[channel] for _, colour, _ in _STOPS]) for channel in (2, 1, 0)]
    opacity = np.interp(at, stops, [alpha for _, _, alpha in _STOPS]).astype(np.float32)
    return np.stack(channels, axis=1).astype(np.uint8), opacity


def _enlargement(width: int, height: int) -> int:
    """The whole factor by which a tiny frame is enlarged so that text fits on it; 1 for all others."""
    return max(1, min(-(-_MIN_WIDTH // width), -(-_MIN_HEIGHT // height)))


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own scalable font: present wherever Pillow is, so pictures look the same on every machine."""
    return ImageFont.load_default(size)


def _draw_regions(
    draw: ImageDraw.ImageDraw, regions: tuple[Region, ...], factor: int, text_height: int, labels: _Labels
) -> None:
    """A box and its peak for each region, the highest peaks last and so on top."""
    line = max(2, text_height // 7)
    ordered = sorted(regions, key=lambda region: region.peak)
    for place, region in enumerate(ordered):
        left, top = region.x * factor, region.y * factor
        right, bottom = left + region.w * factor - 1, top + region.h * factor - 1
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_PAPER, width=line + 2)
        draw.rectangle((left, top, right, bottom), outline=(255, 255, 255), width=line)
        if place >= len(ordered) - _MAX_LABELS:
            labels.draw((left, top, bottom), f"{region.peak:.2f}", _INK)


def _draw_marks(draw: ImageDraw.ImageDraw, marks: tuple[Mark, ...], text_height: int, labels: _Labels) -> None:
    """A box and its words for each mark."""
    line = max(2, text_height // 7)
    width, height = labels.size
    for place, mark in enumerate(marks):
        x, y, w, h = mark.box
        left, top = round(min(max(x, 0), 1) * (width - 1)), round(min(max(y, 0), 1) * (height - 1))
        right, bottom = round(min(max(x + w, 0), 1) * (width - 1)), round(min(max(y + h, 0), 1) * (height - 1))
        draw.rectangle((left, top, right, bottom), outline=_PAPER, width=line + 2)
        draw.rectangle(
            (left + 1, top + 1, max(left + 1, right - 1), max(top + 1, bottom - 1)), outline=_MARK, width=line
        )
        if place < _MAX_LABELS:
            labels.draw((left, top, bottom), mark.label, _MARK)


class _Labels:
    """Text on a solid ground beside boxes; one label does not cover another where there is room."""

    def __init__(
        self, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, size: tuple[int, int]
    ) -> None:
        self.size = size
        self._draw = draw
        self._font = font
        self._line = round(draw.textbbox((0, 0), "0.", font=font)[3])
        self._pad = max(2, round(self._line / 6))
        self._taken: list[tuple[int, int, int, int]] = []

    def draw(self, box: tuple[int, int, int], text: str, ink: tuple[int, int, int]) -> None:
        """Write above the box (left, top, bottom), else below it, else inside; on top of others where all are taken."""
        left, top, bottom = box
        text = _fitted(self._draw, text, self._font, self.size[0] - 2 * self._pad)
        width = round(self._draw.textlength(text, font=self._font)) + 2 * self._pad
        height = self._line + 2 * self._pad
        x = max(0, min(left, self.size[0] - width))
        rows = [y for y in (top - height, bottom + 1, top, bottom - height) if 0 <= y <= self.size[1] - height]
        free = [y for y in rows if not any(_meet((x, y, x + width, y + height), other) for other in self._taken)]
        y = (free or rows or [max(0, top)])[0]
        self._taken.append((x, y, x + width, y + height))
        self._draw.rectangle((x, y, x + width, y + height), fill=_PAPER)
        self._draw.text((x + self._pad, y + self._pad), text, font=self._font, fill=ink)


def _meet(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    """Whether two rectangles (left, top, right, bottom) have a pixel in common."""
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _fitted(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> str:
    """The text, cut short with an ellipsis where it is wider than ``width`` pixels."""
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(f"{text}…", font=font) > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def _lines(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> list[str]:
    """A sentence in lines of at most ``width`` pixels, ``_MOST_LINES`` of them."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and draw.textlength(longer, font=font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES - 1 :] = [" ".join(lines[_MOST_LINES - 1 :])]
    return [_fitted(draw, line, font, width) for line in lines]


def _strip(result: Result, scale: float, width: int, text_height: int) -> Image.Image:
    """The strip below the picture: verdict and scores, legend at the right or, if narrow, below, then the reason."""
    font, small = _font(text_height), _font(max(10, round(text_height * 0.8)))
    pad = round(text_height * 0.5)
    row = round(text_height * 2.2)
    verdict, ground = _VERDICTS[result.anomalous]
    words = _scores(result)
    probe = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    badge = round(probe.textlength(verdict, font=font)) + 2 * pad
    left_width = pad + badge + pad + round(probe.textlength(words, font=font)) + 2 * pad
    legend_width = round(text_height * 14)
    beside = left_width + legend_width <= width
    reason = result.reason if result.reason and result.anomalous is not False else ""
    spoken = _lines(probe, reason, font, width - 2 * pad)
    spacing = round(text_height * 1.4)
    above = row if beside else 2 * row
    strip = Image.new("RGB", (width, above + len(spoken) * spacing + (pad if spoken else 0)), _PAPER)
    draw = ImageDraw.Draw(strip)
    for number, line in enumerate(spoken):
        draw.text((pad, above + number * spacing), line, font=font, fill=_MARK)
    inner = round(text_height * 0.35)
    draw.rounded_rectangle((pad, inner, pad + badge, row - inner), radius=pad // 2, fill=ground)
    draw.text((2 * pad, row / 2), verdict, font=font, fill=(255, 255, 255), anchor="lm")
    draw.text((pad + badge + pad, row / 2), words, font=font, fill=_INK, anchor="lm")
    corner = (width - legend_width, 0) if beside else (0, row)
    names = ("half", "threshold", "twice")
    if result.map_threshold is None:
        names = (f"{scale / 2:.3g}", f"{scale:.3g}", f"{2 * scale:.3g}")
    elif _start(result, scale) == result.map_normal:
        names = ("normal", "threshold", "twice")
    _draw_legend(draw, corner, (min(legend_width, width), row), small, names)
    return strip


def _scores(result: Result) -> str:
    """The calibrated score (the threshold is 0.50), else the raw one."""
    if result.score is not None:
        return f"score {result.score:.2f}"
    return f"raw {result.raw_score:.3g}"


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    size: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    names: tuple[str, str, str],
) -> None:
    """The colour bar, from where the colours start to twice the threshold, with three ticks."""
    width, row = size
    colours, opacity = _table()
    margin = round(row * 0.7)
    x, y, length, thick = corner[0] + margin, corner[1] + round(row * 0.18), width - 2 * margin, round(row * 0.3)
    ground = np.full(3, 150.0)
    for step in range(length):
        ratio = 0.5 + 1.5 * step / max(1, length - 1)
        level = round(ratio * 255 / _TOP)
        mixed = ground * (1 - opacity[level]) + colours[level][::-1].astype(float) * opacity[level]
        draw.line((x + step, y, x + step, y + thick), fill=tuple(int(value) for value in mixed))
    for ratio, name in zip((0.5, 1.0, 2.0), names, strict=True):
        at = x + round((ratio - 0.5) / 1.5 * (length - 1))
        draw.line((at, y, at, y + thick + max(2, row // 16)), fill=_INK, width=max(1, row // 24))
        draw.text((at, y + thick + round(row * 0.06)), name, font=font, fill=_INK, anchor="ma")
