"""What bundles and banks have in common on the disk: hashes, the list of files, JSON (docs/formats.md)."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from edgevand.errors import BadInputError, FormatError
from edgevand.records import FileRecord
from edgevand.staging import output_error, staged_directory, write_atomic
from edgevand.tensors import map_tensor_file, read_tensor_file, read_tensors, write_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "check_tree",
    "map_tensor_file",
    "output_error",
    "read_limited",
    "read_tensor_file",
    "read_tensors",
    "record_tree",
    "sha256_file",
    "staged_directory",
    "write_atomic",
    "write_tensors",
]

_CHUNK = 1 << 20
_MAX_PATH = 200


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes, read in chunks of 1 MiB.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    with Path(path).open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(view[:count])
    return digest.hexdigest()


def read_limited(path: Path, limit: int, absent: str | None = None) -> bytes:
    """Bytes of a small file.

    Args:
        path: the file.
        limit: the most bytes it may have.
        absent: the sentence for a file that is not there; None says that it cannot be read.

    Raises:
        FormatError: it is larger than ``limit`` bytes.
        BadInputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        if absent is not None and isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise BadInputError(absent) from error
        msg = f"cannot read {path}: {error.strerror}; check the path and its permissions"
        raise BadInputError(msg) from error
    if len(data) > limit:
        msg = f"expected {path} to have at most {limit} bytes, found more; copy it again or make it again"
        raise FormatError(msg)
    return data


def record_tree(root: Path) -> dict[str, FileRecord]:
    """Hash and size of every file below ``root``, by its path from there with ``/``, sorted."""
    found = dict(_walk(root))
    return {name: FileRecord(sha256=sha256_file(root / name), size=found[name]) for name in sorted(found)}


def check_tree(
    root: Path,
    files: Mapping[str, FileRecord],
    own: str,
    *,
    verify: bool = True,
    known: Mapping[str, str] | None = None,
) -> None:
    """Hold a directory against the list of files that its record carries.

    Args:
        root: the directory.
        files: what must be there, besides ``own``.
        own: name of the record itself, which cannot carry its own hash.
        verify: also compare the hashes (about a second for each gigabyte); sizes are always compared.
        known: hashes by path of what the caller has read and hashed itself.

    Raises:
        FormatError: a path that leaves the directory, a missing or superfluous file, a symbolic link or another
            thing that is not a plain file, a size or hash that differs.
    """
    for name in files:
        if name == own or not _is_plain(name):
            msg = f"{root / own} lists the path {name!r}, expected a path inside the directory; do not use this copy"
            raise FormatError(msg)
    found = dict(_walk(root))
    found.pop(own, None)
    known = known or {}
    for name in sorted(set(files) | set(found)):
        if name not in found:
            msg = f"expected the file {name} in {root}, found none; copy the directory again"
            raise FormatError(msg)
        if name not in files:
            msg = f"expected only files that {own} lists in {root}, found {name}; remove it or copy the directory again"
            raise FormatError(msg)
        if found[name] != files[name].size:
            size = files[name].size
            msg = f"expected {root / name} to have {size} bytes, found {found[name]}; copy the directory again"
            raise FormatError(msg)
        if (verify or name in known) and (known.get(name) or _hash(root / name)) != files[name].sha256:
            msg = f"expected {root / name} to have the sha256 that {own} lists, found another; copy the directory again"
            raise FormatError(msg)


def _hash(path: Path) -> str:
    """``sha256_file`` with the sentence for a file that cannot be read."""
    try:
        return sha256_file(path)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}; check its permissions"
        raise BadInputError(msg) from error


def _is_plain(name: str) -> bool:
    """Whether a listed path is relative, normal and cannot leave the directory."""
    parts = name.split("/")
    return (
        0 < len(name) <= _MAX_PATH
        and name.isprintable()
        and not any(character in name for character in '\\:*?"<>|')
        and all(part not in {"", ".", ".."} for part in parts)
    )


def _walk(root: Path, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Path from the root and size of every file; anything else than plain files and directories is refused."""
    try:
        with os.scandir(root / prefix) as entries:
            listing = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    except OSError as error:
        msg = f"cannot read the directory {root / prefix}: {error.strerror}; check the path and its permissions"
        raise BadInputError(msg) from error
    for name, status in listing:
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(root, f"{prefix}{name}/")
        elif stat.S_ISREG(status.st_mode):
            yield f"{prefix}{name}", status.st_size
        else:
            kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "something else"
            msg = f"expected only plain files in {root}, found {kind} at {prefix}{name}; copy the directory again"
            raise FormatError(msg)
