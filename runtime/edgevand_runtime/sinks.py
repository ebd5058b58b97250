"""Where results and events go. A sink takes both and counts what it could not deliver.

Monitoring outlives its files: a full disk or a file that cannot be written any more costs lines and pictures,
which are counted and told once, and never a frame. Everything is bounded: a log is
rotated by size and only so many old ones are kept, snapshots beyond the newest ``keep`` are removed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from edgevand.errors import EdgevandError, OutputError
from edgevand.staging import output_error, write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgevand_runtime.events import Event, Evidence
    from edgevand_runtime.results import Result

__all__ = ["EventLog", "JsonLines", "ResultLog", "Rotation", "Sink", "Snapshots", "StandardOutput"]

_LOG = logging.getLogger(__name__)
_MIB = 2**20


class Sink(Protocol):
    """Takes what a monitor finds."""

    @property
    def name(self) -> str:
        """What it is, for people and for the count of what was dropped."""

    @property
    def dropped(self) -> int:
        """How many results, events or pictures could not be delivered."""

    def result(self, result: Result) -> None:
        """Take the verdict of one frame."""

    def event(self, event: Event) -> None:
        """Take one message about an event."""

    def close(self) -> None:
        """Deliver what waits and free what is held."""


class Rotation:
    """How large a log may grow and how many full ones are kept beside it."""

    def __init__(self, megabytes: float = 64.0, keep: int = 4) -> None:
        """Set the bound: at most ``megabytes`` MiB (at least one line) in each of ``keep`` + 1 files."""
        self.limit = int(megabytes * _MIB)
        self.keep = keep


class JsonLines:
    """Appends JSON lines to a file that is rotated: ``x.jsonl``, then ``x.jsonl.1`` (newer) to ``x.jsonl.<keep>``.

    A line is in the file whole or not at all: what a full disk let through of one is cut off again, and so is the
    torn last line that a killed process left.
    """

    def __init__(self, path: Path, rotation: Rotation | None = None) -> None:
        """Open the file for appending.

        Raises:
            OutputError: it cannot be written, or ends in something that is no JSON line.
        """
        self.path = path
        self.dropped = 0
        self._rotation = rotation or Rotation()
        self._file: int | None = None
        self._size = 0
        self._trouble = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            raise output_error(path, error) from error

    def write(self, document: Mapping[str, Any]) -> None:
        """Append one line, or count it as dropped."""
        line = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(", ", ": ")).encode() + b"\n"
        try:
            if self._file is None:
                self._open()
            if self._size and self._size + len(line) > self._rotation.limit:
                self._rotate()
            self._append(line)
        except (OSError, OutputError) as error:
            self.dropped += 1
            self._close()
            if not self._trouble:
                _LOG.warning("%s cannot be written and its lines are dropped: %s", self.path, _reason(error))
            self._trouble = True
            return
        if self._trouble:
            _LOG.warning("%s can be written again; %d lines are missing", self.path, self.dropped)
        self._trouble = False

    def close(self) -> None:
        """Close the file."""
        self._close()

    def _open(self) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            self._size = _without_torn_line(descriptor, self.path)
        except BaseException:
            os.close(descriptor)
            raise
        self._file = descriptor

    def _append(self, line: bytes) -> None:
        if self._file is None:
            return
        written = 0
        try:
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError:
            if written:
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(line)

    def _rotate(self) -> None:
        self._close()
        keep = self._rotation.keep
        for number in range(keep, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        if not keep:
            self.path.unlink(missing_ok=True)
        self._open()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
        self._file = None


def _without_torn_line(descriptor: int, path: Path) -> int:
    """Cut a last line without its end, which a killed process left; the size of what remains."""
    size = os.fstat(descriptor).st_size
    if not size:
        return 0
    tail = os.pread(descriptor, _MIB, max(0, size - _MIB))
    torn = tail[tail.rfind(b"\n") + 1 :]
    if not torn:
        return size
    if not torn.startswith(b"{") or len(torn) == _MIB:
        raise OutputError(f"expected JSON lines in {path}, but it ends in something else; choose another file")
    os.ftruncate(descriptor, size - len(torn))
    return size - len(torn)


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


class ResultLog:
    """Every result as a JSON line; events are not its business."""

    name = "results"

    def __init__(self, path: Path, rotation: Rotation | None = None) -> None:
        """Open the file.

        Raises:
            OutputError: it cannot be written.
        """
        self._lines = JsonLines(path, rotation)

    @property
    def dropped(self) -> int:
        """Results that could not be written."""
        return self._lines.dropped

    def result(self, result: Result) -> None:
        """Append the result."""
        self._lines.write(result.to_json())

    def event(self, event: Event) -> None:
        """Nothing: a result file holds results only."""

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


class EventLog:
    """Every message about an event as a JSON line in ``<directory>/events.jsonl``."""

    name = "events"

    def __init__(self, directory: Path, rotation: Rotation | None = None) -> None:
        """Open the file.

        Raises:
            OutputError: it cannot be written.
        """
        self._lines = JsonLines(directory / "events.jsonl", rotation)

    @property
    def dropped(self) -> int:
        """Messages that could not be written."""
        return self._lines.dropped

    def result(self, result: Result) -> None:
        """Nothing: an event file holds events only."""

    def event(self, event: Event) -> None:
        """Append the message."""
        self._lines.write(event.to_json())

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


class StandardOutput:
    """Every result as a JSON line on standard output: ``--output -``, for a pipe."""

    name = "results"
    dropped = 0

    def result(self, result: Result) -> None:
        """Print the result; a reader that went away ends the run, as it does for every program in a pipe."""
        sys.stdout.write(json.dumps(result.to_json(), ensure_ascii=False, allow_nan=False) + "\n")
        sys.stdout.flush()

    def event(self, event: Event) -> None:
        """Nothing: this is a stream of results."""

    def close(self) -> None:
        """Nothing is held."""


class Snapshots:
    """One JPEG for each event, ``<directory>/<event id>.jpg``: the frame of its top score with the map drawn over it.

    The newest ``keep`` stay, whoever wrote them: names sort by time.
    """

    name = "snapshots"

    def __init__(self, directory: Path, keep: int = 500) -> None:
        """Make the directory.

        Raises:
            OutputError: it cannot be made.
        """
        self.directory = directory
        self.dropped = 0
        self._trouble = False
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._kept = deque(sorted(directory.glob("*.jpg")))
        except OSError as error:
            raise output_error(directory, error) from error
        self._keep = keep

    def save(self, event_id: str, evidence: Evidence) -> Path | None:
        """Write the picture of an event, over an earlier one; None where that failed, which is counted."""
        path = self.directory / f"{event_id}.jpg"
        try:
            write_atomic(path, _draw(evidence))
        except (EdgevandError, OSError) as error:
            self.dropped += 1
            if not self._trouble:
                _LOG.warning("snapshots are dropped: %s", _reason(error))
            self._trouble = True
            return None
        self._trouble = False
        if path not in self._kept:
            self._kept.append(path)
        while len(self._kept) > self._keep:
            with contextlib.suppress(OSError):
                self._kept.popleft().unlink(missing_ok=True)
        return path


def _draw(evidence: Evidence) -> bytes:
    import cv2

    from edgevand_runtime.overlay import draw_overlay

    image = evidence.frame.image
    picture = image if evidence.result is None else draw_overlay(image, evidence.result)
    done, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 88])
    if not done:
        raise OutputError(f"expected a picture of {evidence.frame.source}, but it could not be encoded as JPEG")
    return jpeg.tobytes()
