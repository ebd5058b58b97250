"""Raw maps of one row on the disk, so that memory stays bounded however many pictures and rows there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevand.files import output_error

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["MapFile"]


class MapFile:
    """Written one map after another with plain writes (a full disk is then an error and no signal), read mapped."""

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        """Make the file.

        Args:
            path: where.
            size: rows and columns of every map.

        Raises:
            OutputError: it cannot be made.
        """
        self._path = path
        self._size = size
        self._count = 0
        try:
            self._file = path.open("xb", buffering=0)
        except OSError as error:
            raise output_error(path, error) from error

    def append(self, raw_map: NDArray[np.float32]) -> None:
        """Write the next map, (rows, columns) float32.

        Raises:
            OutputError: it cannot be written.
        """
        rest = memoryview(np.ascontiguousarray(raw_map, np.float32).tobytes())
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise output_error(self._path, error) from error
        self._count += 1

    def close(self) -> None:
        """Close the file; ``read`` may follow."""
        self._file.close()

    def read(self) -> NDArray[np.float32] | None:
        """(N, rows, columns) float32, mapped from the file and read-only; None where no map was written."""
        if self._count == 0:
            return None
        return np.memmap(self._path, np.float32, "r", shape=(self._count, *self._size))
