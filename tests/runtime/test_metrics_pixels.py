"""Pixel metrics are scikit-learn's and the definitions', threshold by threshold and region by region."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from edgevand.errors import UsageError
from edgevand_runtime.metrics import counting, f1_max, pixel_metrics, pro, pro_curve, pro_released, rank_pixels
from tests.runtime import naive_metrics as naive

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NAMES = {"pixel_auroc", "pixel_ap", "pixel_f1_max", "pro", "pro_released"}
EXACT = sorted(NAMES - {"pro_released"})
Labelled = tuple["NDArray", "NDArray"]


@settings(deadline=None)
@given(naive.labelled_maps(), st.sampled_from([0.05, 0.3, 0.5, 1.0]))
def test_pro_is_the_one_of_its_definition(given_maps: Labelled, limit: float) -> None:
    masks, maps = given_maps
    assert pro(masks, maps, limit) == pytest.approx(naive.pro(masks, maps, limit), abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(naive.labelled_maps(levels=30))
def test_released_pro_is_the_one_of_its_definition(given_maps: Labelled) -> None:
    """Scores are quarters, so thresholds of the definition and of ours are the same numbers but for rounding."""
    masks, maps = given_maps
    expected = naive.pro_released(masks, maps)
    assert pro_released(masks, maps) == (None if expected is None else pytest.approx(expected, abs=1e-12))


@pytest.mark.parametrize("seed", range(4))
def test_on_blobs_every_figure_is_that_of_an_independent_implementation(seed: int) -> None:
    masks, maps = naive.drawn_blobs(seed)
    small = maps[:, ::4, ::4], masks[:, ::4, ::4]
    found = pixel_metrics(masks, maps)
    assert found.reasons == {}
    assert found.values["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)
    assert found.values["pixel_ap"] == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()), abs=1e-12)
    assert found.values["pixel_f1_max"] == pytest.approx(f1_max(masks, maps), abs=1e-12)
    assert found.values["pro_released"] == pytest.approx(naive.pro_released(masks, maps), abs=1e-12)
    assert pro(small[1], small[0]) == pytest.approx(naive.pro(small[1], small[0], 0.3), abs=1e-12)


def test_pro_of_four_pixels_is_the_one_worked_by_hand() -> None:
    """Two regions of a pixel each: the curve is (0, 0) (0, 1/2) (1/2, 1/2) (1/2, 1) (1, 1)."""
    masks, maps = np.array([[[True, False, True, False]]]), np.array([[[3, 2, 1, 0]]], np.float32)
    assert pro(masks, maps) == pytest.approx(0.5)
    assert pro(masks, maps, 0.8) == pytest.approx((0.5 * 0.5 + 0.3 * 1.0) / 0.8)
    assert pro(masks, maps, 1.0) == pytest.approx(0.75)


def test_pro_of_a_constant_map_is_half_the_limit() -> None:
    """All comes in at once: the straight line from (0, 0) to (1, 1)."""
    masks = np.zeros((2, 3, 3), bool)
    masks[1, 1] = True
    assert pro(masks, np.full((2, 3, 3), 0.25, np.float32)) == pytest.approx(0.15)


def test_a_small_region_weighs_as_much_as_a_large_one() -> None:
    """The large region is found whole before any false positive, the small one never before all of them."""
    masks = np.zeros((1, 5, 10), bool)
    masks[0, :, :4], masks[0, 2, 9] = True, True
    maps = np.where(masks, 2, 1).astype(np.float32)
    maps[0, 2, 9] = 0
    assert pro(masks, maps) == pytest.approx(0.5)
    assert (pixel_metrics(masks, maps).values["pixel_auroc"] or 0) > 0.95


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    """Found: one of the diagonal's two pixels, and the whole of the lone one: (1/2 + 1) / 2, not 2/3."""
    masks, maps = np.zeros((1, 4, 5), bool), np.zeros((1, 4, 5), np.float32)
    masks[0, 0, 0] = masks[0, 1, 1] = masks[0, 3, 4] = True
    maps[0, 0, 0] = maps[0, 3, 4] = 2
    maps[0][~masks[0]] = np.linspace(0.5, 1, 17)
    assert pro(masks, maps) == pytest.approx(0.75)


