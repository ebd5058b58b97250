"""The picture of the demo: for each frame what was drawn, with the outline of the truth, beside what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edgevand_runtime.overlay import draw_overlay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.results import Result

__all__ = ["Card", "draw_cards"]

_COLUMNS = 2
_WIDTH = 300
"""Of one frame on the sheet, pixels; its overlay has the same."""

_GAP, _CAPTION = 8, 24
_PAPER, _INK = (255, 255, 255), (30, 33, 38)
_HEADING = "left: the frame, a drawn defect outlined in green; right: what the detector says"
_TRUTH = (80, 230, 60)  # BGR


class Card(NamedTuple):
    """One frame on the sheet.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        truth: (H, W) uint8, 0 or 255, where it is defective; None for a good part.
        result: its verdict.
        caption: one line above it.
    """

    image: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None
    result: Result
    caption: str


def draw_cards(cards: Sequence[Card]) -> NDArray[np.uint8]:
    """Draw the cards in two columns.

    Args:
        cards: at least one, all frames of one size.

    Returns:
        (H', W', 3) uint8 BGR.
    """
    drawn = [_card(card) for card in cards]
    width, height = drawn[0].size
    rows = -(-len(drawn) // _COLUMNS)
    columns = min(_COLUMNS, len(drawn))
    size = (columns * (width + _GAP) + _GAP, _CAPTION + rows * (height + _GAP) + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    ImageDraw.Draw(sheet).text((_GAP, _GAP), _HEADING, font=ImageFont.load_default(13), fill=_INK)
    for place, card in enumerate(drawn):
        row, column = divmod(place, _COLUMNS)
        sheet.paste(card, (_GAP + column * (width + _GAP), _CAPTION + _GAP + row * (height + _GAP)))
    return np.ascontiguousarray(np.asarray(sheet)[..., ::-1])


def _card(card: Card) -> Image.Image:
    """Caption, frame with the outline of the truth, overlay."""
    frame = card.image.copy()
    if card.truth is not None:
        outlines, _ = cv2.findContours(card.truth, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(frame, outlines, -1, _TRUTH, max(2, frame.shape[1] // 220), cv2.LINE_AA)
    overlay = draw_overlay(card.image, card.result)
    left, right = _shrink(frame), _shrink(overlay)
    picture = Image.new("RGB", (left.width + 2 + right.width, right.height + _CAPTION), _PAPER)
    picture.paste(left, (0, _CAPTION))
    picture.paste(right, (left.width + 2, _CAPTION))
    font = ImageFont.load_default(15)
    ImageDraw.Draw(picture).text((2, _CAPTION // 2), card.caption, font=font, fill=_INK, anchor="lm")
    return picture


def _shrink(image: NDArray[np.uint8]) -> Image.Image:
    """A picture at the sheet's width."""
    height = round(image.shape[0] * _WIDTH / image.shape[1])
    return Image.fromarray(image[..., ::-1]).resize((_WIDTH, height), Image.Resampling.LANCZOS)
