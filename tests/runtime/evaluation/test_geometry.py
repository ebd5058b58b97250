"""Curves and histograms as path data, against plain re-statements."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevand_runtime.evaluation.page.geometry import BOX, draw_curves, draw_histogram


def points_of(path: str) -> np.ndarray:
    """The points of a path in the units of its axes, which run from 0 to 1 both."""
    pairs = np.array(re.findall(r"(-?[\d.]+),(-?[\d.]+)", path), float)
    (left, right), (bottom, top) = BOX.x, BOX.y
    return (pairs - [left, bottom]) / [right - left, top - bottom]


def curve(*points: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.array(points, float).T
    return x, y


def line(*curves: tuple[np.ndarray, np.ndarray], limit: float = 1.0) -> np.ndarray:
    chart = draw_curves({"a": curves}, limit=limit)
    assert chart is not None
    return points_of(chart.lines[0].path)


def test_one_curve_is_drawn_as_it_is() -> None:
    drawn = line(curve((0, 0), (0, 0.5), (0.25, 0.75), (1, 1)))
    assert drawn == pytest.approx(np.array([[0, 0], [0, 0.5], [0.25, 0.75], [1, 1]]), abs=0.003)


def test_curves_of_several_seeds_are_averaged_upright_steps_kept() -> None:
    drawn = line(curve((0, 0), (0, 1), (1, 1)), curve((0, 0), (0.5, 0), (0.5, 1), (1, 1)))
    assert drawn == pytest.approx(np.array([[0, 0], [0, 0.5], [0.5, 0.5], [0.5, 1], [1, 1]]), abs=0.003)


def test_a_curve_ends_at_the_limit_where_it_is_cut_by_interpolation() -> None:
    drawn = line(curve((0, 0), (0.2, 0.4), (0.4, 0.8), (1, 1)), limit=0.3)
    assert drawn[-1] == pytest.approx([1, 0.6], abs=0.003)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=60), st.lists(st.floats(0, 1), min_size=60, max_size=60))
def test_thinning_moves_no_point_by_more_than_can_be_seen(x: list[float], y: list[float]) -> None:
    xs, ys = np.sort(x), np.array(y[: len(x)])
    drawn = line((xs, ys))
    for point in np.stack([xs, ys], axis=1):
        start, end = drawn[:-1], drawn[1:]
        along = end - start
        length = np.maximum((along**2).sum(axis=1), 1e-12)
        share = np.clip(((point - start) * along).sum(axis=1) / length, 0, 1)
        distance = np.abs(start + share[:, None] * along - point) * [BOX.x[1] - BOX.x[0], BOX.y[0] - BOX.y[1]]
        assert np.hypot(*distance.T).min() < 0.3  # units of the view box: thinning 0.15, rounding 0.07


def test_a_curve_of_many_points_on_a_line_needs_two() -> None:
    x = np.linspace(0, 1, 500)
    assert len(line((x, x))) == 2


def test_names_keep_their_places_where_one_has_no_curve() -> None:
    chart = draw_curves({"0": [], "4": [curve((0, 0), (1, 1))]}, points={"4": (0.5, 0.25)})
    assert chart is not None
    (drawn,) = chart.lines
    assert drawn.order == 1
    assert drawn.point == pytest.approx((sum(BOX.x) / 2, BOX.y[0] + 0.25 * (BOX.y[1] - BOX.y[0])), abs=0.06)
    assert draw_curves({"0": []}) is None


def test_a_histogram_shows_shares_of_each_kind() -> None:
    drawn = draw_histogram([0.0, 0.5, 1.0], [30, 10], [0, 5], None)
    assert drawn is not None
    assert [tick.label for tick in drawn.y_ticks] == ["0", "50", "100"]
    assert points_of(drawn.normal) == pytest.approx(
        np.array([[0, 0], [0, 0.75], [0.5, 0.75], [0.5, 0.25], [1, 0.25], [1, 0]]), abs=0.006
    )
    assert points_of(drawn.anomalous)[:, 1].max() == pytest.approx(1, abs=0.003)


def test_a_threshold_beyond_the_scores_widens_the_axis() -> None:
    drawn = draw_histogram([0.0, 0.5, 1.0], [1, 0], [0, 1], 2.0)
    assert drawn is not None
    assert drawn.threshold is not None
    assert BOX.x[0] < drawn.threshold < BOX.x[1]
    assert points_of(drawn.normal)[:, 0].max() < 0.51


@pytest.mark.parametrize(
    ("edges", "normal", "anomalous"),
    [([0.0, 1.0], [0], [0]), ([0.0, 1.0], [1, 2], [1]), ([1.0, 1.0], [1], [1])],
)
def test_what_is_no_histogram_is_not_drawn(edges: list[float], normal: list[int], anomalous: list[int]) -> None:
    assert draw_histogram(edges, normal, anomalous, 0.5) is None


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_lie_on_their_axis_and_differ(low: float, width: float) -> None:
    edges = np.linspace(low, low + width, 5)
    drawn = draw_histogram(list(edges), [1, 2, 3, 4], [4, 3, 2, 1], None)
    if edges[-1] == edges[0]:
        return
    assert drawn is not None
    places = [tick.at for tick in drawn.x_ticks]
    assert places == sorted(set(places))
    assert all(BOX.x[0] - 0.1 <= place <= BOX.x[1] + 0.1 for place in places)
    labels = [tick.label for tick in drawn.x_ticks]
    assert len(set(labels)) == len(labels) >= 2
    values = np.array(labels, float)
    slope = (places[-1] - places[0]) / (values[-1] - values[0])
    assert places == pytest.approx(places[0] + slope * (values - values[0]), abs=0.15)


def test_scores_that_are_all_but_equal_have_a_scale_that_can_be_read() -> None:
    drawn = draw_histogram([1.0, 1.0 + 1e-6], [5], [5], None)
    assert drawn is not None
    assert all(len(tick.label) <= 5 for tick in drawn.x_ticks)
