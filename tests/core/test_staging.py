"""Directories and files appear whole or not at all, and errors of writing are one sentence."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgevand import staging
from edgevand.errors import OutputError
from edgevand.staging import is_filled, recover, staged_directory, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(params=["one step", "two steps"])
def _swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of replacing: the system's swap of two names, and two renames where there is none."""
    if request.param == "two steps":
        monkeypatch.setattr(staging, "_exchange", lambda one, other: False)


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Without the rights of root, for whom nothing is unwritable."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def old(target: Path) -> Path:
    """A directory that is there already."""
    target.mkdir()
    (target / "old").write_text("old")
    return target


def write(target: Path, action: Callable[[], object], *, replace: bool = False) -> None:
    """Begin a directory, then do something."""
    with staged_directory(target, replace=replace) as place:
        (place / "file").write_text("x")
        action()


def content(target: Path) -> dict[str, str]:
    return {path.relative_to(target).as_posix(): path.read_text() for path in target.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_directory_appears_when_the_block_ends_and_not_before(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "target"
    with staged_directory(target) as place:
        (place / "sub").mkdir()
        (place / "sub" / "file").write_text("x")
        assert place.parent == target.parent
        assert not target.exists()
    assert content(target) == {"sub/file": "x"}
    assert names(target.parent) == ["target"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1), OutputError("x")])
