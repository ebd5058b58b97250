"""Events: when a stream of verdicts becomes news (methods.md (g), "Around it").

Pure: frames and verdicts go in, events come out; nothing is written, drawn or timed here. An anomaly event starts
once m of the last n frames are over the threshold and ends after n frames in a row are not. The default is 3 of 5:
at a false-alarm rate of 0.01 a frame, independent frames start one wrongly in 1e-5 of the windows (one an hour at
30 fps), 2 of 3 in 3e-4 (thirty an hour), and 3 of 5 still answers within five frames.

Every event has one ``new`` and exactly one ``end``; whoever stops a stream calls ``close``.
"""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal

from edgevand.errors import UsageError
from edgevand_runtime.frame import iso_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgevand_runtime.frame import Frame
    from edgevand_runtime.results import Region, Result

__all__ = [
    "EVENT_SCHEMA",
    "AnomalyEvents",
    "CameraEvents",
    "Event",
    "EventIds",
    "EventRule",
    "Evidence",
    "Fault",
    "Hysteresis",
]

EVENT_SCHEMA = "edgevand.event/1"
MOST_FRAMES = 30  # the window holds the frames that are over the threshold: bounded memory
_NEVER = datetime.min.replace(tzinfo=timezone.utc)

Fault = Literal["lost", "frozen", "black", "blurred", "moved", "resized"]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The frame that an event shows, with its verdict (None for a camera fault)."""

    frame: Frame
    result: Result | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One message about an event, ``edgevand.event/1``; times are UTC, ISO 8601.

    Attributes:
        type: ``new``, ``update`` (the top score rose) or ``end``.
        id: the event's name: sorts by time, unique.
        kind: ``anomaly`` of the part, or ``camera``.
        fault: what ails the camera; None for an anomaly.
        message: one sentence about the fault; None for an anomaly.
        camera: the camera's name.
        start_time: first frame over the threshold, or when the fault was found.
        end_time: last frame over the threshold, or when the fault was over; None while it lasts.
        score: calibrated score of the frame that brought this message, in [0, 1].
        top_score: highest score so far; ``regions`` and ``snapshot`` show that frame.
        threshold: what ``score`` is held against.
        regions: in pixels of the source frame.
        snapshot: path of the picture, None where none was written.
        clip: path of a recording; None, nothing records yet.
        bundle: hash of the bundle that scored.
        bank: hash of the bank that scored.
        latency_ms: of the frame that brought this message.
        evidence: stays in the process: the frame of the top score where it is new, to draw the snapshot from.
    """

    type: Literal["new", "update", "end"]
    id: str
    kind: Literal["anomaly", "camera"]
    fault: Fault | None
    message: str | None
    camera: str | None
    start_time: str
    end_time: str | None
    score: float | None = None
    top_score: float | None = None
    threshold: float | None = None
    regions: tuple[Region, ...] = ()
    snapshot: str | None = None
    clip: str | None = None
    bundle: str | None = None
    bank: str | None = None
    latency_ms: float | None = None
    evidence: Evidence | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """The contract's JSON object."""
        skip = {"evidence", "regions"}
        fields = {name: getattr(self, name) for name in self.__slots__ if name not in skip}
        return {"schema": EVENT_SCHEMA, **fields, "regions": [asdict(region) for region in self.regions]}


