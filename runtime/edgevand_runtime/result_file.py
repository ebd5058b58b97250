"""The file that ``score`` writes: JSON lines, each of them whole, to which an interrupted run can be added.

A line is handed to the system in one piece; what a full disk took of one is cut off again. A process that was
killed can still leave a torn last line: ``resume`` cuts it off, and takes out the lines of frames that could not
be read, so that these are tried again.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from edgevand.errors import BadInputError
from edgevand.files import output_error, write_atomic
from edgevand_runtime.results import RESULT_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["ResultFile", "encode_line", "read_results", "repair"]


def encode_line(document: Mapping[str, Any]) -> bytes:
    """One JSON line, UTF-8 with its end; a file name that is no UTF-8 is escaped instead of refused."""
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(document, allow_nan=False).encode() + b"\n"


def repair(path: Path) -> None:
    """Make an interrupted file one that can be added to: no torn last line, no line of a failed frame.

    The file is replaced in one step, and only where it changes; one that does not exist is left so.

    Raises:
        BadInputError: it holds something else than results.
        OutputError: it cannot be read or replaced.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise output_error(path, error) from error
    lines = content.split(b"\n")
    if not _is_result(lines[-1]):
        lines[-1] = b""  # torn, or empty because the file ends in a whole line
    kept = [line for number, line in enumerate(lines, start=1) if line and "error" not in _parse(path, number, line)]
    repaired = b"".join(line + b"\n" for line in kept)
    if repaired != content:
        write_atomic(path, repaired)


def read_results(path: Path) -> Iterator[dict[str, Any]]:
    """The results in a whole file, one by one; none where there is no file.

    Raises:
        BadInputError: a line is no result.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield _parse(path, number, line)


class ResultFile:
    """Appends lines to a file; a context manager."""

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        """Open the file, making its directory; what it held is only given up with the first new line.

        Args:
            path: the file.
            resume: keep what it holds and add to it; otherwise the first line replaces it.

        Raises:
            OutputError: it cannot be written.
        """
        self.path = path
        self._made = not path.exists()
        self._replace = not resume
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            self._size = os.fstat(self._file).st_size
        except OSError as error:
            raise output_error(path, error) from error

    def append(self, document: Mapping[str, Any]) -> None:
        """Add one line, whole or not at all.

        Raises:
            OutputError: the disk is full or gone.
        """
        line = encode_line(document)
        written = 0
        try:
            if self._replace:
                self._cut(0)
            self._replace = self._made = False
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                self._cut(self._size)
            raise output_error(self.path, error) from error
        self._size += written

    def close(self) -> None:
        """Close it; a file that this object made and never wrote to is taken away again."""
        os.close(self._file)
        if self._made:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _cut(self, size: int) -> None:
        """Shorten the file; a pipe or device named as output has nothing to cut."""
        if os.fstat(self._file).st_size > size:
            os.ftruncate(self._file, size)
            self._size = size


def _is_result(line: bytes) -> bool:
    """Whether a line is a whole result or error line."""
    try:
        document = json.loads(line)
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("schema") == RESULT_SCHEMA and "source" in document


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """The document of a line."""
    if not _is_result(line):
        raise BadInputError(
            f"expected {path} to hold results ({RESULT_SCHEMA}), but its line {number} is none; "
            "name another output, or leave out --resume to write it anew"
        )
    document: dict[str, Any] = json.loads(line)
    return document
