"""Counted in bins, pixel metrics are within their own bounds of the exact ones, whatever the scores."""

from __future__ import annotations

import tracemalloc
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevand.errors import UsageError
from edgevand_runtime.metrics import StreamedFigures, StreamedPixelMetrics, pixel_metrics, pro
from tests.runtime import naive_metrics as naive

if TYPE_CHECKING:
    from numpy.typing import NDArray

BOUNDED = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "pro")
ROUNDING = 1e-9


def stream(masks: NDArray, maps: NDArray, digits: int = 16, limit: float = 0.3) -> StreamedFigures:
    streamed = StreamedPixelMetrics(digits, limit)
    for mask, values in zip(masks, maps, strict=True):
        streamed.add(mask if mask.any() else None, values)
    return streamed.result()


def assert_within(found: StreamedFigures, exact: dict[str, float | None]) -> None:
    for name in BOUNDED:
        value, expected = found.values[name], exact[name]
        assert value is not None
        assert expected is not None
        assert abs(value - expected) <= found.bounds[name] + ROUNDING, name
    assert found.reasons.keys() == {"pro_released"}


@settings(deadline=None, max_examples=150)
@given(naive.labelled_maps(side=6, levels=60), st.integers(1, 4), st.floats(0.1, 9.0), st.floats(-2.0, 2.0))
def test_the_exact_figures_lie_within_the_bounds(
    given_maps: tuple[NDArray, NDArray], digits: int, scale: float, shift: float
) -> None:
    """A few wide bins, so that the bounds are large and their proof has something to prove."""
    masks, maps = given_maps
    scores = (scale * maps + shift).astype(np.float32)
    assert_within(stream(masks, scores, digits), pixel_metrics(masks, scores).values)


@pytest.mark.parametrize("digits", [1, 4, 8])
@pytest.mark.parametrize("seed", range(3))
def test_on_blobs_too_and_the_bounds_shrink_with_the_bins(seed: int, digits: int) -> None:
    masks, maps = naive.drawn_blobs(seed)
    found, finer = stream(masks, maps, digits), stream(masks, maps, digits + 4)
    assert_within(found, pixel_metrics(masks, maps).values)
    assert all(finer.bounds[name] < found.bounds[name] for name in BOUNDED)


def test_the_bound_of_one_bin_is_the_one_worked_by_hand() -> None:
    """1.0 and 1.25 share a bin: a positive there may be above the negative or below it."""
    mask, values = np.array([[True, False]]), np.array([[1.25, 1.0]], np.float32)
    found = stream(mask[None], values[None], digits=1, limit=1.0)
    assert found.values == {
        "pixel_auroc": 0.5,
        "pixel_ap": 0.5,
        "pixel_f1_max": pytest.approx(2 / 3),
        "pro": 0.5,
        "pro_released": None,
    }
    assert found.bounds == pytest.approx({"pixel_auroc": 0.5, "pixel_ap": 0.5, "pixel_f1_max": 1 / 3, "pro": 0.5})
    exact = pixel_metrics(mask[None], values[None]).values
    assert [exact[name] for name in BOUNDED[:3]] == [1.0, 1.0, 1.0]
    assert pro(mask[None], values[None], 1.0) == 1.0


@pytest.mark.parametrize("above", [(0, 0), (2, 0), (0, 2), (3, 1)], ids=str)
@pytest.mark.parametrize("inside", [(1, 1), (1, 4), (4, 1), (3, 3)], ids=str)
def test_no_order_inside_a_bin_takes_a_figure_beyond_its_bound(above: tuple[int, int], inside: tuple[int, int]) -> None:
    """Every order of a bin's positives and negatives is tried, with equals next to each other apart and tied."""
    most = dict.fromkeys(BOUNDED[:3], 0.0)
    for order in set(permutations([True] * inside[0] + [False] * inside[1])):
        steps = np.arange(len(order)), np.cumsum(np.diff(order, prepend=order[0]))
        for step in steps:  # falling inside the bin of 1.0 to 1.5
            scores = np.concatenate([[4.0] * above[0], [8.0] * above[1], 1.49 - 0.05 * step, [0.5] * 9])
            labels = np.array([True] * above[0] + [False] * above[1] + list(order) + [False] * 9)
            found = stream(labels[None, None], scores[None, None].astype(np.float32), digits=1)
            exact = {
                "pixel_auroc": naive.auroc(labels, scores),
                "pixel_ap": naive.average_precision(labels, scores),
                "pixel_f1_max": naive.f1_max(labels, scores),
            }
            for name, value in exact.items():
                most[name] = max(most[name], abs(value - (found.values[name] or 0)))
    assert all(most[name] <= found.bounds[name] + ROUNDING for name in most)
    assert found.bounds["pixel_auroc"] == pytest.approx(most["pixel_auroc"])
    if 0 in above:  # else the bins above have an order of their own to be in doubt about
        assert found.bounds["pixel_ap"] <= 1.5 * most["pixel_ap"]


