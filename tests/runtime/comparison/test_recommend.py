"""The recommendation: DeLong's errors written out frame by frame, and which method follows from them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from edgevand_runtime.comparison.recommend import difference_error, recommend, standard_error

if TYPE_CHECKING:
    from edgevand_runtime.comparison.measure import Measured

Scores = tuple[list[float], list[float]]


def drawn(seed: int, shift: float, frames: tuple[int, int] = (30, 40)) -> Scores:
    random = np.random.default_rng(seed)
    return random.normal(0, 1, frames[0]).round(1).tolist(), random.normal(shift, 1, frames[1]).round(1).tolist()


def area(scores: Scores) -> float:
    normal, anomalous = scores
    return sum((a > n) + 0.5 * (a == n) for a in anomalous for n in normal) / (len(normal) * len(anomalous))


def naive(one: Scores, other: Scores | None = None) -> float:
    """DeLong's standard error, by its definition."""

    def components(scores: Scores) -> Scores:
        normal, anomalous = scores
        right = {(a, n): (x > y) + 0.5 * (x == y) for a, x in enumerate(anomalous) for n, y in enumerate(normal)}
        return (
            [sum(right[a, n] for a in range(len(anomalous))) / len(anomalous) for n in range(len(normal))],
            [sum(right[a, n] for n in range(len(normal))) / len(normal) for a in range(len(anomalous))],
        )

    total = 0.0
    rest = components(other) if other else ([0.0] * len(one[0]), [0.0] * len(one[1]))
    for mine, theirs in zip(components(one), rest, strict=True):
        gaps = [first - second for first, second in zip(mine, theirs, strict=True)]
        mean = sum(gaps) / len(gaps)
        total += sum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1) / len(gaps)
    return math.sqrt(total)


@pytest.mark.parametrize("seed", range(4))
def test_errors_are_delong_s(seed: int) -> None:
    one, other = drawn(seed, 0.8), drawn(seed + 10, 0.5)
    assert standard_error(one) == pytest.approx(naive(one), abs=1e-12)
    assert difference_error(one, other) == pytest.approx(naive(one, other), abs=1e-12)


def test_the_error_is_what_repeated_draws_scatter_by() -> None:
    areas = [area(drawn(seed, 1.0)) for seed in range(300)]
    assert standard_error(drawn(1, 1.0)) == pytest.approx(np.std(areas), rel=0.3)


def test_a_perfect_order_of_few_frames_is_still_uncertain() -> None:
    assert standard_error(([1.0, 2.0, 3.0], [4.0, 5.0])) == 0.25
    assert difference_error(([1.0, 2.0], [4.0, 5.0]), ([1.0, 2.0], [4.0, 5.0])) == 0.125


def method(label: str, scores: Scores, milliseconds: float) -> Measured:
    """What a recommendation looks at."""
    fields: dict[str, Any] = {"label": label, "scores": scores, "milliseconds": milliseconds, "auroc": area(scores)}
    return cast("Measured", SimpleNamespace(**fields))


GOOD, SAME, POOR = drawn(1, 2.5), drawn(1, 2.4), drawn(2, 0.4)


def test_the_best_is_recommended_where_no_other_comes_near() -> None:
    found = recommend([method("poor", POOR, 1.0), method("good", GOOD, 50.0)], drawn=False)
    assert found.label == "good"
    assert f"its AUROC, {area(GOOD):.2f}" in found.sentence
    assert "the next is poor" in found.sentence


def test_of_those_that_cannot_be_told_apart_the_fastest_is() -> None:
    assert area(GOOD) > area(SAME)
    found = recommend([method("good", GOOD, 50.0), method("same", SAME, 20.0), method("poor", POOR, 1.0)], drawn=False)
    assert found.label == "same"
    assert "cannot be told from the best (good" in found.sentence
    assert "20 ms a frame" in found.sentence


def test_times_that_are_nearly_the_same_do_not_decide() -> None:
    found = recommend([method("good", GOOD, 24.0), method("same", SAME, 20.0)], drawn=False)
    assert found.label == "good"
    assert "same, which cannot be told from it, is not clearly faster than 24 ms a frame" in found.sentence


def test_drawn_defects_are_named_as_such() -> None:
    assert "on drawn defects" in recommend([method("good", GOOD, 5.0)], drawn=True).sentence


def test_what_may_be_chance_is_not_recommended() -> None:
    found = recommend([method("poor", drawn(3, 0.1), 5.0)], drawn=False)
    assert found.label is None
    assert "may be chance" in found.sentence


def test_a_method_that_is_too_slow_is_not_recommended() -> None:
    both = [method("good", GOOD, 50.0), method("poor", drawn(4, 1.0), 10.0)]
    assert recommend(both, drawn=False, budget_ms=20).label == "poor"
    found = recommend(both, drawn=False, budget_ms=5)
    assert found.label is None
    assert found.sentence == "within 5 ms none can be recommended: poor, the fastest, takes 10 ms a frame"
