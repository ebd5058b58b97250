from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgevand.errors import EndOfSourceError, SourceError
from edgevand_runtime.sources.live import LiveSource, Patience

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

QUICK = Patience(open=5, read=60, first_retry=0.01, longest_retry=0.04)
HASTY = Patience(open=0.2, read=0.2, first_retry=0.01, longest_retry=0.04, diagnosis=0.1)


class Script:
    """A connection that delivers what the test says, when the test says so."""

    def __init__(self) -> None:
        """Hold back everything."""
        self.permits = threading.Semaphore(0)
        self.released = threading.Event()
        self.lost = False
        self.number = 0
        self.end = False

    def read(self) -> NDArray[np.uint8] | None:
        """Wait for the test's leave."""
        self.permits.acquire()
        if self.end:
            raise EndOfSourceError
        if self.lost:
            return None
        self.number += 1
        return np.full((4, 6, 3), self.number, np.uint8)

    def release(self) -> None:
        """Note it."""
        self.released.set()

    def send(self, frames: int = 1) -> None:
        """Let frames through."""
        self.permits.release(frames)

    def lose(self) -> None:
        """Break the connection."""
        self.lost = True
        self.permits.release()


def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds; fail after a time that only a dead thread needs."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.002)


def opened(script: Script, connect: Callable[[], Script] | None = None, patience: Patience = QUICK) -> LiveSource:
    """A source whose first frame (number 1) has arrived."""
    script.send()
    return LiveSource("cam", connect or (lambda: script), patience)


def test_the_newest_frame_wins_and_the_others_are_counted() -> None:
    script = Script()
    with opened(script) as source:
        script.send(9)
        until(lambda: source.status().frames == 10)
        frame = source.read()
        assert frame is not None
        assert (frame.index, frame.image[0, 0, 0]) == (9, 10)
        assert source.status().dropped == 9
        assert source.read(timeout=0.01) is None
        assert source.live
        script.send()
        frame = source.read()
        assert frame is not None
        assert frame.index == 10


def test_a_frame_knows_when_it_was_grabbed() -> None:
    script = Script()
    with opened(script) as source:
        before = time.monotonic()
        script.send()
        until(lambda: source.status().frames == 2)
        after = time.monotonic()
        time.sleep(0.05)
        frame = source.read()
        assert frame is not None
        assert before <= frame.monotonic <= after
        assert frame.time.tzinfo is not None


def test_an_outage_is_seen_and_waited_out_with_growing_pauses_and_the_numbers_go_on() -> None:
    first, second = Script(), Script()
    attempts: list[float] = []

    def connect() -> Script:
        attempts.append(time.monotonic())
        if len(attempts) == 1:
            return first
        if len(attempts) < 6:
            raise SourceError(f"Attempt {len(attempts)} was refused.")
        return second

    with opened(first, connect=connect) as source:
        source.read()
        assert source.status().connected
        came_up = source.status().changed
        first.lose()
        until(lambda: len(attempts) >= 5)
        status = source.status()
        assert not status.connected
        assert status.changed > came_up
        assert status.reconnects == 0
        assert status.error is not None
        until(lambda: "refused" in str(source.status().error) or len(attempts) > 5)
        assert first.released.is_set()
        second.send()
        frame = source.read()
        assert frame is not None
        assert frame.index == 1
        status = source.status()
        assert (status.connected, status.reconnects, status.error) == (True, 1, None)
    pauses = np.diff(attempts)
    # At least the prescribed pause each: 0.01, doubled, up to 0.04.
    assert all(pause >= wanted for pause, wanted in zip(pauses, (0.01, 0.02, 0.04, 0.04, 0.04), strict=True))


def test_silence_counts_as_a_stall_and_shows_while_the_driver_still_waits() -> None:
    script = Script()
    with opened(script, patience=HASTY) as source:
        source.read()
        until(lambda: not source.status().connected)
        status = source.status()
        assert "sent none for" in str(status.error)
        script.lose()
        until(lambda: source.status().stalls == 1)


def test_a_stream_that_ends_as_it_was_meant_to_is_no_outage() -> None:
    script = Script()
    with opened(script) as source:
        source.read()
        script.end = True
        script.send()
        with pytest.raises(EndOfSourceError):
            source.read(timeout=10)
        status = source.status()
        assert (status.error, status.reconnects, status.connected) == (None, 0, False)


def test_a_source_that_cannot_be_opened_says_why_at_once() -> None:
    def connect() -> Script:
        raise SourceError("The camera said no.")

    with pytest.raises(SourceError, match="The camera said no"):
        LiveSource("cam", connect, QUICK)


def test_a_source_that_sends_no_first_frame_is_given_up() -> None:
    script = Script()
    with pytest.raises(SourceError, match="sent none for"):
        LiveSource("rtsp://user:secret@cam/1", lambda: script, HASTY)
    script.send()
    assert script.released.wait(10)


def test_close_returns_while_the_driver_hangs_and_the_driver_is_let_go_later() -> None:
    script = Script()
    source = opened(script)
    waiting = threading.Thread(target=lambda: list(source))
    source.read()
    waiting.start()
    source.close()
    source.close()
    waiting.join(10)
    assert not waiting.is_alive()
    assert not script.released.is_set()
    script.send()
    assert script.released.wait(10)
    with pytest.raises(EndOfSourceError):
        source.read()


def test_readers_do_not_wait_for_ever_when_a_driver_fails_in_an_unforeseen_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    script = Script()
    with opened(script) as source:
        source.read()
        monkeypatch.setattr(Script, "read", lambda self: 1 / 0)
        script.send()
        until(lambda: source.status().frames == 2)
        source.read()
        with pytest.raises(EndOfSourceError):
            source.read(timeout=10)
    assert seen


def test_a_password_is_in_nothing_that_a_live_source_shows() -> None:
    script = Script()
    script.send()
    with LiveSource("rtsp://user:secret@cam/1", lambda: script, QUICK) as source:
        frame = source.read()
        assert frame is not None
        shown = f"{source.uri} {frame.source} {source.status()} {threading.enumerate()}"
    assert "secret" not in shown
    assert "user:***@cam" in shown
