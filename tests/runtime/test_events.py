"""Events start, go on and end by the rule, and every one of them is balanced."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevand.errors import UsageError
from edgevand_runtime.events import AnomalyEvents, CameraEvents, Event, EventIds, EventRule, Hysteresis
from tests.runtime.streams import EPOCH, make_frame, make_result

if TYPE_CHECKING:
    from collections.abc import Sequence

SCORES = st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=80)
RULES = st.integers(1, 6).flatmap(lambda n: st.builds(EventRule, st.integers(1, n), st.just(n)))


def run(scores: Sequence[float | None], rule: EventRule | None = None, *, close: bool = True) -> list[Event]:
    events = AnomalyEvents("line-1", rule or EventRule(), EventIds())
    messages: list[Event] = []
    for index, score in enumerate(scores):
        frame = make_frame(index)
        messages += events.update(make_result(frame, score), frame)
    return messages + (events.close() if close else [])


def test_an_event_starts_with_the_third_of_five_frames_and_ends_after_five_below() -> None:
    scores = [0.1, 0.9, 0.1, 0.8, 0.1, 0.7, 0.2, 0.2, 0.2, 0.2, 0.2, 0.1]
    new, end = run(scores, close=False)
    assert (new.type, new.start_time) == ("new", "2026-11-21T20:18:00.100Z")
    assert new.score == 0.7
    assert new.top_score == 0.9
    assert (end.type, end.id, end.end_time) == ("end", new.id, "2026-11-21T20:18:00.500Z")
    assert end.score == 0.2
    assert end.top_score == 0.9


def test_two_of_five_frames_are_no_event() -> None:
    assert run([0.9, 0.1, 0.1, 0.1, 0.9] * 20) == []


def test_the_picture_shown_is_the_one_with_the_top_score() -> None:
    new, *_ = run([0.6, 0.95, 0.7])
    assert new.evidence is not None
    assert new.evidence.frame.index == 1
    update = next(event for event in run([0.6] * 12 + [0.97] * 3) if event.type == "update")
    assert update.top_score == 0.97
    assert update.evidence is not None
    assert update.evidence.frame.index == 12


def test_the_top_score_is_found_by_the_raw_score_where_the_calibrated_one_is_as_good_as_1() -> None:
    events = AnomalyEvents("line-1", EventRule(1, 1), EventIds())
    frames = [make_frame(index) for index in (0, 20)]
    raws = (3.0, 4.0)
    results = [replace(make_result(frame, 1.0), raw_score=raw) for frame, raw in zip(frames, raws, strict=True)]
    new, update = [
        message for result, frame in zip(results, frames, strict=True) for message in events.update(result, frame)
    ]
    assert (new.type, update.type) == ("new", "update")
    assert update.evidence is not None
    assert update.evidence.frame is frames[1]


def test_updates_come_at_most_once_a_second_and_only_for_a_higher_score() -> None:
    rising = run([0.5 + index / 200 for index in range(1, 60)], EventRule(1, 5))
    assert [event.type for event in rising] == ["new", *["update"] * 5, "end"]
    assert rising[-1].top_score == pytest.approx(0.5 + 59 / 200)
    assert [event.type for event in run([0.9] * 60)] == ["new", "end"]


def test_a_top_score_that_no_update_told_is_told_by_the_end() -> None:
    *_, end = run([0.6, 0.6, 0.6, 0.9])
    assert end.type == "end"
    assert end.top_score == 0.9
    assert end.evidence is not None


@given(st.lists(st.none(), max_size=50))
def test_null_verdicts_never_make_an_event(scores: list[None]) -> None:
    assert run(list(scores)) == []


@settings(max_examples=300)
@given(SCORES, RULES)
def test_any_sequence_gives_one_new_and_exactly_one_end_for_each_event(
    scores: list[float | None], rule: EventRule
) -> None:
    messages = run(scores, rule)
    open_id = None
    seen = set()
    for message in messages:
        if message.type == "new":
            assert open_id is None
            assert message.id not in seen
            assert message.end_time is None
            open_id = message.id
            seen.add(open_id)
        else:
            assert message.id == open_id
        if message.type == "end":
            open_id = None
            assert message.end_time is not None
            assert message.start_time <= message.end_time
    assert open_id is None
    assert [message.id for message in messages] == sorted(message.id for message in messages)


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 7), st.data())
def test_hysteresis_does_what_the_sentence_says(answers: list[bool], n: int, data: st.DataObject) -> None:
    m = data.draw(st.integers(1, n))
    rule = Hysteresis(m, n)
    active = False
    for index, answer in enumerate(answers):
        last = answers[max(0, index - n + 1) : index + 1]
        active = not (len(last) == n and not any(last)) if active else sum(last) >= m
        assert rule.update(over=answer) is active


def test_the_rates_that_justify_the_default_are_right() -> None:
    """Enumerate all windows of independent frames at R = 0.01 (methods.md (g): 1e-5 for 3 of 5, 3e-4 for 2 of 3)."""

    def rate(m: int, n: int) -> float:
        return sum(
            math.prod(0.01 if over else 0.99 for over in window)
            for window in product((False, True), repeat=n)
            if sum(window) >= m
        )

    assert (EventRule().m, EventRule().n) == (3, 5)
    assert rate(3, 5) == pytest.approx(1e-5, rel=0.05)
    assert rate(2, 3) == pytest.approx(3e-4, rel=0.05)


def test_the_json_has_the_fields_of_the_contract() -> None:
    new = run([0.9, 0.9, 0.9])[0].to_json()
    names = "schema type id camera start_time end_time score top_score threshold"
    more = "regions snapshot clip bundle bank latency_ms"
    assert {*names.split(), *more.split()} <= set(new)
    assert new["schema"] == "edgevand.event/1"
    assert new["kind"] == "anomaly"
    assert new["threshold"] == 0.5
    assert new["regions"] == [{"x": 1, "y": 2, "w": 3, "h": 4, "area": 10, "peak": 0.9}]
    assert new["bank"] == "sha256:" + "2" * 64


@given(st.lists(st.floats(-100, 100), max_size=30))
def test_ids_rise_and_are_unique_even_when_the_clock_is_set_back(steps: list[float]) -> None:
    ids = EventIds()
    names = [ids.next(EPOCH + timedelta(seconds=step)) for step in steps]
    assert names == sorted(names)
    assert len({name.partition("-")[0] for name in names}) == len(names)


@given(st.lists(st.sets(st.sampled_from(["lost", "black", "frozen", "moved"])), max_size=40))
def test_every_camera_fault_has_its_own_event_with_one_end(states: list[set]) -> None:
    events = CameraEvents("line-1", EventIds())
    messages: list[Event] = []
    for index, state in enumerate(states):
        messages += events.update({fault: f"it is {fault}" for fault in state}, EPOCH + timedelta(seconds=index))
        assert set(events.open) == state
    messages += events.close(EPOCH + timedelta(seconds=len(states)))
    for name in {message.id for message in messages}:
        mine = [message for message in messages if message.id == name]
        assert [message.type for message in mine] == ["new", "end"]
        assert {message.kind for message in mine} == {"camera"}
        assert len({message.fault for message in mine}) == 1


@pytest.mark.parametrize("text", ["", "3", "3/", "/5", "5/3", "0/5", "3/31", "a/b", "3/5/7", "-1/5"])
def test_a_rule_that_makes_no_sense_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(UsageError, match="3/5"):
        EventRule.parse(text)


def test_a_rule_is_written_with_a_slash() -> None:
    assert EventRule.parse("2/4") == EventRule(2, 4)
