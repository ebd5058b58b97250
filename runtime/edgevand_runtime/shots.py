"""Taking shots: which frames of a source are enrolled, and why others are not.

Frames come in order; the first k that pass the checks are taken. Near-copies of a frame already taken are held in
reserve: a scene that stands still is no error, so they are taken when nothing else comes, and share a group with
what they copy, which counts once in calibration.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgevand.errors import BadInputError, EndOfSourceError, FrameError, SourceError
from edgevand_runtime.quality import NEAR_COPY, Look, Refusal, blurred, exposure_fault, look_at, nearest_look

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgevand_runtime.frame import Frame
    from edgevand_runtime.sources import Source

__all__ = ["STREAM_INTERVAL", "RefusedFrame", "Shot", "ShotTaker"]

STREAM_INTERVAL = 0.5
"""Default seconds between two frames taken from a video or camera."""

_PATIENCE = 3
"""On a stream, near-copies are taken once this many times the wanted shots have been looked at."""

_LIMIT = 10
"""A stream is given up after this many times the wanted shots have been looked at."""

_SILENCE = 10.0
"""Seconds without a frame after which a live source counts as dead."""


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A frame that was taken."""

    frame: Frame
    look: Look
    group: int


@dataclass(frozen=True, slots=True, eq=False)
class RefusedFrame:
    """A frame that was not taken; ``frame`` is None where it could not even be read."""

    source: str
    index: int
    reason: str
    frame: Frame | None


@dataclass(slots=True)
class ShotTaker:
    """Goes through a source until enough shots are taken.

    Attributes:
        source: an open source; the caller closes it.
        interval: least seconds between two frames looked at, on videos and live sources.
        check: further refusals of the caller, such as a frame of another size; gives a Refusal or None.
        told: called with every Shot and RefusedFrame as it is decided.
        known: looks and groups of frames enrolled before (``--append``).
    """

    source: Source
    interval: float
    check: Callable[[Frame], Refusal | None]
    told: Callable[[Shot | RefusedFrame], None]
    known: Sequence[tuple[Look, int]] = ()
    shots: list[Shot] = field(default_factory=list)
    refused: list[RefusedFrame] = field(default_factory=list)
    seen: int = 0
    skipped: int = 0
    """Frames passed over for too little spacing."""
    _reserve: list[tuple[Frame, Look]] = field(default_factory=list)
    _last: float | None = None
    _ended: bool = False

    def take(self, count: int | None) -> None:
        """Take shots until there are ``count``, the source ends, or patience does; near-copies fill what is missing.

        Raises:
            SourceError: a live source fell silent.
        """
        while not self._ended and not self._enough(count):
            self._next()
        if count is None or self._ended or self._patient_enough(count):
            while self._reserve and (count is None or len(self.shots) < count):
                self._take_copy(*self._reserve.pop(0))

    def refuse(self, shot: Shot, refusal: Refusal) -> None:
        """Give back a shot that turned out unfit beside the others."""
        self.shots.remove(shot)
        self._refused(shot.frame.source, shot.frame.index, str(refusal), shot.frame)

    def _enough(self, count: int | None) -> bool:
        return count is not None and (len(self.shots) >= count or self._patient_enough(count))

    def _patient_enough(self, count: int) -> bool:
        """Whether a stream has been watched long enough to fall back on near-copies, or to be given up."""
        if self.seen == 0 or self._last is None:
            return False
        filled = len(self.shots) + len(self._reserve) >= count
        return (filled and self.seen >= _PATIENCE * count) or self.seen >= _LIMIT * count

    def _next(self) -> None:
        """Look at one further frame."""
        try:
            frame = self._read()
        except EndOfSourceError:
            self._ended = True
            return
        except FrameError as error:
            self.seen += 1
            self._refused(error.source, self.source.status().frames - 1, f"unreadable: {error}")
            return
        if frame.media_time is not None:
            if self._last is not None and frame.media_time - self._last < self.interval:
                self.skipped += 1
                return
            self._last = frame.media_time
        self.seen += 1
        look = look_at(frame.image)
        refusal = self.check(frame) or exposure_fault(look) or blurred(look, [shot.look for shot in self.shots])
        if refusal is not None:
            self._refused(frame.source, frame.index, str(refusal), frame)
            return
        near = nearest_look(look, [other for other, _ in self._looks()])
        if near is not None and near[1] < NEAR_COPY:
            self._reserve.append((frame, look))
            return
        groups = [group for _, group in self._looks()]
        self._taken(Shot(frame, look, max(groups, default=-1) + 1))

    def _read(self) -> Frame:
        deadline = time.monotonic() + _SILENCE
        while True:
            frame = self.source.read(timeout=1.0)
            if frame is not None:
                return frame
            if time.monotonic() > deadline:
                reason = self.source.status().error or "it is open but sends nothing"
                message = (
                    f"expected a frame of {self.source.uri} within {_SILENCE:.0f} s, found none ({reason}); check the "
                    "camera."
                )
                raise SourceError(message)

    def _looks(self) -> list[tuple[Look, int]]:
        return [*self.known, *((shot.look, shot.group) for shot in self.shots)]

    def _take_copy(self, frame: Frame, look: Look) -> None:
        looks = self._looks()
        near = nearest_look(look, [other for other, _ in looks])
        if near is None:  # what it copied was given back meanwhile
            self._taken(Shot(frame, look, 0))
            return
        self._taken(Shot(frame, look, looks[near[0]][1]))

    def _taken(self, shot: Shot) -> None:
        self.shots.append(shot)
        self.told(shot)

    def _refused(self, source: str, index: int, reason: str, frame: Frame | None = None) -> None:
        refusal = RefusedFrame(source, index, reason, frame)
        self.refused.append(refusal)
        self.told(refusal)

    def leave_copies(self) -> None:
        """Refuse the near-copies that were not needed."""
        for frame, look in self._reserve:
            near = nearest_look(look, [other for other, _ in self._looks()])
            difference = 0.0 if near is None else near[1]
            word = "repeated frame" if difference == 0 else "near-copy"
            refusal = Refusal(word, difference, NEAR_COPY, "difference in grey levels")
            self._refused(frame.source, frame.index, str(refusal), frame)
        self._reserve.clear()

    def nothing_taken(self) -> BadInputError:
        """The error for a source of which no frame could be taken."""
        if not self.refused:
            return BadInputError(f"expected frames to enrol in {self.source.uri}, found none; give another source.")
        return BadInputError(
            f"expected at least one usable frame in {self.source.uri}, but all {len(self.refused)} were refused "
            f"(the first: {self.refused[0].reason}); mend the picture or give other frames."
        )
