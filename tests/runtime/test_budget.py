"""The table of a frame's steps adds up, and judges by the slower of the two threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgevand.cli import main
from edgevand_runtime.budget import budget_lines
from tests.tiny import enrol_tiny, write_parts, write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

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


def test_monitor_tells_it_with_v(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    bank = enrol_tiny(bundle, tmp_path / "bank")
    write_parts(tmp_path / "parts", "....")
    where = ["--bundle", str(bundle.path), "--bank", str(bank.path), "--source", str(tmp_path / "parts")]
    options = ["--backend", "onnxruntime", "--no-tui", "--events", str(tmp_path / "events"), "-v", "--threads", "1"]
    assert main(["monitor", *where, *options]) == 0
    lines = capsys.readouterr().err.splitlines()
    first = lines.index(f"{'step':<12}{'median':>9}{'p95':>9} ms")
    steps = [line.split()[0] for line in lines[first + 1 : first + 8]]
    assert steps == ["decode", "preprocess", "encode", "search", "judge", "health", "sinks"]
    assert lines[first + 8].startswith("the encoder takes")
