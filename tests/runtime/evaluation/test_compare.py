"""Comparisons of two reports: differences, and bootstrap intervals against plain resampling."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from edgevand.errors import UsageError
from edgevand_runtime.evaluation.compare import bootstrap_means, compare_reports, resampled_image_metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def make_report(scores: dict[tuple[str, int, int], NDArray[np.float64]], labels: NDArray[np.bool_]) -> dict[str, Any]:
    """The part of a report that a comparison reads; image metrics by scikit-learn."""
    rows = []
    for (name, shots, seed), values in scores.items():
        rows.append(
            {
                "class": name,
                "shots": shots,
                "seed": seed,
                "metrics": {"image_auroc": roc_auc_score(labels, values), "pro": float(values.mean()), "absent": None},
                "calibration": {"false_alarm_rate": 0.25 * seed, "detection_rate": None},
                "scores": [
                    {"image": f"{name}/{place}.png", "anomalous": bool(label), "used": float(value)}
                    for place, (label, value) in enumerate(zip(labels, values, strict=True))
                ],
            }
        )
    return {"created": "", "bundle": {}, "dataset": {}, "options": {}, "rows": rows}


def two_reports() -> tuple[dict[str, Any], dict[str, Any], NDArray[np.bool_]]:
    random = np.random.default_rng(3)
    labels = np.arange(30) % 3 == 0
    keys = [(name, shots, seed) for name in ("a", "b") for shots in (1, 4) for seed in (0, 1)]
    worse = {key: random.normal(size=30) + 0.8 * labels for key in keys}
    better = {key: values + 0.7 * labels + random.normal(0, 0.2, 30) for key, values in worse.items()}
    return make_report(worse, labels), make_report(better, labels), labels


def entry_of(comparison: dict[str, Any], shots: int | None, metric: str) -> dict[str, Any]:
    (found,) = [each for each in comparison["differences"] if (each["shots"], each["metric"]) == (shots, metric)]
    return dict(found)


def test_differences_are_means_over_the_pairs_of_rows() -> None:
    a, b, _ = two_reports()
    comparison = compare_reports(a, b)
    assert comparison["schema"] == "edgevand.comparison/1"
    for shots in (1, 4, None):
        entry = entry_of(comparison, shots, "image_auroc")
        values = [
            [row["metrics"]["image_auroc"] for row in report["rows"] if shots in {None, row["shots"]}]
            for report in (a, b)
        ]
        assert (entry["a"], entry["b"]) == pytest.approx((np.mean(values[0]), np.mean(values[1])))
        assert entry["difference"] == pytest.approx(np.mean(values[1]) - np.mean(values[0]))
        assert entry["rows"] == (8 if shots is None else 4)
        assert entry["images"] == 60
    assert entry_of(comparison, 1, "false_alarm_rate")["a"] == 0.125
    named = {each["metric"] for each in comparison["differences"]}
    assert named == {"image_auroc", "pro", "false_alarm_rate"}


def test_the_interval_over_rows_is_that_of_a_plain_bootstrap() -> None:
    a, b, _ = two_reports()
    entry = entry_of(compare_reports(a, b), None, "pro")
    differences = [
        other["metrics"]["pro"] - row["metrics"]["pro"] for row, other in zip(a["rows"], b["rows"], strict=True)
    ]
    random = np.random.default_rng(11)
    means = [np.mean(random.choice(differences, len(differences))) for _ in range(20_000)]
    assert entry["interval_rows"] == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.01)


def test_the_spread_of_bootstrap_means_is_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    means = bootstrap_means(values, 20_000, 0)
    assert means.mean() == pytest.approx(values.mean(), abs=0.01)
    assert means.std() == pytest.approx(values.std() / np.sqrt(400), rel=0.03)


def best_f1(labels: Any, scores: Any) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


@pytest.mark.parametrize(
    ("metric", "plain"),
    [("image_auroc", roc_auc_score), ("image_ap", average_precision_score), ("image_f1_max", best_f1)],
)
def test_a_resamples_metrics_are_scikit_learns_on_the_repeated_pictures(
    metric: str, plain: Callable[[Any, Any], float]
) -> None:
    random = np.random.default_rng(5)
    anomalous = np.arange(24) % 4 == 0
    scores = np.round(random.normal(size=24) + anomalous, 1)  # with ties
    counts = random.integers(0, 4, (50, 24))
    counts[:, :2] += 1  # one picture of either label at least
    found = resampled_image_metrics(anomalous, scores, counts)[metric]
    expected = [plain(np.repeat(anomalous, times), np.repeat(scores, times)) for times in counts]
    assert found == pytest.approx(expected)


def test_the_interval_over_images_is_that_of_plain_paired_resampling_of_the_pictures_of_a_class() -> None:
    a, b, labels = two_reports()
    entry = entry_of(compare_reports(a, b), 1, "image_auroc")
    random = np.random.default_rng(17)
    positive, negative = np.flatnonzero(labels), np.flatnonzero(~labels)
    rows = [pair for pair in zip(a["rows"], b["rows"], strict=True) if pair[0]["shots"] == 1]
    means = []
    for _ in range(1500):
        drawn = {
            name: np.concatenate([random.choice(positive, len(positive)), random.choice(negative, len(negative))])
            for name in ("a", "b")
        }
        differences = []
        for row, other in rows:
            chosen = drawn[row["class"]]
            sides = [np.array([each["used"] for each in side["scores"]])[chosen] for side in (row, other)]
            areas = [np.mean(side[labels[chosen]][:, None] > side[~labels[chosen]]) for side in sides]  # no ties
            differences.append(areas[1] - areas[0])
        means.append(np.mean(differences))
    assert entry["interval_images"] == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.012)


def test_a_report_compared_with_itself_differs_nowhere() -> None:
    a, _, _ = two_reports()
    for entry in compare_reports(a, a)["differences"]:
        assert entry["difference"] == 0
        assert entry["interval_rows"] == [0, 0]
        assert entry["interval_images"] in (None, [0, 0])


def test_a_single_pair_or_reports_without_scores_have_no_interval_there() -> None:
    a, b, _ = two_reports()
    one = [{**report, "rows": [copy.copy(report["rows"][0])]} for report in (a, b)]
    assert entry_of(compare_reports(*one), 1, "image_auroc")["interval_rows"] is None
    for report in one:
        report["rows"][0]["scores"] = []
    entry = entry_of(compare_reports(*one), 1, "image_auroc")
    assert (entry["interval_images"], entry["images"]) == (None, None)


def test_rows_of_one_side_only_are_named_and_left_out_and_nothing_in_common_is_refused() -> None:
    a, b, _ = two_reports()
    b["rows"] = b["rows"][1:]
    comparison = compare_reports(a, b)
    assert comparison["only_a"] == [["a", 1, 0]]
    assert comparison["only_b"] == []
    assert entry_of(comparison, 1, "pro")["rows"] == 3
    b["rows"] = [{**row, "class": "other"} for row in b["rows"]]
    with pytest.raises(UsageError, match="none in common"):
        compare_reports(a, b)