def test_regions_of_two_images_are_never_one() -> None:
    masks, maps = np.ones((2, 1, 2), bool), np.array([[[2, 0]], [[2, 2]]], np.float32)
    masks[:, :, 1] = False
    assert pro(masks, maps, 1.0) == pytest.approx(naive.pro(masks, maps, 1.0))


@settings(deadline=None)
@given(naive.labelled_maps(), st.randoms(use_true_random=False))
def test_neither_the_order_of_images_nor_a_growing_transformation_changes_an_exact_figure(
    given_maps: Labelled, random: object
) -> None:
    masks, maps = given_maps
    expected = pixel_metrics(masks, maps).values
    order = list(range(len(masks)))
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis' random
    assert pixel_metrics(masks[order], maps[order]).values == pytest.approx(expected, abs=1e-12)
    grown = pixel_metrics(masks, 8 * maps**3 + maps - 3).values
    assert [grown[name] for name in EXACT] == [expected[name] for name in EXACT]
    assert pixel_metrics(masks, 4 * maps).values == expected


@settings(deadline=None)
@given(naive.labelled_maps())
def test_a_tie_counts_half_in_pro_to_the_end(given_maps: Labelled) -> None:
    """Over all false-positive rates the area lies midway between all ties won and all ties lost."""
    masks, maps = given_maps
    won, lost = pro(masks, maps + np.float32(0.1) * masks, 1.0), pro(masks, maps - np.float32(0.1) * masks, 1.0)
    assert won is not None
    assert lost is not None
    assert pro(masks, maps, 1.0) == pytest.approx((won + lost) / 2, abs=1e-12)


@settings(deadline=None)
@given(naive.labelled_maps(), st.sampled_from([0.3, 1.0]))
def test_the_area_under_the_whole_pro_curve_is_pro(given_maps: Labelled, limit: float) -> None:
    found = pro_curve(*given_maps, points=1000, limit=limit)
    assert found is not None
    points = list(zip(*(axis.tolist() for axis in found), strict=True))
    assert points[0] == (0.0, 0.0)
    assert points[-1][0] == pytest.approx(limit)
    assert naive.area_to(points, limit) == pytest.approx(pro(*given_maps, limit), abs=1e-9)


def test_curves_are_thinned_with_their_ends_kept() -> None:
    ranking = rank_pixels(*naive.drawn_blobs(1))
    for found, last in ((ranking.pro_curve(40, limit=0.3), 0.3), (ranking.roc_curve(40), 1.0)):
        assert found is not None
        rates, heights = found
        assert 20 < len(rates) <= 40
        assert (rates[0], heights[0]) == (0, 0)
        assert rates[-1] == pytest.approx(last)
        assert (np.diff(rates) >= 0).all()
        assert (np.diff(heights) >= 0).all()
        assert heights[-1] <= 1


def test_maps_in_a_file_lists_of_maps_and_small_blocks_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks, maps = naive.drawn_blobs(2)
    expected = pixel_metrics(masks, maps).values
    np.save(tmp_path / "maps.npy", maps)
    assert pixel_metrics(masks, np.load(tmp_path / "maps.npy", mmap_mode="r")).values == expected
    some = [mask if mask.any() else None for mask in masks]
    assert pixel_metrics(some, list(maps)).values == expected
    assert pixel_metrics(list(255 * masks.astype(np.uint8)), list(maps)).values == expected
    monkeypatch.setattr(counting, "BLOCK", 1000)
    assert pixel_metrics(masks, maps).values == expected


def test_images_may_differ_in_size_and_maps_in_type() -> None:
    """The finer type decides, also where only a normal image has it."""
    masks = [np.array([[True, False]]), None]
    maps = [np.array([[1.0, 0.5]], np.float32), np.array([[1.0 + 1e-12], [0.0], [0.1]])]
    assert pixel_metrics(masks, maps).values["pixel_auroc"] == pytest.approx(3 / 4)
    halves = [values.astype(np.float16) for values in maps]
    assert pixel_metrics(masks, halves).values["pixel_auroc"] == pytest.approx(3.5 / 4)


