"""A process that forks writers for the crash tests: one line on standard input starts one, its pid is printed.

Imports are paid once here, so that a test can start and kill a hundred writers in seconds. A line is JSON:
``{"job": name, "path": directory, "die_at": n}``; with ``die_at`` the writer kills itself (SIGKILL) before its n-th
change of a name, without it the writer goes on until it is killed or has finished.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from edgevand import staging
from edgevand.bank import undo_bank
from edgevand.bundle import Bundle
from edgevand.staging import staged_directory, write_atomic
from tests.core.builders import make_bank

if TYPE_CHECKING:
    from collections.abc import Callable

NAME_EVENTS = {"os.mkdir", "os.rename", "os.link", "os.rmdir", "ctypes.dlopen"}
FILES = 5


def fill(folder: Path, number: int) -> None:
    """Files that all hold the same number, so that a mixture of two writes is seen."""
    (folder / "sub").mkdir()
    for index in range(FILES):
        (folder / "sub" / f"{index}").write_text(f"{number}\n" * 2000)
    (folder / "last").write_text(str(number))


def first(path: Path) -> None:
    """Write a directory that is not there yet."""
    with staged_directory(path) as place:
        fill(place, 1)


def replace(path: Path) -> None:
    """Replace a directory once."""
    with staged_directory(path, replace=True) as place:
        fill(place, 1)


def replace_in_two_steps(path: Path) -> None:
    """Replace a directory once on a system that cannot swap two names."""
    staging._exchange = lambda one, other: False
    replace(path)


def replace_on_and_on(path: Path) -> None:
    """Replace a directory until killed."""
    for number in itertools.count(1):
        with staged_directory(path, replace=True) as place:
            fill(place, number)


def replace_on_and_on_in_two_steps(path: Path) -> None:
    """The same where two names cannot be swapped."""
    staging._exchange = lambda one, other: False
    replace_on_and_on(path)


def file_on_and_on(path: Path) -> None:
    """Replace one file until killed."""
    for number in itertools.count(1):
        write_atomic(path, f"{number}\n".encode() * 20000)


def bank(path: Path) -> None:
    """Enrol again once."""
    make_bank(path, Bundle.open(path.parent / "bundle"), seed=1, replace=True)


def undo(path: Path) -> None:
    """Undo once."""
    undo_bank(path)


def banks_on_and_on(path: Path) -> None:
    """Enrol again twice and undo once, until killed."""
    bundle = Bundle.open(path.parent / "bundle")
    for number in itertools.count(1):
        make_bank(path, bundle, seed=number, replace=True)
        make_bank(path, bundle, seed=1000 + number, replace=True)
        undo_bank(path)


JOBS: dict[str, Callable[[Path], None]] = {
    job.__name__: job
    for job in (
        first,
        replace,
        replace_in_two_steps,
        replace_on_and_on,
        replace_on_and_on_in_two_steps,
        file_on_and_on,
        bank,
        undo,
        banks_on_and_on,
    )
}


def die_before(operation: int) -> None:
    """Kill this process before its n-th change of a name (for the swap: before libc is loaded); nothing is flushed."""
    count = itertools.count(1)

    def hook(event: str, _: object) -> None:
        if event in NAME_EVENTS and next(count) == operation:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = lambda descriptor: None  # type: ignore[assignment]
    sys.addaudithook(hook)


def main() -> None:
    """Fork a writer for each line, say its pid, wait for it, say how it ended."""
    for line in sys.stdin:
        task = json.loads(line)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                if task["die_at"]:
                    die_before(task["die_at"])
                JOBS[task["job"]](Path(task["path"]))
                status = 0
            except Exception:  # noqa: BLE001 - a fork must not return into the parent's loop
                traceback.print_exc()
            finally:
                os._exit(status)
        print(pid, flush=True)  # noqa: T201 - the answer
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
