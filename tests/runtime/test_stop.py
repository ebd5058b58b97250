"""One signal asks a monitor to end, a second one ends it at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from edgevand_runtime.stop import Stop, stop_on_signals
from tests.runtime.streams import wait_until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("number", "why"),
    [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated"), (signal.SIGHUP, "terminated")],
)
def test_a_signal_asks_for_the_end_and_the_old_handler_is_put_back(number: signal.Signals, why: str) -> None:
    before = signal.getsignal(number)
    stop = Stop()
    with stop_on_signals(stop):
        signal.raise_signal(number)
        assert stop.why == why
    assert signal.getsignal(number) is before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = Stop()
        with stop_on_signals(stop):
            signal.raise_signal(signal.SIGHUP)
            assert stop.why is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path, repository: Path) -> None:
    """The process hangs in its work and would never look at the request."""
    ready, asked = tmp_path / "ready", tmp_path / "asked"
    program = (
        "import sys, time, pathlib; sys.path.insert(0, 'runtime'); sys.path.insert(0, '.')\n"
        "from edgevand_runtime.stop import Stop, stop_on_signals\n"
        "stop = Stop()\n"
        "with stop_on_signals(stop):\n"
        f"    pathlib.Path({str(ready)!r}).touch()\n"
        "    while True:\n"
        "        time.sleep(0.05)\n"
        f"        stop.why and pathlib.Path({str(asked)!r}).touch()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=repository) as process:
        wait_until(ready.exists, 30, "the start")
        process.send_signal(signal.SIGINT)
        wait_until(asked.exists, 30, "the first signal")
        time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
