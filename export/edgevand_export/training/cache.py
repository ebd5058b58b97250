"""Stage tokens on the disk: the encoder is frozen, so a picture is encoded once.

A shard is one safetensors file, ``<2 hex digits>/<key>.safetensors``: the tokens of each stage (P, C), float32 or
float16, the mask (S, S), and as metadata its key and a checksum of the tensors. The key is a hash of everything that
the content depends on, so a shard of another encoder, picture, size or collage has another name; a shard that was cut
off, changed or put under another's name does not fit its own metadata. Neither is ever used: the picture is encoded
again.

The folder may be shared by runs. It is bounded: what this run has not used is removed, oldest first; when only its own
shards are left, further pictures are encoded each time. (Removing the oldest of a cycle that does not fit would find
nothing at all.)
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
import time
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgevand.errors import BadInputError
from edgevand.staging import output_error
from edgevand.tensors import read_tensor_file, tensor_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["CacheFigures", "Encoded", "TokenCache"]

SCHEMA = "edgevand.tokens/1"
MASK = "mask"
STALE = 3600.0
"""Seconds after which an unfinished file counts as left behind by a run that was killed."""

log = logging.getLogger(__name__)


class Encoded(NamedTuple):
    """A picture as the heads see it.

    Attributes:
        tokens: (P, C) of each stage, float32 or float16.
        mask: (S, S) uint8, 1 where anomalous.
    """

    tokens: tuple[NDArray[Any], ...]
    mask: NDArray[np.uint8]


@dataclass(slots=True)
class CacheFigures:
    """What a cache did in this process.

    Attributes:
        found: pictures whose shard was there and right.
        damaged: shards that were there and wrong.
        stored: shards written.
        refused: shards not written because the cache is full.
        bytes: in the folder.
    """

    found: int = 0
    damaged: int = 0
    stored: int = 0
    refused: int = 0
    bytes: int = 0


class TokenCache:
    """A folder of shards; may be used by several threads."""

    def __init__(
        self, folder: Path, limit: int, shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype[np.floating[Any]]
    ) -> None:
        """Open the folder, make it where it is not there, and remove what a killed run left unfinished.

        Args:
            folder: of the shards.
            limit: bytes that all shards together may take.
            shapes: of a shard's tensors by name, in the order of the stages; the mask last.
            dtype: of the tokens.

        Raises:
            OutputError: the folder cannot be made or read.
        """
        self.folder = folder
        self.limit = limit
        self.shapes = dict(shapes)
        self.dtype = np.dtype(dtype)
        self.figures = CacheFigures()
        self._own: set[str] = set()
        self._others: list[tuple[float, int, Path]] = []
        self._lock = threading.Lock()
        self._full = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._survey()
        except OSError as error:
            raise output_error(folder, error) from error

    def load(self, key: str) -> Encoded | None:
        """The shard of a key, or None where there is none that is whole and right."""
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            tensors, metadata, _ = read_tensor_file(path)
        except BadInputError as error:
            self._damaged(path, str(error))
            return None
        wanted = {name: (shape, self._dtype_of(name)) for name, shape in self.shapes.items()}
        found = {name: (array.shape, array.dtype) for name, array in tensors.items()}
        if metadata.get("schema") != SCHEMA or metadata.get("key") != key or found != wanted:
            self._damaged(path, f"{path} holds tokens of something else")
            return None
        if metadata.get("crc32") != _checksum(tensors, self.shapes):
            self._damaged(path, f"the content of {path} has changed")
            return None
        with contextlib.suppress(OSError):  # another run may just have removed it; it is read already
            os.utime(path)
        with self._lock:
            self._own.add(key)
            self.figures.found += 1
        return Encoded(tuple(tensors[name] for name in self.shapes if name != MASK), tensors[MASK])

    def store(self, key: str, encoded: Encoded) -> None:
        """Write a shard, unless the cache is full; a disk that is full ends the filling, not the run."""
        names = [name for name in self.shapes if name != MASK]
        tensors = {**dict(zip(names, encoded.tokens, strict=True)), MASK: encoded.mask}
        metadata = {"schema": SCHEMA, "key": key, "crc32": _checksum(tensors, self.shapes)}
        data = tensor_bytes(tensors, metadata)
        with self._lock:
            if self._full or not self._make_room(len(data)):
                self.figures.refused += 1
                return
            self.figures.bytes += len(data)
            self._own.add(key)
        path = self._path(key)
        partial = path.parent / f".{key}.{secrets.token_hex(8)}.partial"
        try:
            path.parent.mkdir(exist_ok=True)
            partial.write_bytes(data)  # not flushed: what a power failure tears is recognised by its checksum
            partial.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            with self._lock:
                self.figures.bytes -= len(data)
                self.figures.refused += 1
                if not self._full:
                    log.warning("%s; further pictures are encoded in each epoch", output_error(self.folder, error))
                self._full = True
            return
        with self._lock:
            self.figures.stored += 1

    def to_json(self) -> dict[str, Any]:
        """Figures and folder, for a summary."""
        return {"folder": str(self.folder), **asdict(self.figures)}

    def _dtype_of(self, name: str) -> np.dtype[Any]:
        """Of a shard's tensor."""
        return np.dtype(np.uint8) if name == MASK else self.dtype

    def _path(self, key: str) -> Path:
        """Where the shard of a key lies."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def _damaged(self, path: Path, reason: str) -> None:
        """Count and remove a shard that is not what it should be."""
        log.info("not used, and made again: %s", reason)
        with self._lock:
            self.figures.damaged += 1
            with contextlib.suppress(OSError):
                size = path.stat().st_size
                path.unlink()
                self.figures.bytes -= size

    def _survey(self) -> None:
        """Learn what is in the folder, oldest first."""
        for path in self.folder.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if path.suffix == ".partial" and time.time() - status.st_mtime > STALE:
                    path.unlink()
                elif path.suffix == ".safetensors":
                    self._others.append((status.st_mtime, status.st_size, path))
                    self.figures.bytes += status.st_size
        self._others.sort(reverse=True)

    def _make_room(self, size: int) -> bool:
        """Remove what this run has not used until ``size`` bytes fit; whether they do. The lock is held."""
        while self.figures.bytes + size > self.limit and self._others:
            _, old, path = self._others.pop()
            if path.stem not in self._own:
                with contextlib.suppress(FileNotFoundError):  # another run may have removed it
                    path.unlink()
                self.figures.bytes -= old
        return self.figures.bytes + size <= self.limit


def _checksum(tensors: Mapping[str, NDArray[Any]], order: Mapping[str, object]) -> str:
    """CRC-32 over the bytes of the tensors, in the order of their names' list."""
    value = 0
    for name in order:
        value = zlib.crc32(np.ascontiguousarray(tensors[name]).data, value)
    return f"{value:08x}"
