"""Visual words: the few kinds of patches that a camera sees, found by k-means (Arthur & Vassilvitskii 2007; Lloyd)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.random import Generator
    from numpy.typing import NDArray

__all__ = ["MOST_ROWS", "inertia", "k_means", "nearest_word", "some_rows"]

MOST_ROWS = 20_000
"""Patches that words are found by; of more a regular choice is taken."""

_ROUNDS = 60
"""Of Lloyd's algorithm, after which words hardly move."""


def some_rows(frames: Collection[NDArray[np.floating]], counted: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Patches of frames to find words by, at most ``MOST_ROWS``, spread evenly over all of them.

    Args:
        frames: (P, C) each, taken one at a time.
        counted: (P,) which patches count.

    Returns:
        (n, C) float32.
    """
    places = np.flatnonzero(counted)
    step = max(1, -(-len(frames) * len(places) // MOST_ROWS))
    # Frames begin at different patches, or a step that divides P would see the same places of all of them.
    chosen = [frame[places[number % step :: step]] for number, frame in enumerate(frames)]
    return np.concatenate([np.asarray(each, np.float32) for each in chosen])


def k_means(rows: NDArray[np.float32], count: int, rng: Generator) -> NDArray[np.float32]:
    """Centres of clusters, from a start by greedy k-means++ (of a few candidates the one that helps most).

    Args:
        rows: (n, C) float32, at least one.
        count: of clusters wanted.
        rng: decides the start.

    Returns:
        (k, C) float32, k at most ``count`` and the number of different rows.
    """
    centres = _start(rows, count, rng)
    labels = np.full(len(rows), -1)
    for _ in range(_ROUNDS):
        found = nearest_word(rows, centres)
        if np.array_equal(found, labels):
            break
        labels = found
        belongs = labels == np.arange(len(centres))[:, None]
        sums, sizes = belongs.astype(np.float32) @ rows, np.count_nonzero(belongs, axis=1)
        held = sizes > 0  # a cluster that lost all its rows stays where it is
        centres[held] = sums[held] / sizes[held, None].astype(np.float32)
    return centres


def nearest_word(rows: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.intp]:
    """(…) number of the nearest centre (k, C) of each row (…, C)."""
    return np.asarray(((centres**2).sum(axis=1) - 2 * (rows @ centres.T)).argmin(axis=-1))


def inertia(rows: NDArray[np.float32], centres: NDArray[np.float32]) -> float:
    """Sum of the squared distances of rows (n, C) to their nearest centres."""
    return float(((rows - centres[nearest_word(rows, centres)]).astype(np.float64) ** 2).sum())


def _start(rows: NDArray[np.float32], count: int, rng: Generator) -> NDArray[np.float32]:
    """(k, C) rows to begin with: far from each other, drawn by the square of the distance."""
    candidates = 2 + int(np.log(count))
    chosen = [int(rng.integers(len(rows)))]
    left = _squares(rows, rows[chosen])[:, 0]
    while len(chosen) < count and left.sum() > 0:
        drawn = rng.choice(len(rows), candidates, p=left / left.sum())
        closer = np.minimum(left[:, None], _squares(rows, rows[drawn]))
        best = int(closer.sum(axis=0).argmin())
        chosen.append(int(drawn[best]))
        left = closer[:, best]
    return rows[chosen].copy()


def _squares(rows: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, m) squared distances; exactly 0 between equal rows up to rounding of the inputs."""
    found = (rows**2).sum(axis=1)[:, None] - 2 * (rows @ others.T) + (others**2).sum(axis=1)
    found[found < 1e-6 * max(float((rows**2).sum(axis=1).max()), 1e-12)] = 0
    return np.asarray(found, np.float64)
