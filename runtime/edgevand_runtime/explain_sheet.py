"""The picture of an explanation: one row for each region, what was found beside what was expected.

From left to right: the frame with the region's box, the region's crop, the enrolled crop that came nearest at the
same scale, and the enrolled frame with that place. The patches that were compared are outlined in both crops. What the
method says of the whole frame stands above the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Cell", "Pair", "draw_sheet"]

_ROW = 260
_GAP = 10
_CAPTION = 26
_PAPER = (24, 27, 31)
_INK = (238, 240, 243)
_REGION = (255, 255, 255)
_PATCH = (0, 214, 255)
_REASON = (255, 214, 64)
_LEAST_WINDOW = 1 / 5
_ROOM, _WIDEST = 1.4, 2.0


class Cell(NamedTuple):
    """A rectangle as shares of a picture's width and height."""

    left: float
    top: float
    width: float
    height: float

    @property
    def centre(self) -> tuple[float, float]:
        """Its middle, (x, y)."""
        return self.left + self.width / 2, self.top + self.height / 2


class Pair(NamedTuple):
    """What is shown for one region.

    Attributes:
        region: the region in the frame.
        peak: its calibrated peak; None where nothing was calibrated.
        found: the frame's patch that was looked up.
        expected: the enrolled patch that came nearest.
        expected_image: (H, W, 3) uint8 BGR, the enrolled frame.
        expected_name: what to call it.
        distance: between the two patches.
    """

    region: Cell
    peak: float | None
    found: Cell
    expected: Cell
    expected_image: NDArray[np.uint8]
    expected_name: str
    distance: float


def draw_sheet(image: NDArray[np.uint8], pairs: Sequence[Pair], reason: str | None = None) -> NDArray[np.uint8]:
    """Draw the rows of all regions below each other.

    Args:
        image: (H, W, 3) uint8 BGR, the frame.
        pairs: at least one.
        reason: what the method says of the frame, in a few words.

    Returns:
        (H', W', 3) uint8 BGR.
    """
    rows = [_row(Image.fromarray(image[..., ::-1]), pair) for pair in pairs]
    top = _GAP + (_CAPTION if reason else 0)
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows) + top), _PAPER)
    if reason:
        ImageDraw.Draw(sheet).text((_GAP, top // 2), reason, font=ImageFont.load_default(16), fill=_REASON, anchor="lm")
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return np.ascontiguousarray(np.asarray(sheet)[..., ::-1])


def _row(frame: Image.Image, pair: Pair) -> Image.Image:
    """Frame, crop, enrolled crop, enrolled frame."""
    enrolled = Image.fromarray(pair.expected_image[..., ::-1])
    window = _window(frame.size, pair.region, pair.found)
    shift_x, shift_y = (there - here for there, here in zip(pair.expected.centre, pair.found.centre, strict=True))
    moved = window._replace(left=window.left + shift_x, top=window.top + shift_y)
    peak = "highest point, uncalibrated" if pair.peak is None else f"found, peak {pair.peak:.2f}"
    panels = [
        (_overview(frame, [(pair.region, _REGION)]), "frame"),
        (_crop(frame, window, [(pair.region, _REGION), (pair.found, _PATCH)]), peak),
        (_crop(enrolled, moved, [(pair.expected, _PATCH)]), f"nearest, distance {pair.distance:.2f}"),
        (_overview(enrolled, [(pair.expected, _PATCH)]), pair.expected_name),
    ]
    row = Image.new("RGB", (sum(panel.width + _GAP for panel, _ in panels) + _GAP, _ROW + _CAPTION + _GAP), _PAPER)
    draw = ImageDraw.Draw(row)
    font = ImageFont.load_default(15)
    left = _GAP
    for panel, caption in panels:
        row.paste(panel, (left, 0))
        draw.text((left, _ROW + _CAPTION // 2), caption, font=font, fill=_INK, anchor="lm")
        left += panel.width + _GAP
    return row


def _window(size: tuple[int, int], region: Cell, patch: Cell) -> Cell:
    """What of a frame (width, height in pixels) to show: region and patch with some room, inside where it fits."""
    left, top = min(region.left, patch.left), min(region.top, patch.top)
    right = max(region.left + region.width, patch.left + patch.width)
    bottom = max(region.top + region.height, patch.top + patch.height)
    least = _LEAST_WINDOW * min(size)
    width, height = max(_ROOM * (right - left) * size[0], least), max(_ROOM * (bottom - top) * size[1], least)
    width, height = max(width, height), max(height, width / _WIDEST)  # at least square, so that rows look alike
    share = Cell(0, 0, width / size[0], height / size[1])
    x, y = (left + right - share.width) / 2, (top + bottom - share.height) / 2
    # Inside the frame; a window larger than the frame has it in its middle.
    x = min(max(x, 0.0), 1 - share.width) if share.width <= 1 else (1 - share.width) / 2
    y = min(max(y, 0.0), 1 - share.height) if share.height <= 1 else (1 - share.height) / 2
    return share._replace(left=x, top=y)


def _overview(picture: Image.Image, boxes: Sequence[tuple[Cell, tuple[int, int, int]]]) -> Image.Image:
    """The whole picture at the row's height; a very wide one at most twice as wide as high."""
    scale = min(_ROW / picture.height, 2 * _ROW / picture.width)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    small = picture.resize(size, Image.Resampling.BICUBIC)
    _outline(small, Cell(0, 0, 1, 1), boxes)
    return small


def _crop(picture: Image.Image, window: Cell, boxes: Sequence[tuple[Cell, tuple[int, int, int]]]) -> Image.Image:
    """The window at the row's height, black where it reaches beyond the picture."""
    left, top = window.left * picture.width, window.top * picture.height
    width, height = window.width * picture.width, window.height * picture.height
    scale = _ROW / height
    size = (max(1, round(width * scale)), _ROW)
    matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    pixels = np.asarray(picture)
    if scale < 1:  # antialiased: the picture shrinks first, then the window is cut out of it
        shrunk = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
        pixels, matrix = np.asarray(shrunk), np.array([[1, 0, -left * scale], [0, 1, -top * scale]], float)
    crop = Image.fromarray(cv2.warpAffine(pixels, matrix, size, flags=cv2.INTER_LINEAR).astype(np.uint8))
    _outline(crop, window, boxes)
    return crop


def _outline(picture: Image.Image, window: Cell, boxes: Sequence[tuple[Cell, tuple[int, int, int]]]) -> None:
    """Draw rectangles, given in shares of the whole frame, on a picture that shows a window of it."""
    draw = ImageDraw.Draw(picture)
    for box, colour in boxes:
        left = (box.left - window.left) / window.width * picture.width
        top = (box.top - window.top) / window.height * picture.height
        right = left + box.width / window.width * picture.width
        bottom = top + box.height / window.height * picture.height
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_PAPER, width=4)
        draw.rectangle((left, top, right, bottom), outline=colour, width=2)
