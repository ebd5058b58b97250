from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from edgevand_runtime.calibration import (
    SD_FLOOR,
    calibrate,
    calibrated_score,
    frames_for_rate,
    p_value,
    promise,
    student_quantile,
)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 7, 8, 19, 98])
@pytest.mark.parametrize("probability", [0.5, 0.8, 0.95, 0.99, 0.999])
def test_the_student_quantile_equals_scipys(probability: float, degrees: int) -> None:
    assert student_quantile(probability, degrees) == pytest.approx(
        stats.t.ppf(probability, degrees), rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize(("n", "factor"), [(4, 5.08), (5, 4.10), (8, 3.18), (12, 2.83), (20, 2.60)])
def test_the_threshold_lies_the_published_number_of_deviations_above_the_mean(n: int, factor: float) -> None:
    y = np.random.default_rng(n).normal(0.3, 0.4, n)
    limit = calibrate(np.exp(y).tolist(), np.exp(y).tolist(), 0.01).image
    assert limit is not None
    assert (math.log(limit.threshold) - y.mean()) / y.std(ddof=1) == pytest.approx(factor, abs=0.006)


def test_with_enough_frames_the_threshold_is_the_conformal_order_statistic() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1, 100)) / 10
    record = calibrate(scores.tolist(), scores.tolist(), 0.05)
    assert record.kind == "conformal"
    assert record.image is not None
    assert record.image.threshold == pytest.approx(np.sort(scores)[math.ceil(0.95 * 100) - 1])


@given(st.lists(st.floats(0.01, 100), min_size=99, max_size=120), st.floats(0.01, 100))
def test_what_lies_above_a_conformal_threshold_has_a_p_value_within_the_rate(scores: list[float], raw: float) -> None:
    record = calibrate(scores, scores, 0.01)
    found = p_value(raw, record)
    assert found is not None
    assert found == pytest.approx((1 + sum(score >= raw for score in scores)) / (len(scores) + 1))
    assert record.image is not None
    if raw > record.image.threshold * (1 + 1e-9):
        assert found <= 0.01 + 1e-12


def test_no_p_value_is_given_while_the_frames_cannot_reach_the_rate() -> None:
    assert p_value(3.0, calibrate([1.0] * 8, [1.0] * 8, 0.01)) is None
    assert frames_for_rate(0.01) == 99
    assert frames_for_rate(0.05) == 19
    assert frames_for_rate(1 / 3) == 2


@pytest.mark.parametrize("n", [1, 2, 3])
def test_fewer_than_four_frames_calibrate_nothing(n: int) -> None:
    record = calibrate([1.0] * n, [1.0] * n, 0.01)
    assert (record.kind, record.image, record.map, record.n) == ("none", None, None, n)


def test_near_identical_frames_get_the_floor_as_their_deviation() -> None:
    limit = calibrate([1.0, 1.0, 1.0, 1.0001], [1.0] * 4, 0.01).image
    assert limit is not None
    assert limit.sd == SD_FLOOR


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_the_calibrated_score_is_half_at_the_threshold_and_rises_with_the_raw_score(a: float, b: float) -> None:
    limit = calibrate([1.0, 1.2, 0.9, 1.1, 1.3], [1.0] * 5, 0.01).image
    assert limit is not None
    assert calibrated_score(limit.threshold, limit) == pytest.approx(0.5)
    low, high = sorted((a, b))
    assert 0 <= calibrated_score(low, limit) <= calibrated_score(high, limit) <= 1


def test_a_score_of_zero_or_less_is_simply_low() -> None:
    limit = calibrate([1.0, 1.2, 0.9, 1.1], [1.0] * 4, 0.01).image
    assert limit is not None
    assert calibrated_score(-1e-7, limit) < 1e-9


def test_the_promise_says_what_more_frames_would_bring() -> None:
    assert "96 more" not in promise(calibrate([1.0] * 8, [1.0] * 8, 0.01))
    assert "91 more would prove" in promise(calibrate([1.0] * 8, [1.0] * 8, 0.01))
    assert "append 3 more" in promise(calibrate([], [], 0.01).model_copy(update={"n": 1}))
    assert "conformal" in promise(calibrate([1.0] * 99, [1.0] * 99, 0.01))


@pytest.mark.parametrize("n", [4, 8])
def test_false_alarms_of_log_normal_scores_come_close_to_the_wanted_rate(n: int) -> None:
    """Student's prediction limit is exact where ln s is normal: checked by simulation, 4000 banks."""
    random = np.random.default_rng(n)
    false_alarms = 0
    banks = 4000
    for _ in range(banks):
        y = random.normal(0, 0.3, n + 5)
        limit = calibrate(np.exp(y[:n]).tolist(), [1.0] * n, 0.05).image
        assert limit is not None
        false_alarms += int((np.exp(y[n:]) > limit.threshold).sum())
    assert false_alarms / (banks * 5) == pytest.approx(0.05, abs=0.006)
