from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgevand_runtime.methods.levers.alignment import alignment, chance, choose_radius, spread_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRIDS, WIDTH, FRAMES = ((6, 7), (3, 4)), 12, 5


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def frames(shuffled: bool, noise: float = 0.2, count: int = FRAMES) -> list[NDArray[np.float32]]:  # noqa: FBT001 - by name below
    """For each stage (F, 1, P, C): every place has a direction of its own, at the same place in each frame or not."""
    random = np.random.default_rng(3)
    stages = []
    for rows, columns in GRIDS:
        places = random.normal(size=(rows * columns, WIDTH))
        orders = [random.permutation(len(places)) if shuffled else np.arange(len(places)) for _ in range(count)]
        stages.append(unit(np.stack([places[order] + noise * random.normal(size=places.shape) for order in orders])))
    return [stage[:, None] for stage in stages]


@pytest.mark.parametrize("grid", [(1, 1), (3, 3), (4, 7)])
@pytest.mark.parametrize("radius", [0, 1, 2])
def test_near_by_chance_is_the_share_of_pairs_of_cells_that_are_near(grid: tuple[int, int], radius: int) -> None:
    cells = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
    near = [max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= radius for a in cells for b in cells]
    assert chance(grid, radius) == pytest.approx(np.mean(near))


@pytest.mark.parametrize("shuffled", [False, True])
def test_both_figures_are_those_of_their_definition(shuffled: bool) -> None:  # noqa: FBT001 - a parameter of the test
    tokens = frames(shuffled)
    found = alignment(tokens, GRIDS, range(FRAMES), 1)
    shares, near_maps, maps = [], [], []
    for stage, (rows, columns) in zip(tokens, GRIDS, strict=True):
        cell = np.arange(rows * columns)
        down, right = (np.abs(each[:, None] - each) for each in np.divmod(cell, columns))
        window = np.maximum(down, right) <= 1
        hits = []
        for frame in range(FRAMES):
            others = [other for other in range(FRAMES) if other != frame]
            cosines = np.stack([stage[frame, 0].astype(float) @ stage[other, 0].astype(float).T for other in others])
            best = cosines.max(axis=0)
            hits.append(window[cell, best.argmax(axis=1)])
            maps.append(1 - best.max(axis=1))
            near_maps.append(1 - np.where(window, best, -1).max(axis=1))
        shares.append((np.mean(hits) - window.mean()) / (1 - window.mean()))
    assert found.near == pytest.approx(min(shares), abs=1e-9)
    # A map four times as fine as the grid of 6 x 7, of which the one highest value is the top hundredth.
    rises = []
    for frame in range(FRAMES):
        tops = [max_of_sum([each[frame], each[FRAMES + frame]]) for each in (near_maps, maps)]
        rises.append(math.log(tops[0] / tops[1]))
    assert found.rise == pytest.approx(np.mean(rises), abs=1e-5)
    assert found.rise >= 0


def max_of_sum(stages: list[NDArray[np.float64]]) -> float:
    total = np.zeros((12, 14))
    for values, (rows, columns) in zip(stages, GRIDS, strict=True):
        across = np.array(
            [
                np.interp(np.linspace(0, columns - 1, 14), np.arange(columns), row)
                for row in values.reshape(rows, columns)
            ]
        )
        total += np.array([np.interp(np.linspace(0, rows - 1, 12), np.arange(rows), column) for column in across.T]).T
    return float(total.max())


def test_frames_that_lie_alike_are_a_fixed_view_and_shuffled_ones_are_not() -> None:
    radius, why = choose_radius(frames(shuffled=False), GRIDS, range(FRAMES))
    assert radius == 1
    assert why.startswith("locality 1: the view is fixed, for 100% of the patches above chance")
    radius, why = choose_radius(frames(shuffled=True), GRIDS, range(FRAMES))
    assert radius is None
    assert why.startswith("locality off: the view is not fixed, for ")


def test_augmented_copies_say_nothing_of_the_view() -> None:
    loose = frames(shuffled=True)
    copied = [np.concatenate([stage, np.repeat(stage[:1], FRAMES, axis=0)], axis=1) for stage in loose]
    assert alignment(copied, GRIDS, range(FRAMES), 1) == alignment(loose, GRIDS, range(FRAMES), 1)


def test_near_copies_of_a_frame_do_not_make_a_view_fixed() -> None:
    loose = frames(shuffled=True, count=5)
    doubled = [np.repeat(stage, 2, axis=0) for stage in loose]
    assert choose_radius(doubled, GRIDS, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])[0] is None
    assert choose_radius(doubled, GRIDS, [0] * 10)[1].startswith("locality off: 1 independent frame cannot tell")


def test_what_lies_outside_the_region_of_interest_does_not_count() -> None:
    fixed, loose = frames(shuffled=False), frames(shuffled=True)
    inside = np.zeros((60, 70), np.bool_)
    inside[:30] = True
    for (rows, columns), stage, other in zip(GRIDS, fixed, loose, strict=True):
        below = (rows // 2 + rows % 2) * columns
        stage[:, :, below:] = -other[:, :, below:]  # unlike anything above
    assert alignment(fixed, GRIDS, range(FRAMES), 1).near < 0.9
    assert alignment(fixed, GRIDS, range(FRAMES), 1, inside).near == pytest.approx(1)


def test_at_most_eight_frames_of_different_groups_are_looked_at() -> None:
    assert spread_frames([0, 0, 1, 2, 2]) == [0, 2, 3]
    chosen = spread_frames([number // 2 for number in range(100)])
    assert len(chosen) == 8
    assert (chosen[0], chosen[-1]) == (0, 98)
    assert all(frame % 2 == 0 for frame in chosen)
