"""The live view shows the score on a fixed scale and says what is the matter; without a terminal there are lines."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from edgevand_runtime.events import AnomalyEvents, CameraEvents, Event, EventIds, EventRule
from edgevand_runtime.live_view import LinesView, TerminalView, chart, describe_event
from edgevand_runtime.sources.base import SourceStatus
from edgevand_runtime.stats import CameraStats
from tests.runtime.streams import EPOCH, make_frame, make_result

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"


def stats_of(scores: Sequence[float | None], *, connected: bool = True) -> CameraStats:
    """The state after these scores at 2 fps, the last one at 1000 s."""
    stats = CameraStats("line-1", 900.0)
    error = None if connected else "rtsp://camera does not answer"
    stats.source = SourceStatus(connected, frames=len(scores), dropped=3, fps=2.0, error=error)
    events = AnomalyEvents("line-1", EventRule(1, 2), EventIds())
    for index, score in enumerate(scores):
        frame = make_frame(index)
        result = make_result(frame, score)
        stats.take(result, 0.25, 1000.0 - (len(scores) - 1 - index) / 2)
        for event in events.update(result, frame):
            stats.follow_event(event)
    return stats


def picture(stats: CameraStats, width: int = 80, height: int = 30) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    view = TerminalView("edgevand monitor, line-1", console)
    try:
        drawn = view.draw(stats, 1000.0)
    finally:
        view.close()
    plain = Console(file=io.StringIO(), width=width, height=height)
    plain.print(drawn)
    assert isinstance(plain.file, io.StringIO)
    return plain.file.getvalue().splitlines()


@pytest.mark.parametrize("rows", [4, 8, 16])
def test_the_chart_is_uniform_half_a_scale_is_half_the_height(rows: int) -> None:
    lines = [
        line.plain
        for line in chart([(0.5, False), (1.0, True), (0.25, False), (0.0, False)], 1.0, rows, threshold=False)
    ]
    heights = [sum(BLOCKS.find(line[column]) + 1 for line in lines) / (8 * rows) for column in range(4)]
    assert heights == pytest.approx([0.5, 1.0, 0.25, 1 / (8 * rows)])


def test_the_threshold_is_a_line_at_half_the_height_and_an_outage_is_a_gap() -> None:
    lines = [line.plain for line in chart([(0.1, False), None, (0.9, True)], 1.0, 8, threshold=True)]
    assert lines[3][:2] == "▁▁"  # the lower edge of the fourth row from above
    assert lines[3][2] == "█"
    assert [line[1] for line in lines] == [" ", " ", " ", "▁", " ", " ", " ", "·"]


def test_scores_over_the_threshold_have_another_colour() -> None:
    (line,) = chart([(0.2, False), (0.9, True)], 1.0, 2, threshold=False)[1:]
    assert [str(span.style) for span in line.spans] == ["green", "red"]


def test_the_picture_says_verdict_score_rates_latency_drops_and_events() -> None:
    text = "\n".join(picture(stats_of([0.1] * 10 + [0.83] * 3)))
    for part in (
        "ANOMALY",
        "score 0.83, threshold 0.50 (extrapolated)",
        "connected, 2.0 fps, 13 frames, 3 dropped",
        "2.0 fps, 13 frames, 3 over the threshold",
        "12 / 12 / 12 ms (p50 / p95 / p99), age 250 ms",
        "1 anomalies, 0 camera faults",
        "anomaly: score 0.83 at x 1, y 2, 3x4 px",
    ):
        assert part in text


def test_the_picture_fits_its_terminal() -> None:
    stats = stats_of([0.1, 0.9] * 30)
    for width, height in ((60, 20), (80, 24), (200, 60)):
        lines = picture(stats, width, height)
        assert max(len(line) for line in lines) <= min(width, 160)
        assert len(lines) <= height


def test_a_normal_part_is_called_normal_and_an_uncalibrated_bank_gives_no_verdict() -> None:
    assert "normal" in picture(stats_of([0.9, 0.1, 0.1]))[1]
    text = "\n".join(picture(stats_of([None] * 5)))
    assert "not calibrated: no verdict" in text
    assert "raw score 2.000, no threshold" in text
    assert "0.50" not in text  # no line is drawn where none was calibrated


def test_a_camera_fault_is_named_before_anything_else() -> None:
    stats = stats_of([0.9] * 5, connected=False)
    assert "no frame" in picture(stats)[1]
    for event in CameraEvents("line-1", EventIds()).update({"lost": "the camera gives no frame: cable"}, EPOCH):
        stats.follow_event(event)
    lines = picture(stats)
    assert "CAMERA LOST" in lines[1]
    assert any("camera lost: the camera gives no frame: cable" in line for line in lines)
    assert any("not connected: rtsp://camera does not answer" in line for line in lines)


def test_before_the_first_frame_the_view_waits() -> None:
    assert any("waiting for the first frame" in line for line in picture(CameraStats("line-1", 999.0)))


def test_warnings_are_shown_in_the_picture_and_printed_after_it(caplog: pytest.LogCaptureFixture) -> None:
    console = Console(file=io.StringIO(), width=80, height=30, force_terminal=True)
    caplog.set_level(logging.WARNING, "edgevand_runtime")
    view = TerminalView("title", console)
    logging.getLogger("edgevand_runtime.sinks").warning("the disk is full")
    assert "the disk is full" not in caplog.text
    plain = Console(file=io.StringIO(), width=80)
    plain.print(view.draw(stats_of([0.1]), 1000.0))
    assert isinstance(plain.file, io.StringIO)
    assert "! the disk is full" in plain.file.getvalue()
    view.close()
    assert caplog.text.count("the disk is full") == 1
    view.close()
    assert caplog.text.count("the disk is full") == 1


def test_the_terminal_is_drawn_at_most_four_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    view = TerminalView("title", Console(file=stream, width=80, height=30, force_terminal=True))
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    sizes = set()
    for step in range(100):
        now[0] = 1000.0 + step / 100
        view.show(stats_of([0.1]))
        sizes.add(len(stream.getvalue()))
    view.close()
    assert len(sizes) == 4


@pytest.fixture
def messages() -> list[Event]:
    anomalies, camera = AnomalyEvents("line-1", EventRule(1, 2), EventIds()), CameraEvents("line-1", EventIds())
    scores = [0.7, *[0.8] * 12, 0.1, 0.1]
    frames = [make_frame(index) for index in range(len(scores))]
    told = [
        event
        for frame, score in zip(frames, scores, strict=True)
        for event in anomalies.update(make_result(frame, score), frame)
    ]
    return [*told, *camera.update({"black": "the view is black"}, EPOCH), *camera.close(EPOCH)]


def test_every_start_and_end_is_one_line_for_people(messages: list[Event]) -> None:
    stream = io.StringIO()
    view = LinesView(stream, period=None)
    for event in messages:
        view.event(event)
    assert [line[8:].strip() for line in stream.getvalue().splitlines()] == [
        "anomaly: score 0.70 at x 1, y 2, 3x4 px",
        "anomaly over, after 1.2 s: top score 0.80",
        "camera black: the view is black",
        "camera black: over, after 0.0 s",
    ]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_lines_come_every_period_and_for_every_event(clock: list[float], messages: list[Event]) -> None:
    stream = io.StringIO()
    view = LinesView(stream, period=10.0)
    for second in range(25):
        clock[0] = 1000.0 + second
        view.show(stats_of([0.2, 0.9]))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert "ANOMALY, score 0.90, threshold 0.50 (extrapolated); processing 2.0 fps" in lines[0]
    view.event(messages[0])
    view.close()
    assert stream.getvalue().splitlines()[3:] == [describe_event(messages[0])]


def test_a_quiet_monitor_tells_events_only(clock: list[float], messages: list[Event]) -> None:
    stream = io.StringIO()
    view = LinesView(stream, period=None)
    view.show(stats_of([0.2]))
    assert stream.getvalue() == ""
    view.event(messages[0])
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110 - a device, not a path of ours
def test_a_log_that_cannot_be_written_does_not_stop_the_monitor(messages: list[Event]) -> None:
    with open("/dev/full", "w", encoding="utf-8", buffering=1) as stream:  # noqa: PTH123 - the same
        view = LinesView(stream, period=None)
        for event in messages:
            view.event(event)
        with contextlib.suppress(OSError):
            stream.close()
