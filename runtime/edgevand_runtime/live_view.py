"""What a person sees while a monitor runs: a live view on a terminal, lines of text anywhere else."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TextIO

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from edgevand_runtime.events import Event
    from edgevand_runtime.stats import CameraStats

__all__ = ["LinesView", "TerminalView", "View", "chart", "describe_event"]

_BLOCKS = " ▁▂▃▄▅▆▇█"
_SHOWN = 5  # events in the list
_AROUND = 15  # lines of the picture that are not chart
_LEAST_ROWS, _MOST_ROWS = 4, 16
_MOST_COLUMNS = 160
_LOGGER = logging.getLogger("edgevand_runtime")


class View(Protocol):
    """Shows a monitor at work."""

    def show(self, stats: CameraStats, *, last: bool = False) -> None:
        """Take the present state; called after every frame, drawn as often as a person can follow."""

    def event(self, event: Event) -> None:
        """Take one message about an event."""

    def close(self) -> None:
        """Leave the terminal as it was found."""


def describe_event(event: Event) -> str:
    """One line for people on a ``new`` or an ``end``: local time, what, and how bad."""
    start = _local(event.start_time)
    if event.kind == "camera":
        what = f"camera {event.fault}"
        if event.type == "new":
            return f"{start}  {what}: {event.message}"
        return f"{_local(event.end_time)}  {what}: over, after {_seconds(event)}"
    top = "" if event.top_score is None else f"score {event.top_score:.2f}"
    if event.type == "new":
        return f"{start}  anomaly: {top}{_regions(event)}"
    return f"{_local(event.end_time)}  anomaly over, after {_seconds(event)}: top {top}"


def _regions(event: Event) -> str:
    if not event.regions:
        return ""
    largest = max(event.regions, key=lambda region: region.area)
    more = f" and {len(event.regions) - 1} more" if len(event.regions) > 1 else ""
    return f" at x {largest.x}, y {largest.y}, {largest.w}x{largest.h} px{more}"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _local(text: str | None) -> str:
    return "" if text is None else _time(text).astimezone().strftime("%H:%M:%S")


def _seconds(event: Event) -> str:
    if event.end_time is None:
        return ""
    return f"{(_time(event.end_time) - _time(event.start_time)).total_seconds():.1f} s"


def chart(values: list[tuple[float, bool] | None], top: float, rows: int, *, threshold: bool) -> list[Text]:
    """A bar chart on a fixed scale from 0 to ``top``, one column for each value, highest row first.

    Args:
        values: score and whether it is over the threshold; None where nothing came, drawn as a dot.
        top: value at the upper edge.
        rows: height; even, so that a threshold at half the scale lies between two rows.
        threshold: draw a line at half the height, where a calibrated score meets its threshold.
    """
    lines = []
    for row in range(rows - 1, -1, -1):
        line = Text()
        on_line = threshold and row == rows // 2
        for value in values:
            if value is None:
                line.append("·" if row == 0 else "▁" if on_line else " ", "dim")
                continue
            eighths = round(min(max(value[0] / top, 0.0), 1.0) * rows * 8)
            if row == 0:
                eighths = max(eighths, 1)  # a score of 0 is a score
            block = _BLOCKS[min(max(eighths - row * 8, 0), 8)]
            if block == " " and on_line:
                line.append("▁", "dim")
            else:
                line.append(block, "red" if value[1] else "green")
        lines.append(line)
    return lines


def _number(value: float | None, form: str = ".1f") -> str:
    return "-" if value is None else format(value, form)


def _verdict(stats: CameraStats) -> tuple[str, str]:
    """Words and style for the state of the camera and the part, the camera's first."""
    faults = [event.fault for event in stats.open.values() if event.kind == "camera"]
    if faults:
        return f"CAMERA {', '.join(str(fault).upper() for fault in faults)}", "black on yellow"
    if stats.source is not None and not stats.source.connected:
        return "no frame", "black on yellow"
    if stats.last is None:
        return "waiting for the first frame", "dim"
    if stats.last.anomalous is None:
        return "not calibrated: no verdict", "black on cyan"
    if stats.open:
        return "ANOMALY", "white on red"
    return ("over the threshold", "red") if stats.last.anomalous else ("normal", "white on green")


def _score(stats: CameraStats) -> str:
    last = stats.last
    if last is None or (stats.source is not None and not stats.source.connected):
        return ""  # what was is not what is
    if last.score is None:
        return f"raw score {_number(last.raw_score, '.3f')}, no threshold"
    return f"score {last.score:.2f}, threshold {_number(last.threshold, '.2f')} ({last.calibration})"


def _latency(stats: CameraStats) -> str:
    values = stats.latency.read(50, 95, 99)
    return "-" if values is None else " / ".join(f"{value:.0f}" for value in values) + " ms (p50 / p95 / p99)"


def _camera_state(stats: CameraStats) -> str:
    source = stats.source
    if source is None:
        return "-"
    state = "connected" if source.connected else f"not connected: {source.error or 'waiting'}"
    parts = [f"{state}, {_number(source.fps)} fps", f"{source.frames} frames", f"{source.dropped} dropped"]
    for count, what in ((source.reconnects, "reconnects"), (source.stalls, "stalls"), (stats.unreadable, "unreadable")):
        if count:
            parts.append(f"{count} {what}")
    return ", ".join(parts)


