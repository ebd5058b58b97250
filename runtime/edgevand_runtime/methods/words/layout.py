"""How much of each visual word a frame holds and where, and how far that is from what is usual.

A frame is described word by word: the share of its patches (as a square root, which makes the spread of few and of many
alike), the middle of them, how far they spread, and in how many connected pieces they lie (as a square root). Enrolled
frames give the mean of these numbers, their deviations and a covariance, shrunk towards a multiple of the identity
(Ledoit & Wolf 2004), since frames are few and numbers many. A frame's distance is Mahalanobis's, divided by the number
of numbers::

    D² = 1/p z^T P z,   z = (x - mean)/deviation,   P = covariance^-1

and a word's part in it the sum of z_i (P z)_i / p over its numbers: parts add up to D².
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "AREA",
    "COLUMNS",
    "MIDDLE_X",
    "MIDDLE_Y",
    "PIECES",
    "SPREAD",
    "Deviation",
    "Layout",
    "describe",
    "ledoit_wolf",
]

AREA, MIDDLE_X, MIDDLE_Y, SPREAD, PIECES = range(5)
COLUMNS = 5
"""Numbers that a word is described by."""

_FLOORS = np.array([0.02, 0.02, 0.02, 0.04, 0.2])
"""Deviations that any two frames may have: of few frames, some number does not vary at all."""

_JITTER = 1e-3
"""Added to the covariance, whose deviations are about 1: frames that are all alike have none."""


def describe(labels: NDArray[np.intp], count: int, counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Describe frames by their words.

    Args:
        labels: (F, h, w) word of each patch.
        count: number of words K.
        counted: (h, w) which patches count, at least one.

    Returns:
        (F, K, 5) float64: root of the share, middle x and y and spread in [0, 1] of the longer side, root of the number
        of pieces; middle and spread are NaN for a word that a frame does not hold.
    """
    _, rows, columns = labels.shape
    side = max(rows, columns, 2) - 1
    y, x = np.mgrid[0:rows, 0:columns] / side
    found = np.full((len(labels), count, COLUMNS), np.nan)
    for frame, words in zip(found, np.where(counted, labels, -1), strict=True):
        flat = words[counted]
        sizes = np.bincount(flat, minlength=count)
        there = sizes > 0
        frame[:, AREA] = np.sqrt(sizes / counted.sum())
        for column, places in ((MIDDLE_X, x), (MIDDLE_Y, y)):
            sums = np.bincount(flat, places[counted], minlength=count)
            frame[there, column] = sums[there] / sizes[there]
        squares = np.bincount(flat, (x**2 + y**2)[counted], minlength=count)
        middles = frame[there, MIDDLE_X] ** 2 + frame[there, MIDDLE_Y] ** 2
        frame[there, SPREAD] = np.sqrt(np.maximum(squares[there] / sizes[there] - middles, 0))
        frame[:, PIECES] = 0
        for word in np.flatnonzero(there):
            pieces, _ = cv2.connectedComponents((words == word).astype(np.uint8), connectivity=8)
            frame[word, PIECES] = np.sqrt(pieces - 1)
    return found


def ledoit_wolf(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(p, p) covariance of rows (n, p) of mean 0, shrunk towards the mean variance by Ledoit and Wolf's estimate."""
    count, width = rows.shape
    covariance = rows.T @ rows / count
    variance = float(np.trace(covariance)) / width
    away = float(((covariance - variance * np.eye(width)) ** 2).sum())
    noise = (float((rows**2).sum(axis=1) @ (rows**2).sum(axis=1)) / count - float((covariance**2).sum())) / count
    share = 0.0 if away == 0 else min(max(noise, 0.0) / away, 1.0)
    return np.asarray((1 - share) * covariance + share * variance * np.eye(width), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Deviation:
    """How far one frame is from what is usual.

    Attributes:
        distance: D, at least 0.
        parts: (K, 5) parts of D², by word and number; some may be below 0.
        labels: (h, w) the frame's words.
        described: (K, 5) the frame, see ``describe``.
    """

    distance: float
    parts: NDArray[np.float64]
    labels: NDArray[np.intp]
    described: NDArray[np.float64]

    @property
    def words(self) -> NDArray[np.float64]:
        """(K,) part of each word, at least 0."""
        return np.asarray(np.maximum(self.parts.sum(axis=1), 0), np.float64)


class Layout:
    """What is usual among enrolled frames."""

    def __init__(self, labels: NDArray[np.intp], count: int, counted: NDArray[np.bool_]) -> None:
        """Learn it.

        Args:
            labels: (F, h, w) words of the enrolled frames, at least two.
            count: number of words K.
            counted: (h, w) which patches count.
        """
        self._counted = counted
        described = describe(labels, count, counted).reshape(len(labels), -1)
        held = np.isfinite(described)
        self._mean = np.where(held, described, 0).sum(axis=0) / np.maximum(held.sum(axis=0), 1)
        whole = np.where(held, described, self._mean)
        floors = np.tile(_FLOORS, count)
        self._deviation = np.sqrt(whole.var(axis=0, ddof=1) + floors**2)
        covariance = ledoit_wolf((whole - self._mean) / self._deviation)
        self._precision = np.linalg.inv(covariance + _JITTER * np.eye(len(covariance)))
        words = np.arange(count)[:, None, None, None]
        self.usual = np.asarray((labels == words).mean(axis=1) * counted, np.float32)
        """(K, h, w) how often each place held each word."""
        self.mean = self._mean.reshape(count, COLUMNS)
        """(K, 5) what is usual, see ``describe``."""
        self.scale = self._deviation.reshape(count, COLUMNS)
        """(K, 5) how far that usually varies."""

    @property
    def count(self) -> int:
        """Number of words K."""
        return len(self.mean)

    def deviation(self, labels: NDArray[np.intp]) -> Deviation:
        """How far a frame with these words (h, w) is from what is usual."""
        described = describe(labels[None], self.count, self._counted)[0]
        flat = described.ravel()
        z = (np.where(np.isfinite(flat), flat, self._mean) - self._mean) / self._deviation
        parts = z * (self._precision @ z) / len(z)
        distance = float(np.sqrt(max(parts.sum(), 0.0)))
        return Deviation(distance, parts.reshape(self.count, COLUMNS), labels, described)

    def excess(self, deviation: Deviation) -> NDArray[np.float32]:
        """(K, h, w) where a frame holds a word that is not usual there (above 0), or lacks a usual one (below 0)."""
        held = deviation.labels == np.arange(self.count)[:, None, None]
        return np.asarray(held * self._counted - self.usual, np.float32)

    def paint(self, deviation: Deviation) -> NDArray[np.float32]:
        """(h, w) each word's part in D², where the frame holds it unusually and where it usually is but is not."""
        amounts = np.abs(self.excess(deviation))
        most = amounts.max(axis=(1, 2), keepdims=True)
        shares = amounts / np.maximum(most, np.float32(1e-6))
        return np.asarray(np.einsum("k,khw->hw", deviation.words, shares), np.float32)
