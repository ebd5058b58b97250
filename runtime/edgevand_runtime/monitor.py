"""Live detection: frames of a camera become verdicts, verdicts become events, both go to the sinks.

    source -> preprocess -> encode -> search -> judge -> health, hysteresis -> sinks, snapshots, view

``Lane`` is one camera with everything that has state; its methods are the steps of a frame. ``watch`` drives one
lane until something ends it; whatever that is, every open event gets its ``end``.

Two frames are under way at once: while the encoder works on one in a thread of its own, the lane finishes the one
before (search, verdict, health, sinks) and prepares the one after (read, decode, preprocess). Of a live source the
frame after is not taken before the encoder is about to be free, so that it waits for nothing and is the newest there
is; and where no newer frame has come, the lane waits for none but finishes the one under way at once.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from edgevand.errors import EndOfSourceError, FrameError, UsageError
from edgevand_runtime.camera_health import CameraHealth
from edgevand_runtime.events import AnomalyEvents, CameraEvents, EventIds, EventRule
from edgevand_runtime.frame import Frame, iso_time
from edgevand_runtime.stats import CameraStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future

    from edgevand_runtime.camera_health import Health
    from edgevand_runtime.engines import EncoderOutput
    from edgevand_runtime.events import Event, Fault
    from edgevand_runtime.live_view import View
    from edgevand_runtime.methods import RawScore
    from edgevand_runtime.preprocess import Prepared
    from edgevand_runtime.results import Result
    from edgevand_runtime.sinks import Sink, Snapshots
    from edgevand_runtime.sources import Source
    from edgevand_runtime.stop import Ending, Stop

__all__ = ["MONITOR_SCHEMA", "Detects", "Lane", "Limits", "Outputs", "summary", "warm_up", "watch"]

MONITOR_SCHEMA = "edgevand.monitor/1"

_LOG = logging.getLogger(__name__)
_WAIT = 0.2  # seconds that a read waits for a live frame: how soon a request to stop is heard


T = TypeVar("T")


class Detects(Protocol):
    """What a monitor needs of a detector; see ``Detector``. ``encode`` is called from a thread of its own."""

    def preprocess(self, frame: Frame) -> Prepared:
        """The frame as the encoder wants it."""

    def encode(self, tensors: Sequence[Prepared]) -> EncoderOutput:
        """What the encoder says of preprocessed frames."""

    def search(self, outputs: EncoderOutput) -> list[RawScore]:
        """Raw scores and maps of encoded frames."""

    def judge(self, frames: Sequence[Frame], found: Sequence[RawScore], started: float) -> list[Result]:
        """The verdict of each frame, whose work began at ``started``."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a monitor ends by itself: after so many seconds, after so many verdicts; None is never."""

    duration: float | None = None
    max_frames: int | None = None


@dataclass(slots=True)
class Outputs:
    """Where a lane's results and events go."""

    sinks: tuple[Sink, ...] = ()
    snapshots: Snapshots | None = None
    view: View | None = None
    _pictures: dict[str, str] = field(default_factory=dict)

    def result(self, result: Result) -> None:
        """Hand out a verdict."""
        for sink in self.sinks:
            sink.result(result)

    def event(self, event: Event) -> Event:
        """Draw the event's snapshot where it is news, and hand the event out."""
        if self.snapshots is not None and event.evidence is not None:
            path = self.snapshots.save(event.id, event.evidence)
            if path is not None:
                self._pictures[event.id] = str(path)
        ended = event.type == "end"
        event = replace(event, snapshot=self._pictures.pop(event.id, None) if ended else self._pictures.get(event.id))
        for sink in self.sinks:
            sink.event(event)
        if self.view is not None:
            self.view.event(event)
        return event

    def dropped(self) -> dict[str, int]:
        """What each sink could not deliver."""
        counts = {sink.name: sink.dropped for sink in self.sinks}
        if self.snapshots is not None:
            counts[self.snapshots.name] = self.snapshots.dropped
        return counts

    def close(self) -> None:
        """Close every sink."""
        for sink in self.sinks:
            sink.close()


@dataclass(frozen=True, slots=True)
class _Flight:
    """A frame that is with the encoder.

    Attributes:
        frame: the frame.
        outputs: what the encoder will have said, and the seconds that it took.
        since: when it was handed over, ``time.perf_counter()``.
        busy: seconds of work that went into it before.
    """

    frame: Frame
    outputs: Future[tuple[EncoderOutput, float]]
    since: float
    busy: float


