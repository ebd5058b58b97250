"""Image-level metrics are scikit-learn's and the definitions', ties included; summaries are those worked by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from edgevand.errors import UsageError
from edgevand_runtime.metrics import (
    Aufc,
    aufc,
    auroc,
    average_precision,
    counting,
    f1_max,
    f1_trivial,
    harmonic_mean,
    image_metrics,
    roc_curve,
    vand_score,
)
from tests.runtime import naive_metrics as naive

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

METRICS = [auroc, average_precision, f1_max]
PAIRS = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=60)
BOTH = PAIRS.filter(lambda pairs: len({label for label, _ in pairs}) == 2)


def sklearn_f1_max(labels: NDArray, scores: NDArray) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores)
    with np.errstate(invalid="ignore"):
        return float(np.nanmax(2 * precision * recall / (precision + recall)))


def arrays(pairs: list[tuple[bool, int]]) -> tuple[NDArray, NDArray]:
    return np.array([label for label, _ in pairs]), np.array([score for _, score in pairs])


@settings(deadline=None)
@given(PAIRS)
def test_the_metrics_are_those_of_scikit_learn_on_any_labels_with_many_ties(pairs: list[tuple[bool, int]]) -> None:
    """Scores are drawn from seven values, so nearly every case holds ties across the classes."""
    labels, scores = arrays(pairs)
    if len(set(labels.tolist())) == 1:
        assert [metric(labels, scores) for metric in METRICS] == [None, None, None]
    else:
        assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
        assert f1_max(labels, scores) == pytest.approx(sklearn_f1_max(labels, scores), abs=1e-12)


@settings(deadline=None)
@given(BOTH)
def test_the_metrics_are_those_of_their_definitions(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = arrays(pairs)
    assert auroc(labels, scores) == pytest.approx(naive.auroc(labels, scores), abs=1e-12)
    assert average_precision(labels, scores) == pytest.approx(naive.average_precision(labels, scores), abs=1e-12)
    assert f1_max(labels, scores) == pytest.approx(naive.f1_max(labels, scores), abs=1e-12)


def test_the_metrics_over_the_pixels_of_many_maps_are_those_of_scikit_learn() -> None:
    """Maps and masks go in as they are, of any shape."""
    generator = np.random.default_rng(3)
    masks = generator.random((5, 40, 30)) < 0.02
    maps = (generator.normal(size=masks.shape) + 2 * masks).astype(np.float32)
    flat = masks.ravel(), maps.ravel()
    assert auroc(masks, maps) == pytest.approx(roc_auc_score(*flat), abs=1e-12)
    assert average_precision(masks, maps) == pytest.approx(average_precision_score(*flat), abs=1e-12)
    assert f1_max(masks, maps) == pytest.approx(sklearn_f1_max(*flat), abs=1e-12)


def test_perfect_reversed_and_constant_scores_give_one_nought_and_one_half() -> None:
    """The closed forms."""
    labels = [0, 0, 1, 1, 1]
    assert auroc(labels, [1, 2, 3, 4, 5]) == 1.0
    assert auroc(labels, [5, 4, 3, 2, 1]) == 0.0
    assert auroc(labels, [7, 7, 7, 7, 7]) == 0.5
    assert [average_precision(labels, [1, 2, 3, 4, 5]), f1_max(labels, [1, 2, 3, 4, 5])] == [1.0, 1.0]
    assert [average_precision(labels, [7] * 5), f1_max(labels, [7] * 5)] == pytest.approx([0.6, f1_trivial(labels)])


def test_average_precision_and_f1_max_of_three_images_are_those_worked_by_hand() -> None:
    """1 of 1 is right at recall 1/2, 2 of 3 at recall 1: AP = 1/2 + 1/2 * 2/3, F1 = 2/3 and 4/5."""
    assert average_precision([1, 0, 1], [3, 2, 1]) == pytest.approx(5 / 6)
    assert f1_max([1, 0, 1], [3, 2, 1]) == pytest.approx(0.8)


@settings(deadline=None)
@given(BOTH, st.randoms(use_true_random=False))
def test_neither_the_order_of_images_nor_a_growing_transformation_changes_a_figure(
    pairs: list[tuple[bool, int]], random: object
) -> None:
    labels, scores = arrays(pairs)
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis' random
    again = arrays(shuffled)
    expected = image_metrics(labels, scores)
    assert image_metrics(*again).values == pytest.approx(expected.values, abs=1e-12)
    assert image_metrics(labels, np.exp(scores / 2) - 5).values == expected.values


@settings(deadline=None)
@given(BOTH)
def test_a_tie_counts_half(pairs: list[tuple[bool, int]]) -> None:
    """The area lies midway between all ties won and all ties lost."""
    labels, scores = arrays(pairs)
    won, lost = auroc(labels, scores + 0.1 * labels), auroc(labels, scores - 0.1 * labels)
    assert won is not None
    assert lost is not None
    assert auroc(labels, scores) == pytest.approx((won + lost) / 2, abs=1e-12)


def test_scores_that_only_double_precision_tells_apart_are_told_apart() -> None:
    assert auroc([0, 1], [1.0, 1.0 + 1e-12]) == 1.0
    assert auroc([0, 1], np.array([2**40, 2**40 + 1])) == 1.0


def test_infinite_scores_are_ordered_too() -> None:
    assert auroc([0, 0, 1, 1], [-np.inf, 1.0, 2.0, np.inf]) == 1.0
    assert auroc([0, 1, 1], [np.inf, np.inf, 2.0]) == pytest.approx(0.25)


def test_the_scores_handed_in_are_not_reordered() -> None:
    """Sorting in place happens on a copy."""
    scores = np.array([3.0, 1.0, 2.0])
    auroc([0, 0, 1], scores)
    assert scores.tolist() == [3.0, 1.0, 2.0]


def test_counting_in_small_blocks_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block's borders fall anywhere."""
    generator = np.random.default_rng(5)
    labels, scores = generator.random(1000) < 0.3, generator.integers(0, 50, 1000)
    expected = image_metrics(labels, scores).values
    for size in (1, 7, 999, 1000):
        monkeypatch.setattr(counting, "BLOCK", size)
        assert image_metrics(labels, scores).values == expected