def test_scores_that_fall_on_whole_bins_give_the_exact_figures() -> None:
    """Powers of two have bins of their own, on both sides of zero, and minus zero is zero."""
    masks = np.array([[[True, False, True, False, False, True, False, True]]])
    maps = np.array([[[4, 2, 1, 0, -0.0, 0, -1, -2]]], np.float32)
    found = stream(masks, maps)
    exact = pixel_metrics(masks, maps).values
    assert [found.values[name] for name in BOUNDED] == pytest.approx([exact[name] for name in BOUNDED], abs=1e-12)


def test_scores_beyond_the_bins_and_infinite_ones_stay_in_order_and_within_bounds() -> None:
    generator = np.random.default_rng(0)
    masks = generator.random((2, 30, 30)) < 0.2
    signs, powers = generator.choice([-1.0, 1.0], masks.shape), generator.uniform(-30, 30, masks.shape)
    maps = (signs * 10.0**powers).astype(np.float32)
    maps[0, 0, :4] = np.inf, -np.inf, 0, -0.0
    assert_within(stream(masks, maps, 6), pixel_metrics(masks, maps).values)


def test_double_precision_maps_are_counted_within_bounds_too() -> None:
    generator = np.random.default_rng(0)
    masks = generator.random((2, 30, 30)) < 0.2
    maps = 1 + 1e-9 * generator.random(masks.shape)
    assert_within(stream(masks, maps), pixel_metrics(masks, maps).values)


def test_memory_does_not_grow_with_the_number_of_images() -> None:
    generator = np.random.default_rng(0)
    mask = generator.random((128, 128)) < 0.1
    streamed = StreamedPixelMetrics(digits=10)
    for _ in range(3):
        streamed.add(mask, generator.random((128, 128), np.float32))
    tracemalloc.start()
    for _ in range(3):
        streamed.add(mask, generator.random((128, 128), np.float32))
    few = tracemalloc.get_traced_memory()[1]
    for _ in range(60):
        streamed.add(mask, generator.random((128, 128), np.float32))
    many = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert many < few + 24 * 2**10 * 20
    assert streamed.result().values["pixel_auroc"] == pytest.approx(0.5, abs=0.02)


def test_a_result_may_be_asked_for_at_any_time() -> None:
    masks, maps = naive.drawn_blobs(0)
    streamed = StreamedPixelMetrics()
    for index in range(3):
        streamed.add(masks[index], maps[index])
    half = streamed.result()
    assert half == streamed.result() == stream(masks[:3], maps[:3])
    for index in range(3, len(masks)):
        streamed.add(masks[index], maps[index])
    assert streamed.result() == stream(masks, maps)


def test_an_image_that_does_not_fit_is_refused_and_nothing_of_it_taken() -> None:
    masks, maps = naive.drawn_blobs(0)
    streamed = StreamedPixelMetrics()
    for index in range(4):
        streamed.add(masks[index], maps[index])
    before = streamed.result()
    with pytest.raises(UsageError, match="map 4 holds NaN"):
        streamed.add(None, np.full((2, 2), np.nan, np.float32))
    with pytest.raises(UsageError, match="mask 4 has shape"):
        streamed.add(masks[0], maps[0, :5])
    assert streamed.result() == before


def test_one_kind_of_pixel_alone_gives_no_figure_but_a_reason() -> None:
    streamed = StreamedPixelMetrics()
    assert streamed.result().reasons["pro"] == "There is no image."
    streamed.add(None, np.zeros((2, 2), np.float32))
    found = streamed.result()
    assert set(found.values.values()) == {None}
    assert found.reasons["pixel_auroc"] == "The only mask is empty."
    assert found.bounds == {}


def test_pro_as_released_is_not_streamed_and_says_why() -> None:
    found = stream(*naive.drawn_blobs(1))
    assert found.values["pro_released"] is None
    assert found.reasons["pro_released"].startswith("PRO as released depends on")


@pytest.mark.parametrize(("digits", "limit", "found"), [(0, 0.3, "1..23"), (24, 0.3, "1..23"), (16, 0.0, "(0, 1]")])
def test_bins_and_limits_out_of_range_are_refused(digits: int, limit: float, found: str) -> None:
    with pytest.raises(UsageError) as refused:
        StreamedPixelMetrics(digits, limit)
    assert found in str(refused.value)
