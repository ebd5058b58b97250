"""Counters and recent measures are right and bounded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevand_runtime.stats import RECENT, Percentiles, Rate, ScoreTrack


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=50))
def test_percentiles_are_numpys(values: list[float]) -> None:
    percentiles = Percentiles()
    for value in values:
        percentiles.add(value)
    assert percentiles.read(50, 95) == pytest.approx(tuple(np.percentile(values, (50, 95))))


def test_percentiles_speak_of_the_last_thousand_values() -> None:
    percentiles = Percentiles()
    assert percentiles.read(50) is None
    for value in [1e6] * 500 + [1.0] * RECENT:
        percentiles.add(value)
    assert percentiles.read(0, 100) == (1.0, 1.0)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate(window=5.0)
    assert rate.read(1000.0) is None
    for second in range(100):
        rate.add(second * 2 if second < 50 else 100 + (second - 50) * 30, 1000.0 + second)
    assert rate.read(1099.0) == pytest.approx(30)
    assert rate.read(1100.0) == pytest.approx(30 * 5 / 6)
    assert rate.read(1110.0) == 0.0


def test_a_rate_of_a_stream_that_stands_still_is_nought() -> None:
    rate = Rate(window=5.0)
    for second in range(20):
        rate.add(7, 1000.0 + second)
    assert rate.read(1019.0) == 0.0


def test_the_track_keeps_the_highest_score_of_each_half_second() -> None:
    track = ScoreTrack()
    for at, score in ((10.0, 0.2), (10.2, 0.9), (10.4, 0.1), (11.5, 0.3)):
        track.add(score, at, over=score > 0.5)
    assert track.read(5, 11.6) == [None, (0.9, True), None, None, (0.3, False)]


def test_a_score_stands_as_long_as_it_is_held() -> None:
    track = ScoreTrack()
    track.add(0.4, 10.0, over=False)
    assert track.read(6, 12.4, hold=1.0) == [None, (0.4, False), (0.4, False), (0.4, False), None, None][:6]
    assert track.read(2, 11.2, hold=1.0) == [(0.4, False), (0.4, False)]


def test_the_track_is_bounded() -> None:
    track = ScoreTrack()
    for step in range(10_000):
        track.add(0.1, step * 0.5, over=False)
    assert len(track._bins) == ScoreTrack.LENGTH