@pytest.mark.parametrize("metric", [*METRICS, image_metrics, roc_curve], ids=lambda metric: metric.__name__)
@pytest.mark.parametrize(
    ("labels", "scores", "found"),
    [([0, 1], [1.0], "one score for each label"), ([0, 1], [1.0, float("nan")], "NaN"), ([0, 1], [1, None], "numbers")],
)
def test_scores_that_do_not_fit_the_labels_are_refused_in_one_sentence(
    metric: Callable[[object, object], object], labels: list[int], scores: list[float], found: str
) -> None:
    """Neither a missing nor an unordered score is guessed."""
    with pytest.raises(UsageError, match=rf"{metric.__name__} needs.*{found}"):
        metric(labels, scores)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([0, 0, 0], "All 3 images are normal: there is no anomalous one to tell them from."),
        ([1, 1], "All 2 images are anomalous: there is no normal one to tell them from."),
        ([1], "The only image is anomalous: there is no normal one to tell it from."),
        ([], "There is no image."),
    ],
)
def test_one_class_alone_gives_no_figure_but_a_reason(labels: list[int], reason: str) -> None:
    names = {"image_auroc", "image_ap", "image_f1_max", "image_f1_trivial"}
    found = image_metrics(labels, np.arange(len(labels)))
    assert found.values == dict.fromkeys(names)
    assert found.reasons == dict.fromkeys(names, reason)
    assert roc_curve(labels, np.arange(len(labels))) is None
    assert f1_trivial(labels) is None


