"""Is the view fixed? What ``locality=auto`` goes by at enrolment (docs/methods/april-gan.md has the measurements).

Every patch of an enrolled frame is held against the other frames twice: against all of their patches, and against those
within R cells of its own place. Two figures follow, neither of which is a label's:

- **near**: the share of patches whose nearest patch of all lies within R cells, above chance, (s - c) / (1 - c), with c
  the share of the grid that lies so near. 1: every patch finds its like in its own place. 0: places say nothing.
- **rise**: by how much the scores of these normal frames rise where only near patches count, mean ln(score_R / score).

The view is fixed where near is at least ``NEAR`` on every stage and the rise at most ``RISE``. The rise alone tells
fixed views only roughly: where parts lie turned about one point, most patches are the ground's and the few that matter
are hidden in a top score that hardly rises; and the share alone passes round parts whose rim looks alike all around.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgevand_runtime.locality import LocalBank, radii
from edgevand_runtime.maps import top_mean, upsample
from edgevand_runtime.memory import Held, MemoryBank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.coreset import Tokens

__all__ = [
    "LEAST_FRAMES",
    "NEAR",
    "RISE",
    "Alignment",
    "alignment",
    "bare_search",
    "chance",
    "choose_radius",
    "spread_frames",
]

NEAR = 0.95
RISE = 0.02

LEAST_FRAMES = 4
"""Independent frames below which nothing is decided, as for a threshold."""

_WIDEST = 10
"""R goes up to this part of the grid's shorter side, at least to 1: who is farther off is not in his place."""

_SAME = 1e-5
"""Cosines of the same two rows differ by rounding."""

_TOP = 0.01


class Alignment(NamedTuple):
    """How far frames lie alike."""

    near: float
    """Share of patches above chance whose nearest patch lies near their own place; the stage with the smallest."""
    rise: float
    """Mean of ln(score among near patches / score among all) of the frames."""

    @property
    def fixed(self) -> bool:
        """Whether the view is fixed, so far as this radius tells."""
        return self.near >= NEAR and self.rise <= RISE


def alignment(
    tokens: Sequence[Tokens],
    grids: Sequence[tuple[int, int]],
    groups: Sequence[int],
    radius: int,
    inside: NDArray[np.bool_] | None = None,
) -> Alignment:
    """Hold frames against each other near and far.

    Args:
        tokens: for each stage (F, 1 + A, P, C) unit vectors or a sequence of F arrays; augmented copies do not count.
        grids: rows and columns of each stage.
        groups: group of each frame; at least two.
        radius: R, in cells of the finest grid (``locality.radii``).
        inside: (S_h, S_w) region of interest; None for the whole image.
    """
    own = [[frame[:1] for frame in stage] for stage in tokens]
    everywhere, nearby = (bare_search(own, grids, each).leave_out(groups) for each in (None, radius))
    shares = []
    for grid, reach, near, best in zip(grids, radii(grids, radius), nearby, everywhere, strict=True):
        by_chance = chance(grid, reach)
        seen = slice(None) if inside is None else _cells(inside, grid)
        share = float(np.mean((near <= best + _SAME)[:, seen]))
        shares.append((share - by_chance) / (1 - by_chance) if by_chance < 1 else 1.0)
    rises = [
        math.log(high / low)
        for high, low in zip(_scores(nearby, grids, inside), _scores(everywhere, grids, inside), strict=True)
        if low > 0
    ]
    return Alignment(min(shares), float(np.mean(rises)) if rises else 0.0)


def bare_search(
    tokens: Sequence[Tokens], grids: Sequence[tuple[int, int]], radius: int | None
) -> LocalBank | MemoryBank:
    """A search that is only ever asked to leave frames out; no row is copied for it. None: everywhere."""
    if radius is not None:
        return LocalBank(tokens, grids, radius)
    return MemoryBank(tokens, held=[Held(np.empty((0, stage[0].shape[-1]), np.float32), None) for stage in tokens])


def chance(grid: tuple[int, int], radius: int) -> float:
    """Share of a grid that lies within ``radius`` cells of a cell, mean over its cells: near by chance."""
    shares = [
        np.mean([min(at + radius, side - 1) - max(at - radius, 0) + 1 for at in range(side)]) / side for side in grid
    ]
    return float(shares[0] * shares[1])


def choose_radius(
    tokens: Sequence[Tokens],
    grids: Sequence[tuple[int, int]],
    groups: Sequence[int],
    inside: NDArray[np.bool_] | None = None,
) -> tuple[int | None, str]:
    """The smallest radius with which the view is fixed, or None, and a sentence that says why.

    Args: as for ``alignment``.
    """
    frames = spread_frames(groups)
    if len(frames) < LEAST_FRAMES:
        return None, (
            f"locality off: {len(frames)} independent frame{'s' if len(frames) > 1 else ''} cannot tell whether the "
            f"view is fixed, {LEAST_FRAMES} can."
        )
    some = [[stage[frame] for frame in frames] for stage in tokens]
    finest = max(grids)
    widest = max(1, min(finest) // _WIDEST)
    for radius in range(1, widest + 1):
        found = alignment(some, grids, [groups[frame] for frame in frames], radius, inside)
        cells = f"{radius} cell{'s' if radius > 1 else ''}"
        figures = (
            f"{found.near:.0%} of the patches above chance have their like within {cells} of their own place in the "
            f"other frames (a fixed view: {NEAR:.0%}), and scores of normal frames rise by {math.expm1(found.rise):.1%}"
            f" where only these count ({RISE:.0%} at most)"
        )
        if found.fixed:
            return radius, f"locality {radius}: the view is fixed, for {figures}."
    return None, f"locality off: the view is not fixed, for {figures}."


def spread_frames(groups: Sequence[int], most: int = 8) -> list[int]:
    """Positions of at most so many frames, each of another group, spread evenly over all."""
    firsts = sorted({group: position for position, group in reversed(list(enumerate(groups)))}.values())
    if len(firsts) <= most:
        return firsts
    return [firsts[at] for at in np.linspace(0, len(firsts) - 1, most).round().astype(int)]


def _scores(
    distances: Sequence[NDArray[np.float32]], grids: Sequence[tuple[int, int]], inside: NDArray[np.bool_] | None
) -> list[float]:
    """Mean of the highest 1 % of each frame's map, at four points for a cell of the finest grid."""
    rows, columns = (2 * max(sides) for sides in zip(*grids, strict=True))
    seen = None if inside is None else _cells(inside, (rows, columns))
    found = []
    for stages in zip(*distances, strict=True):
        total = sum(upsample(d.reshape(1, *g), (rows, columns))[0] for d, g in zip(stages, grids, strict=True))
        flat = np.asarray(total, np.float32).reshape(-1)
        found.append(top_mean(flat if seen is None else flat[seen], _TOP))
    return found


def _cells(inside: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.intp]:
    """Cells whose middle lies in a region of interest; all of them where none does."""
    rows, columns = (
        ((np.arange(count) + 0.5) * side / count).astype(int) for count, side in zip(grid, inside.shape, strict=True)
    )
    found = np.flatnonzero(inside[np.ix_(rows, columns)])
    return found if found.size else np.arange(grid[0] * grid[1])
