"""Arrays of one shape that come one by one and are more than memory should hold: a file without a name.

The file is unlinked from the start, so that nothing is left of it whatever happens to the process. It lies where the
result will, on a disk that has to have room for it anyway: a temporary directory is often memory.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand.files import output_error

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Spool"]


class Spool:
    """Keeps arrays of one shape and dtype on the disk."""

    def __init__(self, folder: Path, first: NDArray[Any]) -> None:
        """Begin.

        Args:
            folder: where the file lies; it is made if it is not there.
            first: an array of the shape and dtype that all of them have; it is not taken in.

        Raises:
            OutputError: nothing can be written there.
        """
        self._folder = folder
        self._shape, self._dtype = first.shape, first.dtype
        self._count = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as the spool is
        except OSError as error:
            raise output_error(folder, error) from error

    def add(self, array: NDArray[Any]) -> int:
        """Take an array in; returns its number, from 0.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            self._file.seek(0, 2)
            self._file.write(np.ascontiguousarray(array).data)
            self._file.flush()
        except OSError as error:
            raise output_error(self._folder, error) from error
        self._count += 1
        return self._count - 1

    def arrays(self) -> NDArray[Any]:
        """All of them so far, stacked and read-only; they are read as they are looked at."""
        return np.memmap(self._file, self._dtype, "r", shape=(self._count, *self._shape))
