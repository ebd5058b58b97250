"""The report's directory while a run is under way: what is finished stays, what is not leaves nothing behind.

``REPORT/.work/`` holds ``identity.json`` (what the run is about), one file for each finished class, written whole, and
the maps of the class that is being judged. A killed run is taken up by ``--resume`` at the first class that has no
file. The folder goes when the report is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgevand.errors import OutputError, UsageError
from edgevand.files import output_error, read_limited, write_atomic
from edgevand.records import parse_json
from edgevand.staging import is_filled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from typing_extensions import Self

__all__ = ["MAX_REPORT", "Work", "differing"]

MAX_REPORT = 1 << 30
"""Bytes of a report that are read."""


class Work:
    """One run's folder; hold it with ``with``, so that no second run writes there meanwhile."""

    def __init__(self, target: Path, identity: Mapping[str, Any], *, resume: bool) -> None:
        """Make the folder, or take up what an earlier run left in it.

        Args:
            target: directory of the report.
            identity: what decides the figures; an earlier run's must be the same.
            resume: whether there may be an earlier run.

        Raises:
            OutputError: something is there already, or nothing can be written there.
            UsageError: the earlier run was about something else.
        """
        self.target = target
        self.folder = target / ".work"
        file = self.folder / "identity.json"
        if not resume and is_filled(target):
            message = (
                f"cannot write {target}: something is already there; go on with --resume if it is this report, else "
                "remove it or choose another place"
            )
            raise OutputError(message)
        if file.exists():
            _refuse_other(parse_json(read_limited(file, MAX_REPORT), file), identity, target)
        try:
            (self.folder / "classes").mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise output_error(target, error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            message = f"expected {target} to be written by this run alone, found another at work there; let it end"
            raise OutputError(message) from error
        if not file.exists():
            write_atomic(file, json.dumps(identity, allow_nan=False).encode())

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the folder; what is finished stays."""
        os.close(self._lock)

    def finished(self, number: int) -> dict[str, Any] | None:
        """The document of a finished class, None where it is not finished."""
        file = self._file(number)
        return parse_json(read_limited(file, MAX_REPORT), file) if file.exists() else None

    def finish(self, number: int, document: Mapping[str, Any]) -> None:
        """Keep the document of a class."""
        write_atomic(self._file(number), json.dumps(document, allow_nan=False).encode())

    @contextmanager
    def maps(self) -> Iterator[Path]:
        """An empty folder for the maps of one class, removed at the end."""
        folder = self.folder / "maps"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def remove(self) -> None:
        """Remove the folder; the report is written."""
        with contextlib.suppress(OSError):  # the report stands; a folder that stays does no harm
            shutil.rmtree(self.folder)

    def _file(self, number: int) -> Path:
        return self.folder / "classes" / f"{number:04d}.json"


def differing(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """Names of what two runs do not have in common; options by their own names."""
    named = [name for name in mine if name != "options" and theirs.get(name) != mine[name]]
    options = theirs.get("options") or {}
    return [
        *named,
        *(f"--{name.replace('_', '-')}" for name, value in mine["options"].items() if options.get(name) != value),
    ]


def _refuse_other(theirs: Mapping[str, Any], mine: Mapping[str, Any], target: Path) -> None:
    """Refuse to mix two runs.

    Raises:
        UsageError: names what differs.
    """
    names = differing(theirs, mine)
    if names:
        message = (
            f"expected --resume with what {target} was begun with, found another {', '.join(names)}; give the same or "
            "choose another place"
        )
        raise UsageError(message)