def test_an_exception_leaves_nothing_and_passes(tmp_path: Path, error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        write(tmp_path / "target", fail)
    assert names(tmp_path) == []


@pytest.mark.usefixtures("_swap")
@pytest.mark.parametrize("error", [None, KeyboardInterrupt()])
def test_a_replaced_directory_is_the_new_one_or_after_an_exception_the_old_one(
    tmp_path: Path, error: BaseException | None
) -> None:
    target = old(tmp_path / "target")
    with contextlib.suppress(KeyboardInterrupt), staged_directory(target, replace=True) as place:
        (place / "new").write_text("new")
        assert content(target) == {"old": "old"}
        if error:
            raise error
    assert content(target) == ({"old": "old"} if error else {"new": "new"})
    assert names(tmp_path) == ["target"]


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_what_is_already_there_is_not_touched(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    old(target) if kind == "directory" else target.write_text("old")
    with pytest.raises(OutputError, match="something is already there"), staged_directory(target):
        pytest.fail("the block must not begin")
    assert names(tmp_path) == ["target"]


def test_a_directory_is_never_put_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    with pytest.raises(OutputError, match="already there"), staged_directory(tmp_path / "target", replace=True):
        pass
    assert (tmp_path / "target").read_text() == "old"
    assert names(tmp_path) == ["target"]


def test_what_appeared_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="already there"):
        write(tmp_path / "target", lambda: old(tmp_path / "target"))
    assert content(tmp_path / "target") == {"old": "old"}
    assert names(tmp_path) == ["target"]


def test_an_empty_directory_counts_as_absent(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with staged_directory(tmp_path / "target") as place:
        (place / "file").write_text("x")
    assert content(tmp_path / "target") == {"file": "x"}


def test_a_link_to_a_directory_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    target = old(tmp_path / "disk" / "real")
    (tmp_path / "link").symlink_to(target)
    with staged_directory(tmp_path / "link", replace=True) as place:
        (place / "new").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert content(target) == {"new": "new"}
    assert names(tmp_path / "disk") == ["real"]


def test_the_leavings_of_dead_writers_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    dead = old(tmp_path / ".target.0123456789abcdef.partial")
    other = old(tmp_path / ".other.0123456789abcdef.partial")
    similar = old(tmp_path / ".target.notes.partial")
    with staged_directory(tmp_path / "target") as living:
        assert not dead.exists()
        with staged_directory(tmp_path / "target") as second:
            assert living.exists()
            (second / "file").write_text("second")
        (living / "file").write_text("first")
        shutil.rmtree(tmp_path / "target")
    assert content(tmp_path / "target") == {"file": "first"}
    assert other.exists()
    assert similar.exists()


def test_a_staging_directory_that_a_cleaner_took_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the making of the directory and its lock another writer may take it for stale."""
    flock = fcntl.flock
    taken: list[Path] = []

    def cleaned_first(descriptor: int, operation: int) -> None:
        if not taken:
            taken.extend(tmp_path.glob(".target.*.partial"))
            shutil.rmtree(taken[0])
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", cleaned_first)
    with staged_directory(tmp_path / "target") as place:
        assert place != taken[0]
        (place / "file").write_text("x")
    assert content(tmp_path / "target") == {"file": "x"}


def test_a_replacement_cut_between_two_renames_is_recovered(tmp_path: Path) -> None:
    old(tmp_path / ".target.0123456789abcdef.former")
    old(tmp_path / ".target.fedcba9876543210.partial")
    recover(tmp_path / "target")
    assert content(tmp_path / "target") == {"old": "old"}
    assert not list(tmp_path.glob("*.former"))


def test_recovery_leaves_alone_what_is_there(tmp_path: Path) -> None:
    former = old(tmp_path / ".target.0123456789abcdef.former")
    (tmp_path / "target").mkdir()
    recover(tmp_path / "target")
    assert names(tmp_path / "target") == []
    assert former.exists()
    recover(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_recovery_waits_for_a_living_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that comes between the two renames must not put the old directory back under the writer's hands."""
    former = old(tmp_path / ".target.0123456789abcdef.former")
    waited: list[float] = []

    def finish(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            (tmp_path / "target").mkdir()

    monkeypatch.setattr(time, "sleep", finish)
    place = tmp_path / ".target.fedcba9876543210.partial"
    place.mkdir()
    lock = os.open(place, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    recover(tmp_path / "target")
    os.close(lock)
    assert len(waited) == 3
    assert former.exists()


def test_a_failing_second_rename_puts_the_old_directory_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "_exchange", lambda one, other: False)
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise OSError(5, "Input/output error", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with (
        pytest.raises(OutputError, match="input/output error"),
        staged_directory(old(tmp_path / "target"), replace=True) as place,
    ):
        (place / "new").write_text("new")
    assert content(tmp_path / "target") == {"old": "old"}
    assert names(tmp_path) == ["target"]


@pytest.mark.parametrize("replace", [False, True])
def test_a_full_disk_is_one_sentence_and_leaves_the_old_directory(tmp_path: Path, *, replace: bool) -> None:
    target = tmp_path / "target"
    if replace:
        old(target)
    always_full = Path("/dev/full")  # the system's own
    with pytest.raises(OutputError, match=r"cannot write .*target: the disk is full; free some space"):
        write(target, lambda: always_full.write_text("x", encoding="ascii"), replace=replace)
    assert names(tmp_path) == (["target"] if replace else [])
    if replace:
        assert content(target) == {"old": "old"}


def test_a_limit_on_file_sizes_is_one_sentence(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, limits[1]))
    try:
        with pytest.raises(OutputError, match="limit on file sizes"), staged_directory(tmp_path / "target") as place:
            (place / "large").write_bytes(bytes(20000))
        with pytest.raises(OutputError, match="limit on file sizes"):
            write_atomic(tmp_path / "file", bytes(20000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == []


def test_an_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with nobody():
            for replace in (False, True):
                with (
                    pytest.raises(OutputError, match=r"cannot write .*target: it is not writable"),
                    staged_directory(tmp_path / "target", replace=replace),
                ):
                    pytest.fail("the block must not begin")
            with pytest.raises(OutputError, match="not writable"):
                write_atomic(tmp_path / "file", b"x")
    finally:
        tmp_path.chmod(0o700)
    assert names(tmp_path) == []


def test_a_place_below_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match=r"a part of the path is a file|already there"),
        staged_directory(tmp_path / "file" / "target"),
    ):
        pytest.fail("the block must not begin")


def test_an_error_of_reading_elsewhere_is_not_an_error_of_writing_here(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), staged_directory(tmp_path / "out" / "target"):
        (tmp_path / "missing").read_bytes()
    assert names(tmp_path / "out") == []


def test_everything_is_flushed_to_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(descriptor: int) -> None:
        steps.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def noted_rename(self: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    with staged_directory(tmp_path / "target") as place:
        (place / "sub").mkdir()
        (place / "sub" / "file").write_text("x")
    position = steps.index("rename")
    assert {"file", "sub", place.name} == set(steps[:position])
    assert steps[position + 1 :] == [tmp_path.name]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["file"]


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"one")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        write_atomic(path, b"two")
    assert path.read_bytes() == b"one"
    assert names(tmp_path) == ["file"]


def test_what_is_in_the_way_is_seen(tmp_path: Path) -> None:
    assert not is_filled(tmp_path / "absent")
    assert not is_filled(tmp_path)
    old(tmp_path / "full")
    assert is_filled(tmp_path / "full")
    assert is_filled(tmp_path / "full" / "old")
