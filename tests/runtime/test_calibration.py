from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from edgevand_runtime.calibration import (
    PRIOR_DEGREES,
    SD_FLOOR,
    calibrate,
    calibrated_score,
    frames_for_rate,
    manual_limit,
    moderated_sd,
    p_value,
    promise,
    student_quantile,
)
from edgevand_runtime.features import calibrate_features, judge
from tests.core.builders import bank_features, make_bundle

if TYPE_CHECKING:
    from pathlib import Path

USUAL = 0.17


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 7, 8, 19, 98])
@pytest.mark.parametrize("probability", [0.5, 0.8, 0.95, 0.99, 0.999])
def test_the_student_quantile_equals_scipys(probability: float, degrees: int) -> None:
    assert student_quantile(probability, degrees) == pytest.approx(
        stats.t.ppf(probability, degrees), rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("rate", [0.05, 0.01])
@pytest.mark.parametrize("n", [4, 5, 8, 12, 18])
def test_the_threshold_is_the_predictive_quantile_of_the_normal_model_with_a_prior_on_its_variance(
    n: int, rate: float
) -> None:
    """Against scipy's t distribution with the posterior's degrees, location and scale."""
    y = np.random.default_rng(n).normal(0.3, 0.4, n)
    limit = calibrate(np.exp(y).tolist(), np.exp(y).tolist(), rate, USUAL).image
    assert limit is not None
    degrees = PRIOR_DEGREES + n - 1
    variance = (PRIOR_DEGREES * USUAL**2 + ((y - y.mean()) ** 2).sum()) / degrees
    predictive = stats.t(degrees, loc=y.mean(), scale=math.sqrt(variance * (1 + 1 / n)))
    assert math.log(limit.threshold) == pytest.approx(predictive.ppf(1 - rate), rel=1e-9)


def test_the_predictive_quantile_equals_an_integral_over_the_posterior_of_mean_and_variance() -> None:
    """The closed form against draws of variance, mean and one more score, for four scores worked by hand."""
    y = np.array([-0.1, 0.1, 0.3, 0.5])
    limit = calibrate(np.exp(y).tolist(), [1.0] * 4, 0.05, USUAL).image
    assert limit is not None
    random = np.random.default_rng(0)
    draws = 400_000
    variance = (4 * 0.17**2 + 0.2) / random.chisquare(4 + 3, draws)
    one_more = random.normal(random.normal(0.2, np.sqrt(variance / 4)), np.sqrt(variance))
    assert float((one_more > math.log(limit.threshold)).mean()) == pytest.approx(0.05, abs=0.0015)


def test_four_scores_worked_by_hand() -> None:
    """Of 0, 0.1, 0.2, 0.3 the sum of squares is 0.05; sd = sqrt((4 * 0.0289 + 0.05) / 7); t(7, 0.99) = 2.998."""
    limit = calibrate([math.exp(0.1 * i) for i in range(4)], [1.0] * 4, 0.01, USUAL).image
    assert limit is not None
    assert limit.mean == pytest.approx(0.15)
    assert limit.sd == pytest.approx(0.153809, abs=1e-6)
    assert math.log(limit.threshold) == pytest.approx(0.15 + 2.998 * 0.153809 * math.sqrt(1.25), abs=1e-4)


def test_with_enough_frames_the_threshold_is_the_conformal_order_statistic() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1, 100)) / 10
    record = calibrate(scores.tolist(), scores.tolist(), 0.05)
    assert record.kind == "conformal"
    assert record.image is not None
    assert record.image.threshold == pytest.approx(np.sort(scores)[math.ceil(0.95 * 100) - 1])


@settings(max_examples=50)
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


def test_near_identical_frames_get_most_of_the_usual_deviation() -> None:
    """Else everything that comes later would exceed the threshold."""
    limit = calibrate([1.0, 1.0, 1.0, 1.0001], [1.0] * 4, 0.01, USUAL).image
    assert limit is not None
    assert limit.sd == pytest.approx(USUAL * math.sqrt(PRIOR_DEGREES / (PRIOR_DEGREES + 3)), rel=1e-3)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=60))
def test_the_moderated_deviation_lies_between_the_usual_one_and_the_sample_s(y: list[float]) -> None:
    own = max(float(np.std(y, ddof=1)), SD_FLOOR)
    low, high = sorted((own, USUAL))
    assert low - 1e-12 <= moderated_sd(np.array(y), USUAL) <= high + 1e-12


def test_the_prior_fades_as_frames_are_added() -> None:
    """Scores that alternate have the same deviation at every n, nearly."""
    gaps = [
        abs(moderated_sd(y, USUAL) - float(y.std(ddof=1))) for n in (4, 40, 400) if len(y := np.resize([-0.5, 0.5], n))
    ]
    assert gaps[0] > 4 * gaps[1] > 16 * gaps[2]
    assert gaps[2] < 0.005


@given(
    st.lists(st.floats(0.01, 10), min_size=4, max_size=18),
    st.floats(1e-3, 1e3),
    st.sampled_from([0.2, 0.05, 0.01]),
)
def test_scores_in_other_units_give_the_same_threshold_in_those_units(
    scores: list[float], unit: float, rate: float
) -> None:
    one = calibrate(scores, scores, rate, USUAL).image
    other = calibrate([score * unit for score in scores], scores, rate, USUAL).image
    assert one is not None
    assert other is not None
    assert other.threshold == pytest.approx(one.threshold * unit, rel=1e-9)


