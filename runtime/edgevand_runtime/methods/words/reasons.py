"""What the word that deviates most means, in words for people, and where in the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from edgevand_runtime.methods.words.layout import AREA, PIECES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevand_runtime.methods.words.layout import Deviation, Layout

__all__ = ["Reason", "place_name", "reason_of"]

_GONE = 0.4  # of the usual share of patches: below, something is missing
_FEW = 2.0  # deviations of the share from which on there is more or less of something than usual
_PIECE = 0.5  # pieces more or fewer than usual from which on something is there once more or less
_HALF = 0.5  # of the largest excess: what is boxed
_NAMES = (
    ("upper left", "top", "upper right"),
    ("left", "middle", "right"),
    ("lower left", "bottom", "lower right"),
)

Box = tuple[float, float, float, float]


class Reason(NamedTuple):
    """What a word's deviation means."""

    sentence: str
    """One short phrase."""
    boxes: tuple[tuple[str, Box], ...]
    """What to box: a label and x, y, width, height as fractions of the picture."""


def reason_of(layout: Layout, deviation: Deviation, first: int = 0) -> Reason | None:
    """What the word with the largest part in a deviation means; None where nothing deviates.

    Args:
        layout: what is usual.
        deviation: of the frame.
        first: number of the first word; people count from one.
    """
    word = int(deviation.words.argmax())
    excess = layout.excess(deviation)[word]
    if deviation.words[word] <= 0 or not excess.any():
        return None
    called = f"(word {first + word + 1})"
    usual, found = layout.mean[word], deviation.described[word]
    more, less = np.maximum(excess, 0), np.maximum(-excess, 0)
    share = (found[AREA] / max(usual[AREA], 1e-6)) ** 2
    amount = (found[AREA] - usual[AREA]) / layout.scale[word, AREA]
    pieces = found[PIECES] ** 2 - usual[PIECES] ** 2
    if share < _GONE or (amount < -_FEW and pieces < -_PIECE):
        return _told(less, "something at the {} is missing " + called, "missing")
    if amount > _FEW and pieces > _PIECE:
        return _told(more, "something at the {} is there once too often " + called, "one too many")
    if amount > _FEW or not less.any():
        return _told(more, "there is too much of something at the {} " + called, "too much")
    if amount < -_FEW or not more.any():
        return _told(less, "there is too little of something at the {} " + called, "too little")
    there, here = place_name(less), place_name(more)
    way = f"at the {there} lies elsewhere" if there == here else f"moved from the {there} to the {here}"
    return Reason(f"something {way} {called}", (("from here", _box(less)), ("to here", _box(more))))


def place_name(weights: NDArray[np.float32]) -> str:
    """Where the heaviest part of (h, w) weights lies, in words."""
    x, y, width, height = _box(weights)
    return _NAMES[min(int((y + height / 2) * 3), 2)][min(int((x + width / 2) * 3), 2)]


def _told(weights: NDArray[np.float32], sentence: str, label: str) -> Reason:
    return Reason(sentence.format(place_name(weights)), ((label, _box(weights)),))


def _box(weights: NDArray[np.float32]) -> Box:
    """x, y, width, height in [0, 1] around the heaviest connected piece of what is at least half the largest."""
    rows, columns = weights.shape
    high = (weights >= max(_HALF * float(weights.max()), 1e-6)).astype(np.uint8)
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(high, connectivity=8)
    heaviest = 1 + int(np.argmax(np.bincount(pieces.ravel(), weights.ravel())[1:])) if high.any() else 0
    left, top, width, height = (int(each) for each in stats[heaviest][:4])
    return left / columns, top / rows, width / columns, height / rows
