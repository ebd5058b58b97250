"""sPRO is the one of its definition, threshold by threshold, and with full saturation it is PRO."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevand.errors import UsageError
from edgevand_runtime.datasets.records import DefectMask
from edgevand_runtime.metrics import SPRO_LIMITS, counting, pro, saturation_area, spro, spro_metrics
from tests.runtime import naive_metrics as naive
from tests.runtime.naive_metrics import Defect

if TYPE_CHECKING:
    from numpy.typing import NDArray


@st.composite
def defective(draw: st.DrawFn) -> tuple[list[list[Defect]], NDArray]:
    """Up to two defects for each map, which may overlap and need not hang together."""
    masks, maps = draw(naive.labelled_maps())
    free = masks.copy()  # never marked, so that a defect-free pixel is left
    found: list[list[Defect]] = [[] for _ in maps]
    numbers = st.tuples(st.integers(0, len(maps) - 1), st.integers(1, 2**25 - 1))
    for index, number in draw(st.lists(numbers, max_size=4)):
        bits = np.array([number >> place & 1 for place in range(25)], bool)[: free[index].size]
        pixels = np.resize(bits, free[index].shape) & ~free[index]
        if pixels.any() and len(found[index]) < 2:
            found[index].append(Defect(pixels, draw(st.integers(1, int(pixels.sum())))))
    return found, maps


@settings(deadline=None)
@given(defective())
def test_spro_is_the_one_of_its_definition_at_every_limit(given_defects: tuple[list[list[Defect]], NDArray]) -> None:
    defects, maps = given_defects
    found = spro(defects, maps)
    assert tuple(found) == SPRO_LIMITS == (0.01, 0.05, 0.1, 0.3, 1.0)
    for limit, value in found.items():
        expected = naive.spro(defects, maps, limit) if any(defects) else None
        assert value == (None if expected is None else pytest.approx(expected, abs=1e-12))


@pytest.mark.parametrize("seed", range(3))
def test_on_blobs_spro_is_the_one_of_its_definition(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    masks, maps = (array[:, ::3, ::3] for array in naive.drawn_blobs(seed))
    defects = [[Defect(mask, 1 + int(mask.sum()) // 3)] if mask.any() else [] for mask in masks]
    found = spro(defects, maps)
    for limit in SPRO_LIMITS:
        assert found[limit] == pytest.approx(naive.spro(defects, maps, limit), abs=1e-12)
    monkeypatch.setattr(counting, "BLOCK", 100)
    assert spro(defects, maps) == found


def test_spro_of_six_pixels_is_the_one_worked_by_hand() -> None:
    """Four pixels, whole at two: the curve is (0, 0) (0, 1/2) (1/2, 1/2) (1/2, 1) (1, 1)."""
    defect = DefectMask(name="missing", pixels=np.array([[True, True, True, True, False, False]]), saturation=2)
    maps = np.array([[[9, 3, 1, 0, 4, 2]]], np.float32)
    assert spro([[defect]], maps, (0.05, 0.5, 1.0)) == pytest.approx({0.05: 0.5, 0.5: 0.5, 1.0: 0.75})


def test_with_saturation_at_the_whole_area_spro_is_pro() -> None:
    masks, maps = np.zeros((3, 8, 8), bool), np.random.default_rng(0).random((3, 8, 8), np.float32)
    masks[0, 1:4, 2:7], masks[1, 6:, :2] = True, True
    defects = [[Defect(mask, int(mask.sum()))] if mask.any() else [] for mask in masks]
    for limit in SPRO_LIMITS:
        assert spro(defects, maps)[limit] == pytest.approx(pro(masks, maps, limit), abs=1e-12)


def test_a_growing_transformation_and_the_order_of_images_change_nothing() -> None:
    masks, maps = naive.drawn_blobs(4)
    defects = [[Defect(mask, 1 + int(mask.sum()) // 2)] if mask.any() else [] for mask in masks]
    expected = spro(defects, maps)
    assert spro(defects, np.log(maps.astype(np.float64))) == expected
    assert spro(defects[::-1], maps[::-1]) == pytest.approx(expected, abs=1e-12)


def test_images_may_differ_in_size() -> None:
    pixels = np.array([[True, False]])
    maps = [np.array([[2, 1]], np.float32), np.array([[0], [3], [0]], np.float32)]
    assert spro([[Defect(pixels, 1)], []], maps, (1.0,)) == pytest.approx({1.0: 0.75})


@pytest.mark.parametrize(
    ("area", "threshold", "relative", "expected"),
    [(400, 100, False, 100), (40, 100, False, 40), (401, 0.5, True, 200), (3, 0.2, True, 1), (7, 1.0, True, 7)],
)
def test_the_saturation_area_is_whole_pixels(area: int, threshold: float, relative: bool, expected: int) -> None:  # noqa: FBT001 - a case of the table
    assert saturation_area(area, threshold, relative=relative) == expected


@pytest.mark.parametrize(
    ("defects", "reason"),
    [
        ([[], []], "No image has a defect."),
        ([[Defect(np.ones((2, 2), bool), 1)]] * 2, "The defects cover every pixel of every image"),
    ],
)
def test_where_spro_is_undefined_a_reason_is_given(defects: list[list[Defect]], reason: str) -> None:
    maps = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    found = spro_metrics(defects, maps)
    assert list(found.values) == ["spro_0.01", "spro_0.05", "spro_0.1", "spro_0.3", "spro_1.0"]
    assert set(found.values.values()) == {None}
    assert all(reason in sentence for sentence in found.reasons.values())
    assert spro(defects, maps) == dict.fromkeys(SPRO_LIMITS)


def test_the_named_figures_are_those_of_spro() -> None:
    masks, maps = naive.drawn_blobs(5)
    defects = [[Defect(mask, 1)] if mask.any() else [] for mask in masks]
    found = spro_metrics(defects, maps, (0.05, 1.0))
    assert found.values == {f"spro_{limit}": value for limit, value in spro(defects, maps, (0.05, 1.0)).items()}
    assert found.reasons == {}


@pytest.mark.parametrize(
    ("defects", "limits", "found"),
    [
        ([], (0.05,), "0 lists of defects and 1 maps"),
        ([[]], (0.0,), r"limits of sPRO must lie in \(0, 1\]"),
        ([[Defect(np.ones((3, 2), bool), 1)]], (0.05,), r"defect 0 of image 0 has shape \(3, 2\)"),
        ([[Defect(np.ones((2, 2), bool), 5)]], (0.05,), r"must lie in 1\.\.4, but it is 5"),
        ([[Defect(np.zeros((2, 2), bool), 1)]], (0.05,), "marks 0 pixels"),
    ],
)
def test_defects_that_do_not_fit_are_refused_in_one_sentence(
    defects: list[list[Defect]], limits: tuple[float, ...], found: str
) -> None:
    with pytest.raises(UsageError, match=found):
        spro(defects, np.zeros((1, 2, 2), np.float32), limits)


def test_a_map_with_nan_is_refused() -> None:
    with pytest.raises(UsageError, match="map 0 holds NaN"):
        spro([[]], np.full((1, 2, 2), np.nan, np.float32))
