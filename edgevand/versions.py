"""Former versions of a directory, kept beside it as ``.<name>.versions/<number>``.

A version is kept by hard links (copies where the file system has none) before the directory is replaced, so the
present one is never moved away and a crash at any moment leaves it, or its successor, whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from edgevand.staging import output_error, staged_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["keep", "kept", "link_tree", "locked", "prune"]


_PRUNED = ".pruned"


def kept(path: Path) -> dict[int, Path]:
    """The former versions of ``path`` by number, rising."""
    root = _root(path)
    numbers = [int(entry.name) for entry in root.iterdir() if entry.name.isdecimal()] if root.is_dir() else []
    return {number: root / str(number) for number in sorted(numbers)}


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one writer at a time read the versions of ``path`` and replace it; others wait.

    Raises:
        OutputError: the directory of versions cannot be made.
    """
    try:
        _root(path).mkdir(exist_ok=True)
        descriptor = os.open(_root(path), os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise output_error(path, error) from error
    try:
        with contextlib.suppress(OSError):  # a file system without locks: writers of one bank must then take turns
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def keep(path: Path, number: int) -> None:
    """Keep what ``path`` holds now as version ``number``, unless that is kept already.

    Raises:
        OutputError: it cannot be written.
    """
    place = _root(path) / str(number)
    if not place.exists():
        with staged_directory(place) as staging:
            link_tree(path, staging)


def link_tree(source: Path, target: Path) -> None:
    """Fill the empty directory ``target`` with the files of ``source``: hard links, or copies where links fail.

    Raises:
        OSError: a file can be neither linked nor copied.
    """

    def link(one: str, other: str) -> str:
        try:
            os.link(one, other, follow_symlinks=False)
        except OSError:
            shutil.copyfile(one, other, follow_symlinks=False)
        return other

    shutil.copytree(source, target, symlinks=True, copy_function=link, dirs_exist_ok=True)


def prune(path: Path, count: int) -> None:
    """Remove all but the newest ``count`` versions; call it inside ``locked``."""
    for number, place in list(kept(path).items())[:-count]:
        with contextlib.suppress(OSError):  # it takes place on the disk and nothing else
            place.rename(place.with_name(f".{number}{_PRUNED}"))  # a half-removed version must not look like one
    for place in _root(path).glob(f".*{_PRUNED}"):
        shutil.rmtree(place, ignore_errors=True)


def _root(path: Path) -> Path:
    """The directory of the versions of ``path``."""
    path = Path(os.path.realpath(path))
    return path.parent / f".{path.name}.versions"
