"""What a monitor counts and measures of one camera, in bounded memory whatever the length of the run."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgevand_runtime.events import Event
    from edgevand_runtime.results import Result
    from edgevand_runtime.sources import SourceStatus

__all__ = ["CameraStats", "Percentiles", "Rate", "ScoreTrack"]

RECENT = 1000
"""Frames that percentiles speak of."""


class Percentiles:
    """Percentiles of the last ``RECENT`` values."""

    def __init__(self) -> None:
        """Start empty."""
        self._values: deque[float] = deque(maxlen=RECENT)

    def add(self, value: float) -> None:
        """Take a value."""
        self._values.append(value)

    @property
    def last(self) -> float:
        """The value taken last."""
        return self._values[-1]

    def read(self, *wanted: float) -> tuple[float, ...] | None:
        """The wanted percentiles, in [0, 100]; None while there is no value."""
        if not self._values:
            return None
        return tuple(float(value) for value in np.percentile(np.asarray(self._values), wanted))


class Rate:
    """Things a second over the last few seconds."""

    def __init__(self, window: float = 5.0) -> None:
        """Set the window, seconds."""
        self._window = window
        self._marks: deque[tuple[float, int]] = deque(maxlen=RECENT)

    def add(self, count: int, at: float) -> None:
        """Say that ``count`` things have happened in all until ``at``, monotonic seconds."""
        self._marks.append((at, count))
        while len(self._marks) > 1 and at - self._marks[1][0] >= self._window:
            self._marks.popleft()

    def read(self, at: float) -> float | None:
        """Things a second until ``at``; None while it cannot be told, 0 when nothing has come for the window."""
        if len(self._marks) < 2 or at <= self._marks[0][0]:  # noqa: PLR2004 - a rate needs two marks
            return None
        if at - self._marks[-1][0] > self._window:
            return 0.0
        return (self._marks[-1][1] - self._marks[0][1]) / (at - self._marks[0][0])


class ScoreTrack:
    """The highest score in each half second of the last two minutes, and whether one was over the threshold."""

    STEP = 0.5
    LENGTH = 240

    def __init__(self) -> None:
        """Start empty."""
        self._bins: deque[tuple[int, float, bool]] = deque(maxlen=self.LENGTH)

    def add(self, score: float, at: float, *, over: bool) -> None:
        """Take the score of a frame that came at ``at``, monotonic seconds."""
        number = int(at / self.STEP)
        if self._bins and self._bins[-1][0] == number:
            _, highest, was_over = self._bins.pop()
            score, over = max(score, highest), over or was_over
        self._bins.append((number, score, over))

    def read(self, columns: int, at: float, hold: float = 0.0) -> list[tuple[float, bool] | None]:
        """The last ``columns`` half seconds until ``at``, oldest first; None where no frame came.

        A score stands for ``hold`` seconds, so that frames that come slower than half seconds make no gaps.
        """
        last, steps = int(at / self.STEP), int(hold / self.STEP)
        known = {number: (score, over) for number, score, over in self._bins}
        values: list[tuple[float, bool] | None] = []
        newest = None
        for number in range(last - columns + 1 - steps, last + 1):
            newest = number if number in known else newest
            values.append(known[newest] if newest is not None and number - newest <= steps else None)
        return values[-columns:]


@dataclass(slots=True)
class CameraStats:
    """Counters and recent measures of one camera.

    ``scored`` frames have a verdict, ``unreadable`` ones could not be decoded, ``resized`` ones have another size
    than the bank's and cannot be scored; what a live source ``dropped`` was replaced by a newer frame before it was
    looked at. ``withheld`` verdicts did not count for the part because the camera was in doubt. ``stages`` holds the
    milliseconds that each step of a frame took, in the order of the steps.
    """

    camera: str
    started: float
    scored: int = 0
    anomalous: int = 0
    withheld: int = 0
    unreadable: int = 0
    resized: int = 0
    events: Counter[str] = field(default_factory=Counter)
    latency: Percentiles = field(default_factory=Percentiles)
    age: Percentiles = field(default_factory=Percentiles)
    stages: dict[str, Percentiles] = field(default_factory=dict)
    processed: Rate = field(default_factory=Rate)
    track: ScoreTrack = field(default_factory=ScoreTrack)
    last: Result | None = None
    last_at: float | None = None
    source: SourceStatus | None = None  # the source's own account
    open: dict[str, Event] = field(default_factory=dict)
    recent: deque[Event] = field(default_factory=lambda: deque(maxlen=8))

    def take(self, result: Result, age: float, at: float) -> None:
        """Count a verdict.

        Args:
            result: the verdict.
            age: seconds from the grab of the frame until now.
            at: now, monotonic seconds.
        """
        self.scored += 1
        self.anomalous += bool(result.anomalous)
        self.latency.add(result.latency_ms)
        self.age.add(age * 1000)
        self.processed.add(self.scored, at)
        score = result.score if result.score is not None else result.raw_score
        if score is not None:
            self.track.add(score, at, over=bool(result.anomalous))
        self.last, self.last_at = result, at

    def take_stage(self, name: str, seconds: float) -> None:
        """Count the time that a step of a frame took."""
        self.stages.setdefault(name, Percentiles()).add(seconds * 1000)

    def follow_event(self, event: Event) -> None:
        """Take a message about an event; an event counts once, by its ``new``."""
        event = replace(event, evidence=None)  # pictures are not kept for the sake of a list
        if event.type == "new":
            self.events[event.fault or event.kind] += 1
        if event.type == "end":
            self.open.pop(event.id, None)
        else:
            self.open[event.id] = event
        if event.type != "update":
            self.recent.append(event)
