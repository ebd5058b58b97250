"""A process that forks trainings for the crash tests: one JSON line of options starts one.

Imports are paid once here. It answers with the training's pid, ``begin`` before its first step, and its exit code.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

from edgevand_export.training.run import TrainOptions, train
from tests.export.training.workshop import Silent


class Told(Silent):
    """Says when the first step is about to begin."""

    def begin(self, done: int, total: int) -> None:
        print("begin", flush=True)  # noqa: T201 - the answer


def main() -> None:
    """Fork a training for each line, wait for it, say how it ended."""
    for line in sys.stdin:
        fields = json.loads(line)
        paths = {name: Path(fields[name]) for name in ("output", "data")}
        options = TrainOptions(**{**fields, **paths, "settings": tuple(fields["settings"])})
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                print(os.getpid(), flush=True)  # noqa: T201 - the answer
                train(options, Told())
                status = 0
            except Exception:  # noqa: BLE001 - a fork must not return into the parent's loop
                traceback.print_exc()
            finally:
                os._exit(status)
        print(f"end {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}", flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