def test_memory_is_a_block_and_some_bytes_for_each_anomalous_pixel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen times the block in the file, of which only a block is ever held beside an image or two."""
    generator = np.random.default_rng(0)
    np.save(tmp_path / "maps.npy", generator.random((64, 256, 256), np.float32))
    maps = np.load(tmp_path / "maps.npy", mmap_mode="r")
    mask = np.zeros((256, 256), bool)
    mask[:64, :64] = True
    masks = [mask if index % 4 == 0 else None for index in range(64)]
    monkeypatch.setattr(counting, "BLOCK", 1 << 18)
    tracemalloc.start()
    pixel_metrics(masks, maps)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    anomalous = 16 * 64 * 64
    assert peak < 4 * (1 << 18) + 130 * anomalous + 20 * 256 * 256
    assert peak < maps.nbytes


@pytest.mark.parametrize(
    ("masks", "reason"),
    [
        (None, "The dataset has no masks, so nothing is known of its pixels."),
        ([None, None], "All 2 masks are empty: no pixel is anomalous."),
        (np.zeros((2, 2, 3), bool), "All 2 masks are empty: no pixel is anomalous."),
        (np.ones((2, 2, 3), bool), "The masks cover every pixel of every image: no pixel is normal."),
    ],
)
def test_where_nothing_can_be_told_apart_there_is_no_figure_but_a_reason(masks: NDArray, reason: str) -> None:
    maps = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    found = pixel_metrics(masks, maps)
    assert found.values == dict.fromkeys(NAMES)
    assert found.reasons == dict.fromkeys(NAMES, reason)
    assert [pro(masks, maps), pro_released(masks, maps), pro_curve(masks, maps)] == [None, None, None]


def test_no_image_and_a_lone_empty_mask_have_their_own_reasons() -> None:
    assert pixel_metrics([], []).reasons["pro"] == "There is no image."
    assert pixel_metrics([None], [np.zeros((2, 2), np.float32)]).reasons["pro"] == "The only mask is empty."


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ([1.0, 1.0, 1.0, 1.0], "fewer than two give different false-positive rates"),
        ([0.0, 1.0, 1.0, 1.0], "fewer than two give different false-positive rates"),
        ([0.0, 1.0, 2.0, np.inf], "infinite"),
    ],
)
def test_released_pro_alone_may_be_undefined(scores: list[float], reason: str) -> None:
    """Its kept rates cannot be stretched where they are all equal; the exact figures are there all the same."""
    found = pixel_metrics(np.array([[[True, False, False, False]]]), np.array([[scores]], np.float32))
    assert [name for name, value in found.values.items() if value is None] == ["pro_released"]
    assert reason in found.reasons["pro_released"]


@pytest.mark.parametrize(
    ("masks", "maps", "found"),
    [
        (np.zeros((1, 2, 2), bool), np.zeros((2, 2, 2), np.float32), "1 masks and 2 maps"),
        ([np.zeros((2, 3), bool)], np.zeros((1, 2, 2), np.float32), r"mask 0 has shape \(2, 3\).*\(2, 2\)"),
        ([None, None], [np.zeros((2, 2)), np.full((2, 2), np.nan)], "map 1 holds NaN"),
        ([None], [np.zeros(4)], r"map 0 has shape \(4,\)"),
        ([None], [np.array([["a"]])], "real numbers"),
    ],
)
def test_maps_that_do_not_fit_are_refused_in_one_sentence(masks: list, maps: list, found: str) -> None:
    with pytest.raises(UsageError, match=found):
        pixel_metrics(masks, maps)


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.5])
def test_a_limit_that_is_no_rate_is_refused(limit: float) -> None:
    with pytest.raises(UsageError, match=r"\(0, 1\]"):
        pro(*naive.drawn_blobs(0), limit)