@pytest.mark.parametrize(
    ("good", "anomalous", "percent"),
    [(102, 173, 77.2), (94, 236, 83.4), (138, 172, 71.4), (122, 219, 78.2), (119, 193, 76.4)],
    ids=["breakfast_box", "juice_bottle", "pushpins", "screw_bag", "splicing_connectors"],
)
def test_the_trivial_f1_of_the_loco_categories_is_the_known_one(good: int, anomalous: int, percent: float) -> None:
    assert f1_trivial([0] * good + [1] * anomalous) == pytest.approx(percent / 100, abs=5e-4)


@settings(deadline=None)
@given(BOTH)
def test_the_trivial_f1_is_that_of_equal_scores_and_no_f1_max_is_lower(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = arrays(pairs)
    trivial, best = f1_trivial(labels), f1_max(labels, scores)
    assert trivial == pytest.approx(f1_max(labels, np.zeros(labels.size)))
    assert trivial is not None
    assert best is not None
    assert best >= trivial - 1e-12


@settings(deadline=None)
@given(BOTH)
def test_the_area_under_the_whole_roc_curve_is_the_auroc(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = arrays(pairs)
    found = roc_curve(labels, scores)
    assert found is not None
    points = list(zip(*(axis.tolist() for axis in found), strict=True))
    assert points[0] == (0.0, 0.0)
    assert points[-1] == (1.0, 1.0)
    assert naive.area_to(points, 1.0) == pytest.approx(auroc(labels, scores), abs=1e-12)


@pytest.mark.parametrize("points", [6, 7, 50, 200])
def test_a_thinned_roc_curve_keeps_its_ends_and_lies_on_the_curve(points: int) -> None:
    generator = np.random.default_rng(1)
    labels = generator.random(3000) < 0.4
    scores = generator.normal(size=3000) + labels
    found = roc_curve(labels, scores, points)
    assert found is not None
    rates, hits = found
    assert 2 < len(rates) <= points
    assert (rates[0], hits[0], rates[-1], hits[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert (np.diff(rates) >= 0).all()
    assert (np.diff(hits) >= 0).all()
    known = {
        (float((scores[~labels] >= t).mean()), float((scores[labels] >= t).mean()))
        for t in [*scores.tolist(), float("inf")]
    }
    assert set(zip(rates.tolist(), hits.tolist(), strict=True)) <= known


def test_a_curve_of_too_few_points_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 6 points"):
        roc_curve([0, 1], [0, 1], points=5)


def test_the_harmonic_mean_is_two_ab_over_a_plus_b() -> None:
    assert harmonic_mean(0.5, 1.0) == pytest.approx(2 / 3)
    assert harmonic_mean(0.0, 0.0) == 0.0
    assert harmonic_mean(None, 1.0) is None
    assert harmonic_mean(1.0, None) is None


def test_the_vand_score_is_the_mean_of_the_classes_harmonic_means() -> None:
    """Not the harmonic mean of the means, which would be 0.6."""
    assert vand_score([1.0, 0.5], [0.5, 0.5]) == pytest.approx((2 / 3 + 0.5) / 2)
    assert vand_score([1.0, None], [0.5, 0.5]) is None
    assert vand_score([], []) is None
    with pytest.raises(UsageError, match="2 of images and 1 of pixels"):
        vand_score([1.0, 1.0], [0.5])


def test_the_aufc_is_the_one_worked_by_hand() -> None:
    """0.55 + 2 * 0.7 + 4 * 0.9 = 5.55 of at most 7."""
    found = aufc({8: 1.0, 1: 0.5, 2: 0.6, 4: 0.8})
    assert [found.raw, found.normalised, found.mean] == pytest.approx([5.55, 5.55 / 7, 0.725])
    assert aufc({1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0}) == Aufc(raw=7.0, normalised=1.0, mean=1.0)
    assert aufc({1: 0.5, 2: None, 4: 0.8}) == Aufc(raw=None, normalised=None, mean=None)
    with pytest.raises(UsageError, match="at least two"):
        aufc({4: 0.5})
