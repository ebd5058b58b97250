"""Directories and files that appear whole or not at all.

A writer fills ``.<name>.<16 hex digits>.partial`` beside the target, flushes it to the disk and renames it into
place. It holds a lock (``flock``) on that directory, so that the next writer of the same target can tell the
leavings of a dead process from the work of a living one. Replacing a directory swaps the two names in one step
(``renameat2`` with ``RENAME_EXCHANGE``); on a file system that cannot, two renames with the old directory kept
as ``.<name>.<16 hex digits>.former`` in between, which ``recover`` puts back after a crash.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgevand.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["is_filled", "output_error", "recover", "staged_directory", "write_atomic"]

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another place",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another place",
    errno.EFBIG: "a file would be larger than the limit on file sizes; raise the limit or choose another place",
    errno.EIO: "the disk reported an input/output error; choose another place",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.EACCES: "it is not writable; change its permissions or choose another place",
    errno.EPERM: "it is not writable; change its permissions or choose another place",
    errno.EEXIST: "something is already there; remove it or choose another place",
    errno.ENOTEMPTY: "something is already there; remove it or choose another place",
    errno.ENOTDIR: "a part of the path is a file and not a directory; choose another place",
    errno.EISDIR: "a directory is already there; remove it or choose another place",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}
_STORAGE_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_RECOVERY_CHECKS = 200


def output_error(target: Path, error: OSError) -> OutputError:
    """Say in one sentence why ``target`` cannot be written, and what to do."""
    reason = _REASONS.get(error.errno or 0, f"{error.strerror or error}; choose another place")
    return OutputError(f"cannot write {target}: {reason}")


def is_filled(target: Path) -> bool:
    """Whether something is in the way of a new directory: a file, or a directory that is not empty.

    Raises:
        OutputError: it cannot be looked at.
    """
    try:
        return any(Path(target).iterdir())
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return True
    except OSError as error:
        raise output_error(target, error) from error


def write_atomic(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file that appears whole or not at all; an older file of that name is replaced.

    Args:
        path: the file.
        data: its bytes.
        private: nobody but its owner may read it.

    Raises:
        OutputError: it cannot be written; nothing half-written is left and the older file stays.
    """
    path = Path(path)
    partial = path.parent / f".{path.name}.{secrets.token_hex(8)}.partial"
    try:
        with partial.open("xb") as file:
            if private:
                partial.chmod(0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _fsync(path.parent)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


@contextlib.contextmanager
def staged_directory(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty directory that becomes ``target`` when the block ends without an exception.

    On any exception, Ctrl-C included, the staging directory is removed and ``target`` stays as it was. What dead
    writers of the same target left behind is removed first. Parents are created.

    Args:
        target: the directory to write; a symbolic link is followed, an empty directory counts as absent.
        replace: take the place of a directory that is there; its former content is then removed.

    Raises:
        OutputError: something is already there, the place is not writable, the disk is full.
    """
    target = Path(os.path.realpath(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        recover(target)
        if not replace and is_filled(target):
            raise FileExistsError(errno.EEXIST, "exists", str(target))
        _remove_stale(target)
        staging, lock = _locked_staging(target)
    except OSError as error:
        raise output_error(target, error) from error
    try:
        yield staging
        _fsync_tree(staging)
        _move_into_place(staging, target, replace=replace)
    except OSError as error:
        if _is_about_output(error, staging):
            raise output_error(target, error) from error
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(lock)


def recover(target: Path) -> None:
    """Put back a directory whose replacement was cut off between its two renames; otherwise do nothing.

    Only file systems that cannot swap two names in one step ever need this.
    """
    target = Path(os.path.realpath(target))
    for _ in range(_RECOVERY_CHECKS):
        formers = [] if _exists(target) else _siblings(target, "former")
        if not formers:
            return
        partials = _siblings(target, "partial")
        if all(_is_dead(partial) for partial in partials):
            with contextlib.suppress(FileNotFoundError):  # another process may have put it back
                formers[0].rename(target)
        else:
            time.sleep(0.005)  # a living writer stands between its two renames and is about to finish


def _exists(path: Path) -> bool:
    """Whether something bears this name; False also where that cannot be found out."""
    try:
        path.lstat()
    except OSError:
        return False
    return True


def _siblings(target: Path, suffix: str) -> list[Path]:
    """Hidden directories that writers of ``target`` make beside it, newest first."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{16}}\.{suffix}")
    found = []
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name):
                with contextlib.suppress(FileNotFoundError):  # its writer has just finished
                    found.append((entry.stat(follow_symlinks=False).st_mtime_ns, target.parent / entry.name))
    return [path for _, path in sorted(found, reverse=True)]


def _remove_stale(target: Path) -> None:
    """Remove the staging directories of writers that no longer live, and former directories already replaced."""
    for partial in _siblings(target, "partial"):
        with _lock_of_dead(partial) as dead:
            if dead:
                shutil.rmtree(partial, ignore_errors=True)
    if _exists(target):
        for former in _siblings(target, "former"):
            shutil.rmtree(former, ignore_errors=True)


@contextlib.contextmanager
def _lock_of_dead(partial: Path) -> Iterator[bool]:
    """Take over the lock of a staging directory; yields False where its writer lives or it is gone."""
    try:
        descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        dead = True
    except OSError:
        dead = False
    try:
        yield dead
    finally:
        os.close(descriptor)


def _is_dead(partial: Path) -> bool:
    """Whether nobody writes into a staging directory any more."""
    with _lock_of_dead(partial) as dead:
        return dead or not partial.exists()


def _locked_staging(target: Path) -> tuple[Path, int]:
    """Create a staging directory and lock it for as long as this process lives or until the descriptor is closed."""
    while True:
        staging = target.parent / f".{target.name}.{secrets.token_hex(8)}.partial"
        staging.mkdir()
        descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(OSError):  # a file system without locks: stale directories are then not removed
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if staging.exists():  # a cleaner may have taken it for stale between mkdir and flock
            return staging, descriptor
        os.close(descriptor)


def _move_into_place(staging: Path, target: Path, *, replace: bool) -> None:
    """Give the staging directory the target's name; with ``replace`` the old one ends up under the staging name."""
    if replace and _exists(target):
        if not target.is_dir():
            raise FileExistsError(errno.EEXIST, "exists", str(target))
        if not _exchange(staging, target):
            _replace_in_two_steps(staging, target)
    else:
        staging.rename(target)
    _fsync(target.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system or the file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in {errno.ENOSYS, errno.EINVAL, errno.EXDEV, errno.ENOTSUP}:
        return False
    raise OSError(code, os.strerror(code), str(other))


def _replace_in_two_steps(staging: Path, target: Path) -> None:
    """Swap by way of a third name; whatever fails in between, one whole directory bears the target's name again."""
    former = target.parent / f".{target.name}.{secrets.token_hex(8)}.former"
    target.rename(former)
    try:
        staging.rename(target)
    except BaseException:
        former.rename(target)
        raise
    former.rename(staging)


def _is_about_output(error: OSError, staging: Path) -> bool:
    """Whether the error is one of writing here, and not one of something that the block read elsewhere."""
    if error.errno in _STORAGE_FAULTS:
        return True
    named = [name for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
    return any(Path(os.fsdecode(name)).is_relative_to(staging.parent) for name in named)


def _fsync_tree(root: Path) -> None:
    """Flush every file and directory below ``root`` to the disk."""
    for folder, _, names in os.walk(root):
        for name in names:
            _fsync(Path(folder, name))
        _fsync(Path(folder))


def _fsync(path: Path) -> None:
    """Flush one file or directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
