"""Which rows stand for a bank: the choice, the covering radius, the bound, and what is left without some frames."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgevand_runtime import coreset
from edgevand_runtime.coreset import covering_radius, farthest, make_cover, project, rows_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAMES, COPIES, PATCHES, WIDTH = 6, 2, 40, 16


def clustered(seed: int, width: int = WIDTH, *, spread: float = 0.4) -> NDArray[np.float32]:
    """Unit vectors (F, 1 + A, P, C) about nine directions: frames of one scene resemble each other."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((9, width))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    rows = centres[random.integers(0, 9, (FRAMES, COPIES, PATCHES))]
    rows += spread * random.standard_normal(rows.shape) / math.sqrt(width)
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows.astype(np.float32)


def naive_greedy(points: NDArray[np.float32], count: int) -> list[int]:
    """Farthest point after farthest point, one at a time, in double precision."""
    points = points.astype(np.float64)
    chosen = [0]
    nearest = ((points - points[0]) ** 2).sum(axis=1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return sorted(chosen)


@pytest.mark.parametrize("candidates", [7, 100, 10**6])
@pytest.mark.parametrize("count", [1, 2, 50, 480])
def test_rounds_choose_what_a_greedy_choice_point_by_point_chooses(
    monkeypatch: pytest.MonkeyPatch, candidates: int, count: int
) -> None:
    monkeypatch.setattr(coreset, "_CANDIDATES", candidates)
    points = project(clustered(0))
    assert make_cover(points, count).chosen.tolist() == naive_greedy(points, count)


def test_each_point_is_owned_by_the_nearest_chosen_one() -> None:
    points = project(clustered(1))
    cover = make_cover(points, 30)
    squared = ((points[:, None].astype(np.float64) - points[cover.chosen]) ** 2).sum(axis=2)
    np.testing.assert_allclose(cover.squared, squared.min(axis=1), atol=1e-5)
    np.testing.assert_allclose(squared[np.arange(len(points)), cover.owner], squared.min(axis=1), atol=1e-5)


def test_a_cover_of_rows_chosen_before_is_the_cover_they_were_chosen_in() -> None:
    points = project(clustered(2))
    made = make_cover(points, 25)
    again = make_cover(points, made.chosen)
    np.testing.assert_array_equal(again.chosen, made.chosen)
    np.testing.assert_allclose(again.squared, made.squared, atol=1e-5)


def test_copies_of_one_row_leave_nothing_to_choose() -> None:
    points = np.repeat(project(clustered(0))[:3], 5, axis=0)
    cover = make_cover(points, 10)
    assert len({tuple(row) for row in points[cover.chosen[:3]].tolist()}) <= 3
    assert cover.squared.max() == pytest.approx(0, abs=1e-6)


def test_a_projection_keeps_distances_and_few_channels_stay_as_they_are() -> None:
    narrow = clustered(3)
    np.testing.assert_array_equal(project(narrow), narrow.reshape(-1, WIDTH))
    wide = clustered(3, 1024, spread=3.0)
    points, rows = project(list(wide)), wide.reshape(-1, 1024)
    assert points.shape == (len(rows), 128)
    pairs = np.random.default_rng(0).integers(0, len(rows), (2, 500))
    pairs = pairs[:, pairs[0] != pairs[1]]
    true = np.linalg.norm(rows[pairs[0]] - rows[pairs[1]], axis=1)
    ratio = np.linalg.norm(points[pairs[0]] - points[pairs[1]], axis=1) / true
    assert ratio.mean() == pytest.approx(1, abs=0.03)
    assert ratio.std() == pytest.approx(1 / math.sqrt(2 * 128), abs=0.02)


@pytest.mark.parametrize("width", [WIDTH, 300])
@pytest.mark.parametrize("worst", [1, 64, 10**6])
def test_the_covering_radius_is_that_of_the_rows_themselves(
    monkeypatch: pytest.MonkeyPatch, width: int, worst: int
) -> None:
    monkeypatch.setattr(coreset, "_WORST", worst)
    frames = clustered(4, width)
    cover = make_cover(project(frames), 40)
    rows = rows_at(frames, cover.chosen)
    every = frames.reshape(-1, width).astype(np.float64)
    np.testing.assert_array_equal(rows, frames.reshape(-1, width)[cover.chosen])
    expected = (1 - (every @ rows.T.astype(np.float64)).max(axis=1)).max()
    assert covering_radius(frames, rows, cover) == pytest.approx(expected, abs=1e-5)


def test_a_query_is_never_farther_from_the_chosen_rows_than_the_bound() -> None:
    frames = clustered(5)
    cover = make_cover(project(frames), 40)
    rows = rows_at(frames, cover.chosen)
    radius = covering_radius(frames, rows, cover)
    queries = np.concatenate([clustered(6).reshape(-1, WIDTH), frames.reshape(-1, WIDTH)])
    exact = 1 - (queries @ frames.reshape(-1, WIDTH).T).max(axis=1)
    held = 1 - (queries @ rows.T).max(axis=1)
    bounds = np.array([farthest(float(distance), radius) for distance in exact])
    assert (held >= exact - 1e-6).all()
    assert (held <= bounds + 1e-5).all()


@pytest.mark.parametrize("degrees", [0, 10, 60, 175])
def test_the_bound_is_reached_by_three_vectors_on_a_circle(degrees: float) -> None:
    """The row lies between query and chosen row, 10 degrees from the chosen one; opposite is the farthest there is."""
    turn = min(degrees + 10, 180)
    found = farthest(1 - math.cos(math.radians(degrees)), 1 - math.cos(math.radians(10)))
    assert found == pytest.approx(1 - math.cos(math.radians(turn)), abs=1e-9)


def naive_net(points: NDArray[np.float32], kept: list[int], others: list[int], radius: float) -> list[int]:
    """Rows of ``others`` chosen after ``kept``, farthest first, until none is farther than ``radius`` away."""
    points = points.astype(np.float64)
    chosen: list[int] = []
    while True:
        centres = points[[*kept, *chosen]]
        squared = ((points[others][:, None] - centres) ** 2).sum(axis=2).min(axis=1)
        if squared.max() <= radius:
            return chosen
        chosen.append(others[int(squared.argmax())])


def test_left_out_points_are_replaced_by_others_until_the_radius_is_that_of_the_whole() -> None:
    points = project(clustered(7))
    cover = make_cover(points, 45)
    per = COPIES * PATCHES
    for frame in range(FRAMES):
        left_out = np.repeat(np.arange(FRAMES) == frame, per)
        kept, added = cover.without(left_out)
        stays = cover.chosen[kept]
        assert not left_out[stays].any()
        assert not left_out[added].any()
        np.testing.assert_array_equal(kept, ~left_out[cover.chosen])
        others = np.flatnonzero(~left_out).tolist()
        assert added.tolist() == naive_net(points, stays.tolist(), others, float(cover.squared.max()) + 1e-7)


def test_where_one_frame_stands_for_a_still_scene_another_takes_its_place() -> None:
    """Every frame is the same, so the chosen rows are all of one; without it the others must still be covered."""
    still = np.repeat(clustered(8)[:1], FRAMES, axis=0)
    points = project(still)
    cover = make_cover(points, 60)
    per = COPIES * PATCHES
    for frame in range(FRAMES):
        left_out = np.repeat(np.arange(FRAMES) == frame, per)
        kept, added = cover.without(left_out)
        rows = points[np.concatenate([cover.chosen[kept], added])]
        squared = ((points[~left_out][:, None] - rows) ** 2).sum(axis=2).min(axis=1)
        assert squared.max() <= cover.squared.max() + 1e-5


def test_with_every_point_left_out_nothing_is_left() -> None:
    points = project(clustered(9))
    kept, added = make_cover(points, 10).without(np.ones(len(points), bool))
    assert not kept.any()
    assert len(added) == 0
