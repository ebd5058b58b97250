"""The table of a frame's steps adds up, and judges by the slower of the two threads."""

from __future__ import annotations

import pytest

from edgevand_runtime.budget import budget_lines

STAGES = {"decode": (4.0, 6.0), "encode": (20.0, 30.0), "search": (11.0, 12.0)}


def test_every_step_stands_there_with_its_share_of_the_interval() -> None:
    lines = budget_lines(STAGES, 40.0)
    assert [line.split() for line in lines[1:4]] == [
        ["decode", "4.00", "6.00", "10.0%"],
        ["encode", "20.00", "30.00", "50.0%"],
        ["search", "11.00", "12.00", "27.5%"],
    ]


@pytest.mark.parametrize(
    ("interval", "verdict"), [(40.0, "keeps up with"), (20.0, "keeps up with"), (19.0, "falls behind")]
)
def test_a_source_is_kept_up_with_while_neither_thread_needs_longer_than_its_interval(
    interval: float, verdict: str
) -> None:
    assert verdict in budget_lines(STAGES, interval)[-1]


def test_the_steps_beside_the_encoder_can_be_what_falls_behind() -> None:
    assert "falls behind" in budget_lines({"decode": (30.0, 31.0), "encode": (5.0, 5.0)}, 20.0)[-1]


def test_without_an_interval_there_is_no_share_and_no_verdict() -> None:
    lines = budget_lines(STAGES, None)
    assert "%" not in "".join(lines)
    assert lines[-1] == "the encoder takes 20.0 ms a frame, all other steps beside it 15.0 ms"