class EventIds:
    """Names for events: UTC to the microsecond and eight random digits, strictly rising within a process."""

    def __init__(self) -> None:
        """Start before every time there is."""
        self._last = _NEVER

    def next(self, time: datetime) -> str:
        """A name for an event that starts at ``time``; a clock that was set back does not set the names back."""
        self._last = max(time.astimezone(timezone.utc), self._last + timedelta(microseconds=1))
        return f"{self._last:%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class EventRule:
    """When an anomaly event starts and ends: m of the last n frames; at most one update a second."""

    m: int = 3
    n: int = 5
    update_seconds: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a rule that can never, or always, start an event.

        Raises:
            UsageError: m and n are out of range.
        """
        if not 1 <= self.m <= self.n <= MOST_FRAMES:
            raise UsageError(
                f"an event starts with M of the last N frames, 1 <= M <= N <= {MOST_FRAMES}, but "
                f"{self.m}/{self.n} was given: give for example 3/5"
            )

    @classmethod
    def parse(cls, text: str) -> EventRule:
        """The rule that a person writes as ``3/5``.

        Raises:
            UsageError: it is not two numbers with a slash between them, or they are out of range.
        """
        m, slash, n = text.partition("/")
        if not (slash and m.strip().isdecimal() and n.strip().isdecimal()):
            raise UsageError(f"an event rule is M/N, for example 3/5, but '{text}' was given: write two whole numbers")
        return cls(int(m), int(n))


class Hysteresis:
    """On once m of the last n answers were yes, off once n in a row were no."""

    def __init__(self, m: int, n: int) -> None:
        """Start off, with an empty window."""
        self._m = m
        self._window: deque[bool] = deque(maxlen=n)
        self.active = False

    def update(self, *, over: bool) -> bool:
        """Take one answer; whether it is on now."""
        self._window.append(over)
        if self.active:
            self.active = any(self._window) or len(self._window) < (self._window.maxlen or 0)
        else:
            self.active = sum(self._window) >= self._m
        return self.active

    def reset(self) -> None:
        """Forget everything: off, with an empty window."""
        self._window.clear()
        self.active = False


def _rank(evidence: Evidence) -> float:
    """By the raw score: the calibrated one is as good as 1 for every gross defect."""
    return 0.0 if evidence.result is None else evidence.result.raw_score


class AnomalyEvents:
    """Turns the verdicts of one camera into anomaly events."""

    def __init__(self, camera: str | None, rule: EventRule, ids: EventIds) -> None:
        """Start with no event open."""
        self._camera, self._rule, self._ids = camera, rule, ids
        self._hysteresis = Hysteresis(rule.m, rule.n)
        self._window: deque[Evidence | None] = deque(maxlen=rule.n)
        self._open: Event | None = None
        self._top: Evidence | None = None
        self._here: Evidence | None = None
        self._last_over = _NEVER
        self._told = 0.0  # monotonic time of the event's last message
        self._untold = False  # the top score rose since then

    @property
    def open(self) -> Event | None:
        """The event's last message while it lasts."""
        return self._open

    def update(self, result: Result, frame: Frame) -> list[Event]:
        """Take one verdict; the messages it brings: none, a ``new``, an ``update`` or an ``end``.

        A verdict that is null (nothing was calibrated) is not counted: it can neither start nor end an event.
        """
        if result.anomalous is None:
            return []
        self._here = here = Evidence(frame, result)
        self._window.append(here if result.anomalous else None)
        active = self._hysteresis.update(over=result.anomalous)
        if self._open is None:
            return [self._start(here)] if active else []
        if not active:
            return self._end(self._open)
        return self._continue(self._open, here)

    def close(self) -> list[Event]:
        """End what is open: shutdown, the end of the source, or a camera that cannot be trusted any more."""
        messages = [] if self._open is None else self._end(self._open)
        self._hysteresis.reset()
        self._window.clear()
        self._here = None
        return messages

    def _start(self, here: Evidence) -> Event:
        over = [evidence for evidence in self._window if evidence is not None]
        self._top = max(over, key=_rank)
        started = over[0].frame.time
        self._open = self._describe(
            Event(
                type="new",
                id=self._ids.next(started),
                kind="anomaly",
                fault=None,
                message=None,
                camera=self._camera,
                start_time=iso_time(started),
                end_time=None,
            ),
            here,
            self._top,
        )
        self._told, self._untold, self._last_over = here.frame.monotonic, False, here.frame.time
        return self._open

    def _continue(self, event: Event, here: Evidence) -> list[Event]:
        if here.result is not None and here.result.anomalous:
            self._last_over = here.frame.time
            if self._top is None or _rank(here) > _rank(self._top):
                self._top, self._untold = here, True
        if not self._untold or here.frame.monotonic - self._told < self._rule.update_seconds:
            return []
        self._open = self._describe(replace(event, type="update"), here, self._top)
        self._told, self._untold = here.frame.monotonic, False
        return [self._open]

    def _end(self, event: Event) -> list[Event]:
        message = replace(event, type="end", end_time=iso_time(self._last_over))
        message = self._describe(message, self._here, self._top if self._untold else None)
        self._open = self._top = None
        return [message]

    @staticmethod
    def _describe(event: Event, here: Evidence | None, top: Evidence | None) -> Event:
        """The event with the score of the frame ``here``, and the picture of ``top`` where that is news."""
        if here is not None and here.result is not None:
            now = here.result
            event = replace(
                event,
                score=now.score,
                threshold=now.threshold,
                bundle=now.bundle,
                bank=now.bank,
                latency_ms=now.latency_ms,
            )
        if top is not None and top.result is not None:
            event = replace(event, top_score=top.result.score, regions=top.result.regions)
        return replace(event, evidence=top)


class CameraEvents:
    """Turns the faults of one camera into events, one for each fault while it lasts."""

    def __init__(self, camera: str | None, ids: EventIds) -> None:
        """Start with a camera without fault."""
        self._camera, self._ids = camera, ids
        self._open: dict[Fault, Event] = {}

    @property
    def open(self) -> tuple[Fault, ...]:
        """The faults that last."""
        return tuple(self._open)

    def update(self, faults: Mapping[Fault, str], time: datetime, frame: Frame | None = None) -> list[Event]:
        """Take the faults that there are now, each with a sentence; the messages that this brings.

        Args:
            faults: fault to sentence; empty for a camera in order.
            time: now, UTC.
            frame: the frame that shows the fault, where there is one.
        """
        ended = [
            replace(event, type="end", end_time=iso_time(time), evidence=None)
            for fault, event in self._open.items()
            if fault not in faults
        ]
        started = [
            Event(
                type="new",
                id=self._ids.next(time),
                kind="camera",
                fault=fault,
                message=message,
                camera=self._camera,
                start_time=iso_time(time),
                end_time=None,
                evidence=None if frame is None else Evidence(frame),
            )
            for fault, message in faults.items()
            if fault not in self._open
        ]
        self._open = {fault: event for fault, event in self._open.items() if fault in faults}
        for event in started:
            if event.fault is not None:
                self._open[event.fault] = event
        return [*ended, *started]

    def close(self, time: datetime) -> list[Event]:
        """End every fault that lasts."""
        return self.update({}, time)