class LinesView:
    """One line for every event and one every so often, for logs and pipes; only events with ``period`` None."""

    def __init__(self, stream: TextIO, period: float | None = 10.0) -> None:
        """Write to ``stream``."""
        self._stream, self._period = stream, period
        self._next = 0.0

    def show(self, stats: CameraStats, *, last: bool = False) -> None:
        """Print a line when it is time; the end has its own summary."""
        now = time.monotonic()
        if self._period is None or last or now < self._next or stats.last is None:
            return
        self._next = now + self._period
        age = stats.age.read(50)
        state = ", ".join(filter(None, (_verdict(stats)[0], _score(stats))))
        self._print(
            f"{datetime.now().astimezone():%H:%M:%S}  {state}; "
            f"processing {_number(stats.processed.read(now))} fps, latency {_latency(stats)}, "
            f"age {_number(age[0] if age else None, '.0f')} ms; camera {_camera_state(stats)}"
        )

    def event(self, event: Event) -> None:
        """Print the start and the end of an event; in between the lines of ``show`` tell how it goes."""
        if event.type != "update":
            self._print(describe_event(event))

    def close(self) -> None:
        """Nothing is held."""

    def _print(self, line: str) -> None:
        # A log on a full disk, or a terminal that is gone: nobody reads this, the camera is watched all the same.
        with contextlib.suppress(OSError):
            self._stream.write(line + "\n")
            self._stream.flush()


class _Notes(logging.Handler):
    """Keeps the last warnings, which would tear the picture if they were printed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: deque[str] = deque(maxlen=20)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class TerminalView:
    """A picture that is drawn anew four times a second: chart of the score, verdict, rates, latencies, events."""

    PERIOD = 0.25

    def __init__(self, title: str, console: Console | None = None) -> None:
        """Take over the terminal's alternate screen until ``close``, as an editor does."""
        self._title = title
        self._console = console or Console(stderr=True)
        self._notes = _Notes()
        self._next = 0.0
        self._live = Live(console=self._console, auto_refresh=False, screen=True)
        _LOGGER.addHandler(self._notes)
        self._propagated, _LOGGER.propagate = _LOGGER.propagate, False
        self._live.start()

    def show(self, stats: CameraStats, *, last: bool = False) -> None:
        """Draw, when it is time."""
        now = time.monotonic()
        if now < self._next and not last:
            return
        self._next = now + self.PERIOD
        self._live.update(self.draw(stats, now), refresh=True)

    def event(self, event: Event) -> None:
        """Nothing: ``show`` lists the events."""

    def close(self) -> None:
        """Give the terminal back, and print the warnings that came meanwhile."""
        self._live.stop()
        _LOGGER.removeHandler(self._notes)
        _LOGGER.propagate = self._propagated
        while self._notes.lines:
            _LOGGER.warning("%s", self._notes.lines.popleft())

    def draw(self, stats: CameraStats, now: float) -> Panel:
        """The picture of a state at ``now``, monotonic seconds."""
        words, style = _verdict(stats)
        head = Text.assemble((f" {words} ", style), "  ", _score(stats), no_wrap=True, overflow="ellipsis")
        body: list[Text | Table] = [head, *self._chart(stats, now), self._figures(stats, now), *self._events(stats)]
        body.extend(
            Text(f"! {line}", "yellow", no_wrap=True, overflow="ellipsis") for line in list(self._notes.lines)[-2:]
        )
        return Panel(
            Group(*body),
            title=self._title,
            subtitle="Ctrl-C ends",
            box=box.ROUNDED,
            border_style="dim",
            width=self._width,
        )

    @property
    def _width(self) -> int:
        return min(self._console.width, _MOST_COLUMNS)

    def _chart(self, stats: CameraStats, now: float) -> list[Text]:
        columns = max(10, self._width - 10)
        rate = stats.processed.read(now)
        values = stats.track.read(columns, now, hold=2.5 / rate if rate else 0.0)
        calibrated = stats.last is None or stats.last.score is not None
        top = 1.0 if calibrated else max([1e-9, *(value[0] for value in values if value)]) * 1.1
        rows = min(max(self._console.height - _AROUND, _LEAST_ROWS), _MOST_ROWS) // 2 * 2
        labels = {0: f"{top:.2f}", rows // 2 - 1: f"{top / 2:.2f}", rows - 1: "0.00"}
        lines = [
            Text.assemble((f"{labels.get(index, ''):>4} ", "dim"), line)
            for index, line in enumerate(chart(values, top, rows, threshold=calibrated))
        ]
        span = f"{columns * stats.track.STEP:.0f} s ago"
        lines.append(Text(f"     {span}{'now':>{max(4, columns - len(span))}}", "dim"))
        return lines

    def _figures(self, stats: CameraStats, now: float) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True, min_width=7)
        table.add_column()  # why a camera is lost may take two lines
        age = stats.age.read(50)
        table.add_row("camera", _camera_state(stats))
        table.add_row(
            "process",
            f"{_number(stats.processed.read(now))} fps, {stats.scored} frames, {stats.anomalous} over the threshold",
        )
        table.add_row("latency", f"{_latency(stats)}, age {_number(age[0] if age else None, '.0f')} ms")
        return table

    def _events(self, stats: CameraStats) -> list[Text]:
        anomalies = stats.events["anomaly"]
        faults = sum(stats.events.values()) - anomalies
        lines = [Text.assemble(("events   ", "dim"), f"{anomalies} anomalies, {faults} camera faults")]
        for event in list(stats.recent)[-_SHOWN:]:
            style = "dim" if event.type == "end" else ("yellow" if event.kind == "camera" else "red")
            lines.append(Text(f"  {describe_event(event)}", style, no_wrap=True, overflow="ellipsis"))
        # The picture keeps its height while events come.
        lines.extend(Text("") for _ in range(_SHOWN - min(_SHOWN, len(stats.recent))))
        return lines