@given(st.lists(st.floats(0.01, 100), min_size=4, max_size=18))
def test_a_smaller_rate_never_lowers_the_threshold(scores: list[float]) -> None:
    limits = [calibrate(scores, scores, rate, USUAL).image for rate in (0.04, 0.01, 0.001)]
    thresholds = [limit.threshold for limit in limits if limit is not None]
    assert thresholds == sorted(thresholds)


def test_the_map_has_a_threshold_of_its_own_by_the_same_rule() -> None:
    scores, maps = [1.0, 1.2, 0.9, 1.1], [2.0, 2.5, 2.2, 1.9]
    record = calibrate(scores, maps, 0.01)
    assert record.map == calibrate(maps, scores, 0.01).image
    assert record.image == calibrate(scores, maps, 0.01).image


@pytest.mark.parametrize(("n", "factor"), [(4, 5.08), (5, 4.10), (8, 3.18), (12, 2.83), (20, 2.60)])
def test_without_a_usual_deviation_the_threshold_is_students_prediction_limit(n: int, factor: float) -> None:
    """The frames alone decide: the published factors on the deviation."""
    y = np.random.default_rng(n).normal(0.3, 0.4, n)
    limit = calibrate(np.exp(y).tolist(), np.exp(y).tolist(), 0.01).image
    assert limit is not None
    assert limit.sd == pytest.approx(y.std(ddof=1))
    assert (math.log(limit.threshold) - y.mean()) / limit.sd == pytest.approx(factor, abs=0.006)


def test_without_a_usual_deviation_near_identical_frames_get_the_floor() -> None:
    limit = calibrate([1.0, 1.0, 1.0, 1.0001], [1.0] * 4, 0.01).image
    assert limit is not None
    assert limit.sd == SD_FLOOR


@pytest.mark.parametrize("usual", [None, 0.2])
def test_a_bank_is_calibrated_with_the_deviation_that_its_bundle_calls_usual(
    usual: float | None, tmp_path: Path
) -> None:
    score = {"terms": ["memory-map"], "usual_sd": usual}
    bundle = make_bundle(tmp_path / "bundle", score=score)
    features = bank_features(bundle, frames=5, object_name=bundle.objects[0] if bundle.objects else None)
    record = calibrate_features(bundle.manifest, features, range(5), None, 0.01)
    raws = judge(bundle.manifest, features, range(5), None).raws
    scores, maxima = [raw.raw_score for raw in raws], [raw.map_max or 0.0 for raw in raws]
    assert record == calibrate(scores, maxima, 0.01, usual)
    assert record != calibrate(scores, maxima, 0.01, 0.4)


def test_a_threshold_set_by_hand_keeps_the_calibrated_scale() -> None:
    limit = calibrate([1.0, 1.2, 0.9, 1.1, 1.3], [1.0] * 5, 0.01).image
    by_hand = manual_limit(2.0, limit)
    assert limit is not None
    assert by_hand.sd == limit.sd
    assert calibrated_score(2.0, by_hand) == pytest.approx(0.5)
    assert calibrated_score(2.0, manual_limit(2.0, None)) == pytest.approx(0.5)


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


def false_alarms(n: int, rate: float, deviations: np.ndarray) -> float:
    """Share of later log-normal scores above the threshold, over one bank for each deviation of ln s."""
    random = np.random.default_rng(n)
    over = 0
    for deviation in deviations:
        y = random.normal(0, deviation, n + 10)
        limit = calibrate(np.exp(y[:n]).tolist(), [1.0] * n, rate, USUAL).image
        assert limit is not None
        over += int((np.exp(y[n:]) > limit.threshold).sum())
    return over / (10 * len(deviations))


@pytest.mark.parametrize("n", [4, 8])
@pytest.mark.parametrize(("rate", "within"), [(0.05, 0.005), (0.01, 0.0025)])
def test_over_scenes_of_all_kinds_the_rate_is_the_wanted_one(n: int, rate: float, within: float) -> None:
    """Exact over scenes whose variance follows the prior, within the error of 4000 banks."""
    chi = np.random.default_rng(1).chisquare(PRIOR_DEGREES, 4000)
    deviations = USUAL * np.sqrt(PRIOR_DEGREES / chi)
    assert false_alarms(n, rate, deviations) == pytest.approx(rate, abs=within)


@pytest.mark.parametrize(("n", "most"), [(4, 0.04), (8, 0.03), (18, 0.02)])
def test_a_scene_that_varies_twice_as_much_as_usual_gives_up_to_a_few_times_the_rate(n: int, most: float) -> None:
    """Twice the usual deviation and a wanted rate of 1 %: the price of knowing more than the frames say."""
    found = false_alarms(n, 0.01, np.full(2000, 2 * USUAL))
    assert 0.01 < found < most


@pytest.mark.parametrize("n", [4, 8, 18])
def test_a_steadier_scene_than_usual_stays_below_the_wanted_rate(n: int) -> None:
    assert false_alarms(n, 0.01, np.full(2000, USUAL / 2)) < 0.01