class Lane:
    """One camera: its source, its detector, and the state of its health, its events and its counters."""

    def __init__(
        self,
        source: Source,
        detector: Detects,
        outputs: Outputs,
        *,
        camera: str,
        rule: EventRule | None = None,
        health: CameraHealth | None = None,
    ) -> None:
        """Put a lane together.

        Args:
            source: open source; the lane does not close it.
            detector: gives the verdicts.
            outputs: take them.
            camera: name for events and counters.
            rule: when an anomaly event starts and ends.
            health: knows the enrolled view; default: knows none.
        """
        ids = EventIds()
        self.source, self._detector, self._outputs = source, detector, outputs
        self.stats = CameraStats(camera, time.monotonic())
        self._anomalies = AnomalyEvents(camera, rule or EventRule(), ids)
        self._camera = CameraEvents(camera, ids)
        self._health = health or CameraHealth()
        self._fits = False  # a frame of the enrolled size was seen
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix=f"encoder {camera}")
        self._flight: _Flight | None = None
        self._ahead = 0.0  # seconds before the encoder is free at which the next frame is taken: what preparing takes

    @property
    def taken(self) -> int:
        """Frames that have a verdict or will have one."""
        return self.stats.scored + (self._flight is not None)

    def step(self) -> None:
        """Take the next frame and finish the one before it, or note that none came.

        Raises:
            EndOfSourceError: the source has ended; a frame may still be under way.
            UsageError: the first frame has another size than the bank's.
        """
        frame = self._read()
        self.stats.source = self.source.status()
        if frame is None:
            self.flush()
            self._wait(time.monotonic())
        elif self._health.fits(frame):
            self._fits = True
            started = time.perf_counter()
            tensor = self._timed("preprocess", self._detector.preprocess, frame)
            self._ahead = time.perf_counter() - started
            before = self._landed()
            future = self._encoder.submit(_timed_encode, self._detector, tensor)
            self._flight = _Flight(frame, future, time.perf_counter(), self._ahead)
            if before is not None:
                self._finish(*before)
        else:
            self.flush()
            self._refuse(frame)

    def flush(self) -> None:
        """Finish the frame that is under way, if any."""
        landed = self._landed()
        if landed is not None:
            self._finish(*landed)

    def close(self) -> None:
        """Finish what is under way and end every open event."""
        try:
            self.flush()
        finally:
            self._encoder.shutdown()
            self._publish([*self._anomalies.close(), *self._camera.close(_now())])

    def _read(self) -> Frame | None:
        """The next frame; of a live source, while one is under way, only what has come by the time it lands."""
        patience = _WAIT
        if self.source.live and self._flight is not None:
            expected = self.stats.stages["encode"].last if "encode" in self.stats.stages else 0.0
            left = expected / 1000 - self._ahead - (time.perf_counter() - self._flight.since)
            wait_for([self._flight.outputs], max(0.0, left))
            patience = 0.0
        try:
            return self._timed(None if self.source.live else "decode", self.source.read, patience)
        except FrameError as error:
            self.stats.unreadable += 1
            _LOG.warning("%s", error)
            return None

    def _timed(self, stage: str | None, work: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401 - any work
        """Do a stage's work and book its time; None is no stage."""
        started = time.perf_counter()
        done = work(*arguments)
        if stage is not None:
            self.stats.take_stage(stage, time.perf_counter() - started)
        return done

    def _landed(self) -> tuple[_Flight, EncoderOutput, float] | None:
        """Wait for the frame under way: what the encoder said of it and how long it took."""
        flight, self._flight = self._flight, None
        if flight is None:
            return None
        outputs, seconds = flight.outputs.result()
        self.stats.take_stage("encode", seconds)
        return flight, outputs, seconds

    def _finish(self, flight: _Flight, outputs: EncoderOutput, seconds: float) -> None:
        """From what the encoder said to events and sinks."""
        started = time.perf_counter()
        frame = flight.frame
        found = self._timed("search", self._detector.search, outputs)
        (result,) = self._timed("judge", self._detector.judge, [frame], found, started - flight.busy - seconds)
        health = self._timed("health", self._health.see, frame, self._clock(frame))
        self._timed("sinks", self._hand_out, frame, result, health)

    def _hand_out(self, frame: Frame, result: Result, health: Health) -> None:
        """Faults, verdict and anomalies of a frame, in this order."""
        self._settle(health.faults, frame)
        now = time.monotonic()
        self.stats.take(result, now - frame.monotonic, now)
        self._outputs.result(result)
        if health.trusted:
            self._publish(self._anomalies.update(result, frame))
        else:
            self.stats.withheld += 1

    def _refuse(self, frame: Frame) -> None:
        """A frame of another size than the enrolled ones cannot be scored."""
        faults = self._health.see(frame, self._clock(frame)).faults
        if not self._fits:
            raise UsageError(f"{frame.source}: {faults['resized']}; enrol this camera, or choose its own bank")
        self._settle(faults, frame)
        self.stats.resized += 1

    def _clock(self, frame: Frame) -> float | None:
        """Seconds on a clock that runs with the frames; None for pictures that are no stream."""
        return frame.monotonic if self.source.live else frame.media_time

    def _wait(self, now: float) -> None:
        """No frame came: a slow camera, or one that is lost."""
        status = self.stats.source
        if self.source.live and status is not None and not status.connected:
            health = self._health.missing(status.error or "the camera gives no frame", now)
            self._settle(health.faults, None)

    def _settle(self, faults: dict[Fault, str], frame: Frame | None) -> None:
        """Camera faults become events; with a fault an open anomaly cannot be followed any more and ends."""
        ended = self._anomalies.close() if faults else []
        self._publish([*ended, *self._camera.update(faults, _now(), frame)])

    def _publish(self, events: Iterable[Event]) -> None:
        for event in events:
            self.stats.follow_event(self._outputs.event(event))


def _timed_encode(detector: Detects, tensor: Prepared) -> tuple[EncoderOutput, float]:
    """Encode one frame; runs in the encoder's thread."""
    started = time.perf_counter()
    return detector.encode([tensor]), time.perf_counter() - started


def watch(lane: Lane, view: View | None, limits: Limits, stop: Stop) -> Ending:
    """Drive a lane until a limit, a request to stop or the end of its source; open events are ended in any case."""
    try:
        while True:
            why = stop.why or _reached(lane, limits)
            if why is not None:
                return why
            lane.step()
            if view is not None:
                view.show(lane.stats)
    except EndOfSourceError:
        return "end-of-source"
    finally:
        lane.close()
        if view is not None:
            view.show(lane.stats, last=True)


def warm_up(detector: Detects, size: tuple[int, int]) -> None:
    """Score one black frame of (width, height), so that the first real one does not pay for first-use work."""
    black = np.zeros((size[1], size[0], 3), np.uint8)
    frame = Frame(black, 0, "warm-up", _now(), time.monotonic())
    outputs = detector.encode([detector.preprocess(frame)])
    detector.judge([frame], detector.search(outputs), time.perf_counter())


def summary(lane: Lane, outputs: Outputs, why: Ending) -> dict[str, Any]:
    """The run as one JSON document, ``edgevand.monitor/1``; percentiles are of the last 1000 frames."""
    stats, status = lane.stats, lane.source.status()
    seconds = time.monotonic() - stats.started
    return {
        "schema": MONITOR_SCHEMA,
        "camera": stats.camera,
        "source": lane.source.uri,
        "bundle": stats.last.bundle if stats.last else None,
        "bank": stats.last.bank if stats.last else None,
        "calibration": stats.last.calibration if stats.last else None,
        "ended": iso_time(_now()),
        "reason": why,
        "seconds": round(seconds, 3),
        "frames": status.frames,
        "scored": stats.scored,
        "anomalous": stats.anomalous,
        "withheld": stats.withheld,
        "dropped": status.dropped,
        "unreadable": stats.unreadable,
        "resized": stats.resized,
        "reconnects": status.reconnects,
        "stalls": status.stalls,
        "camera_fps": _rounded(status.fps),
        "process_fps": _rounded(stats.scored / seconds if seconds > 0 else None),
        "latency_ms": _percentiles(stats.latency.read(50, 95, 99)),
        "age_ms": _percentiles(stats.age.read(50, 95, 99)),
        "interval_ms": _rounded(1000 / status.fps if status.fps else None),
        "stages_ms": {name: _percentiles(stage.read(50, 95, 99)) for name, stage in stats.stages.items()},
        "events": {
            "anomaly": stats.events["anomaly"],
            "camera": {fault: count for fault, count in sorted(stats.events.items()) if fault != "anomaly"},
        },
        "sink_dropped": outputs.dropped(),
    }


def _reached(lane: Lane, limits: Limits) -> Ending | None:
    if limits.max_frames is not None and lane.taken >= limits.max_frames:
        return "max-frames"
    if limits.duration is not None and time.monotonic() - lane.stats.started >= limits.duration:
        return "duration"
    return None


def _percentiles(values: tuple[float, ...] | None) -> dict[str, float] | None:
    return None if values is None else dict(zip(("p50", "p95", "p99"), (round(v, 2) for v in values), strict=True))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _now() -> datetime:
    return datetime.now(timezone.utc)
