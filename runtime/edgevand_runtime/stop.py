"""How a monitor is asked to end: by Ctrl-C, SIGTERM or SIGHUP once, or by another thread; twice is at once."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["Ending", "Stop", "stop_on_signals"]

Ending = Literal["duration", "max-frames", "end-of-source", "interrupted", "terminated"]

_SIGNALS: dict[str, Ending] = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "terminated"}
_LEAVE_SCREEN = "\x1b[?1049l\x1b[?25h"


@dataclass(slots=True)
class Stop:
    """A request to end, looked at between frames. A plain flag: a signal handler must not wait for a lock."""

    why: Ending | None = None


@contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """Within, the first signal asks ``stop``, a second one ends the process at once with 128 + its number.

    A signal that is ignored on entry (``nohup``) stays ignored. To be used on the main thread.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.why is not None:
            if sys.stderr.isatty():  # a live view has the alternate screen and hides the cursor
                os.write(sys.stderr.fileno(), _LEAVE_SCREEN.encode())
            os._exit(128 + number)
        stop.why = _SIGNALS[signal.Signals(number).name]

    before = {}
    for name in _SIGNALS:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
