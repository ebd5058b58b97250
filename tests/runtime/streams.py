"""Frames and verdicts out of thin air, for tests of what happens behind the detector."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand.errors import EdgevandError, EndOfSourceError
from edgevand_runtime.engines import EncoderOutput
from edgevand_runtime.frame import Frame, iso_time
from edgevand_runtime.methods import RawScore
from edgevand_runtime.results import Region, Result
from edgevand_runtime.sources.base import Source, SourceStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.events import Event
    from edgevand_runtime.preprocess import Prepared

EPOCH = datetime(2026, 11, 21, 20, 18, tzinfo=timezone.utc)
FPS = 10.0


def make_frame(index: int, image: NDArray[np.uint8] | None = None, *, media: bool = True) -> Frame:
    """The frame that a 10 fps camera takes as its ``index``-th; without an image noise that differs each time."""
    if image is None:
        image = np.random.default_rng(index).integers(60, 200, (48, 64, 3), dtype=np.uint8)
    at = index / FPS
    return Frame(image, index, "test://frames", EPOCH + timedelta(seconds=at), 1000.0 + at, at if media else None)


def make_result(frame: Frame, score: float | None, camera: str | None = "line-1") -> Result:
    """A verdict with this calibrated score; None is an uncalibrated one."""
    over = None if score is None else score > 0.5
    region = (Region(x=1, y=2, w=3, h=4, area=10, peak=0.9),) if over else ()
    return Result(
        source=frame.source,
        camera=camera,
        frame=frame.index,
        time=iso_time(frame.time),
        text_score=None,
        map_max=1.0,
        raw_score=2.0 if score is None else score * 4,
        score=score,
        threshold=None if score is None else 0.5,
        calibration="none" if score is None else "extrapolated",
        p_value=None,
        anomalous=over,
        regions=region,
        latency_ms=12.0,
        method="april-gan",
        bundle="sha256:" + "1" * 64,
        bank="sha256:" + "2" * 64,
        engine="fake",
        precision="fp32",
        raw_map=np.full((8, 8), 0.5 if score is None else score, np.float32),
        map_threshold=None if score is None else 0.5,
    )


class ScriptedDetector:
    """Gives the frame with index i the i-th score."""

    def __init__(self, score: Callable[[int], float | None]) -> None:
        """Remember the script."""
        self._score = score
        self.seen: list[int] = []

    def preprocess(self, frame: Frame) -> NDArray[np.float32]:
        """See ``Detector.preprocess``; the frame's index is all that is left of it."""
        self.seen.append(frame.index)
        return np.full(1, frame.index, np.float32)

    def encode(self, tensors: Sequence[Prepared]) -> EncoderOutput:
        """See ``Detector.encode``."""
        return EncoderOutput(np.stack([np.asarray(tensor) for tensor in tensors]), (), ())

    def search(self, outputs: EncoderOutput) -> list[RawScore]:
        """See ``Detector.search``: the script's score."""
        found = [self._score(int(index)) for index in outputs.embedding[:, 0]]
        return [RawScore(None, None, None, -1.0 if score is None else score) for score in found]

    def judge(self, frames: Sequence[Frame], found: Sequence[RawScore], started: float) -> list[Result]:
        """See ``Detector.judge``."""
        scores = [None if raw.raw_score < 0 else raw.raw_score for raw in found]
        return [make_result(frame, score) for frame, score in zip(frames, scores, strict=True)]


class ScriptedSource(Source):
    """Hands out a script: frames, errors (raised), or a status (no frame came, and this is why)."""

    uri = "test://script"

    def __init__(self, script: Iterable[Frame | EdgevandError | SourceStatus], *, live: bool = False) -> None:
        """Remember the script."""
        self._script = iter(script)
        self._status = SourceStatus(connected=True)
        self.live = live

    def read(self, timeout: float | None = None) -> Frame | None:
        """The next entry of the script."""
        entry = next(self._script, None)
        if entry is None:
            raise EndOfSourceError(self.uri)
        if isinstance(entry, SourceStatus):
            self._status = entry
            return None
        count = self._status.frames + 1
        self._status = SourceStatus(connected=True, frames=count, fps=FPS, reconnects=self._status.reconnects)
        if isinstance(entry, EdgevandError):
            raise entry
        return entry

    def status(self) -> SourceStatus:
        """Connected, but where the script says otherwise."""
        return self._status

    def close(self) -> None:
        """Nothing is held."""


class Recorder:
    """A sink that remembers."""

    name = "recorder"
    dropped = 0

    def __init__(self) -> None:
        """Start empty."""
        self.results: list[Result] = []
        self.events: list[dict[str, Any]] = []
        self.closed = False

    def result(self, result: Result) -> None:
        """Remember a result."""
        self.results.append(result)

    def event(self, event: Event) -> None:
        """Remember an event's JSON."""
        self.events.append(event.to_json())

    def close(self) -> None:
        """Remember the end."""
        self.closed = True


def wait_until(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for something that another process or thread does; the limit only bounds a failure."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not happen within {seconds} s")
        time.sleep(0.05)
