"""Live sources: an own thread takes every frame, the newest wins, and an outage is waited out for ever."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevand.errors import EndOfSourceError, SourceError
from edgevand_runtime.sources.base import Source, SourceStatus, new_frame
from edgevand_runtime.sources.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from edgevand_runtime.frame import Frame
    from edgevand_runtime.sources.capture import Capture

__all__ = ["NETWORK_REMEDY", "PIPELINE_REMEDY", "LiveSource", "Patience"]

NETWORK_REMEDY = "check the camera, its address and the network"
PIPELINE_REMEDY = "try the pipeline with gst-launch-1.0 and check the camera"

_CLOSE_SECONDS = 0.5
_FPS_MEMORY = 0.9


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a live source waits for what, in seconds.

    Attributes:
        open: for the first frame, when the source is opened.
        read: for a next frame, before the connection counts as lost.
        first_retry: before the first attempt to connect again; doubled after each failure.
        longest_retry: the most that lies between two attempts.
        diagnosis: for finding out why a connection was refused; comes on top of ``open``.
    """

    open: float = 10.0
    read: float = 10.0
    first_retry: float = 0.5
    longest_retry: float = 30.0
    diagnosis: float = 3.0


class LiveSource(Source):
    """A camera or stream. Frames are numbered as they arrive, dropped ones included, and over outages."""

    live = True

    def __init__(
        self, uri: str, connect: Callable[[], Capture], patience: Patience, remedy: str = NETWORK_REMEDY
    ) -> None:
        """Connect and wait for the first frame.

        Args:
            uri: what the person gave; kept without its password.
            connect: makes a new connection, or raises SourceError with the reason; called again after each outage.
            patience: how long to wait for what.
            remedy: what the person can do about silence, the end of a sentence.

        Raises:
            SourceError: no connection, or no frame in time.
        """
        self.uri = redact(uri)
        self._connect = connect
        self._patience = patience
        self._remedy = remedy
        self._change = threading.Condition()
        self._closing = threading.Event()
        # All below is written under the condition's lock.
        self._slot: Frame | None = None
        self._ended = False
        self._status = _State()
        self._thread = threading.Thread(target=self._run, name=f"source {self.uri}", daemon=True)
        self._thread.start()
        self._await_first_frame()

    def read(self, timeout: float | None = None) -> Frame | None:
        """See ``Source.read``."""
        with self._change:
            self._change.wait_for(lambda: self._slot is not None or self._ended, timeout)
            if self._slot is not None and not self._closing.is_set():
                frame, self._slot = self._slot, None
                return frame
            if self._ended:
                raise EndOfSourceError(self.uri)
            return None

    def status(self) -> SourceStatus:
        """See ``Source.status``; a camera that is silent for longer than its read timeout is not connected."""
        with self._change:
            state = self._status
            silence = time.monotonic() - state.last if state.connected else 0.0
            hung = silence > self._patience.read
            return SourceStatus(
                connected=state.connected and not hung and not self._ended,
                frames=state.frames,
                dropped=state.dropped,
                reconnects=state.reconnects,
                stalls=state.stalls,
                error=self._silent(silence) if hung else state.error,
                size=state.size,
                fps=1 / state.interval if state.interval else None,
                changed=state.last + self._patience.read if hung else state.changed,
            )

    def close(self) -> None:
        """See ``Source.close``; a thread that is stuck in a driver lets go of it when the driver returns."""
        self._closing.set()
        with self._change:
            self._end()
        if threading.current_thread() is not self._thread:
            self._thread.join(_CLOSE_SECONDS)

    def _await_first_frame(self) -> None:
        """Return when the first frame is there."""
        patience = self._patience
        with self._change:
            self._change.wait_for(
                lambda: self._status.frames > 0 or self._ended, patience.open + patience.diagnosis + 1
            )
            arrived, error = self._status.frames > 0, self._status.error
        if not arrived:
            self.close()
            raise SourceError(error or self._silent(patience.open))

    def _run(self) -> None:
        """The thread: connect, take frames, wait, and again until closed."""
        delay = self._patience.first_retry
        try:
            while not self._closing.is_set():
                before = self._status.frames
                try:
                    capture = self._connect()
                except SourceError as error:
                    self._lost(str(error))
                else:
                    self._take_frames(capture)
                if self._status.frames > before:
                    delay = self._patience.first_retry
                elif before == 0:
                    return
                self._closing.wait(delay)
                delay = min(2 * delay, self._patience.longest_retry)
        except EndOfSourceError:
            pass
        finally:  # also where a driver raises what nobody foresaw: readers must not wait for ever
            with self._change:
                self._end()

    def _take_frames(self, capture: Capture) -> None:
        """Publish frames until the connection is lost or the source closed."""
        try:
            last = time.monotonic()
            while not self._closing.is_set():
                image = capture.read()
                if self._closing.is_set():
                    return
                if image is None:
                    silence = time.monotonic() - last
                    stalled = silence >= 0.8 * self._patience.read
                    self._lost(self._silent(silence) if stalled else self._broken(), stalled=stalled)
                    return
                last = time.monotonic()
                self._publish(image)
        finally:
            capture.release()

    def _publish(self, image: NDArray[np.uint8]) -> None:
        """Put a frame into the slot in place of an older one."""
        with self._change:
            state = self._status
            state.started = state.started if state.frames else time.monotonic()
            frame = new_frame(image, state.frames, self.uri, time.monotonic() - state.started)
            if not state.connected:
                state.reconnects += state.frames > 0
                state.connected, state.error, state.changed = True, None, frame.monotonic
            else:
                interval = frame.monotonic - state.last
                state.interval = _FPS_MEMORY * (state.interval or interval) + (1 - _FPS_MEMORY) * interval
            state.dropped += self._slot is not None
            state.frames += 1
            state.last, state.size = frame.monotonic, frame.size
            self._slot = frame
            self._change.notify_all()

    def _lost(self, error: str, *, stalled: bool = False) -> None:
        """Note an outage, or a failed attempt to end it."""
        with self._change:
            state = self._status
            state.stalls += stalled
            state.error = error
            if state.connected:
                state.connected, state.changed = False, time.monotonic()
            self._change.notify_all()

    def _end(self) -> None:
        """Nothing more will come. Called with the lock held."""
        if not self._ended:
            self._ended = True
            if self._status.connected:
                self._status.connected, self._status.changed = False, time.monotonic()
        self._change.notify_all()

    def _silent(self, seconds: float) -> str:
        """The sentence for a source that hangs."""
        return f"The source {self.uri} was expected to send frames but sent none for {seconds:.0f} s: {self._remedy}."

    def _broken(self) -> str:
        """The sentence for a connection that ended."""
        return (
            f"The source {self.uri} was expected to go on but the stream ended or the connection broke: "
            "check the camera and the network; connecting again."
        )


class _State:
    """The mutable twin of SourceStatus."""

    def __init__(self) -> None:
        self.connected = False
        self.frames = self.dropped = self.reconnects = self.stalls = 0
        self.error: str | None = None
        self.size: tuple[int, int] | None = None
        self.interval: float | None = None
        self.started = self.changed = self.last = time.monotonic()
