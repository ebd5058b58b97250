"""Directories appear whole or not at all, also under ``kill -9``."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from edgevand import versions
from edgevand.bank import Bank, undo_bank
from edgevand.staging import recover, staged_directory
from tests.core.builders import make_bank, make_bundle
from tests.core.writers import FILES, fill

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Writers:
    """Starts writers in another process and kills them."""

    def __init__(self, repository: Path) -> None:
        """Start the process that forks them."""
        paths = os.pathsep.join(str(repository / folder) for folder in (".", "export", "runtime"))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.core.writers"],
            cwd=repository,
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, job: str, path: Path, die_at: int = 0) -> int:
        """Start a writer and return its pid."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"job": job, "path": str(path), "die_at": die_at}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def wait(self) -> int:
        """Exit code of the writer that was started last; the negative signal where one killed it."""
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


@pytest.fixture(scope="module")
def writers(repository: Path) -> Iterator[Writers]:
    """One process for all tests of this module."""
    process = Writers(repository)
    yield process
    process.close()


def number_in(path: Path) -> int:
    """The number that every file of a whole directory holds."""
    number = int((path / "last").read_text())
    for index in range(FILES):
        assert (path / "sub" / f"{index}").read_text() == f"{number}\n" * 2000
    assert sorted(entry.name for entry in path.iterdir()) == ["last", "sub"]
    return number


def kill_at_random(writers: Writers, job: str, path: Path, seconds: float) -> None:
    """Let a writer work for a moment, then kill it."""
    pid = writers.start(job, path)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    assert writers.wait() == -signal.SIGKILL


@pytest.mark.parametrize("job", ["replace_on_and_on", "replace_on_and_on_in_two_steps"])
def test_a_directory_is_whole_after_15_kills_at_random_moments(tmp_path: Path, writers: Writers, job: str) -> None:
    path = tmp_path / "target"
    with staged_directory(path) as place:
        fill(place, 0)
    moments = random.Random(1)  # noqa: S311 - a moment, no secret
    for _ in range(15):
        kill_at_random(writers, job, path, moments.uniform(0, 0.06))
        recover(path)
        number_in(path)
    with staged_directory(path, replace=True) as place:
        fill(place, -1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]


def test_a_file_is_whole_after_5_kills_at_random_moments(tmp_path: Path, writers: Writers) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0\n" * 20000)
    moments = random.Random(2)  # noqa: S311 - a moment, no secret
    for _ in range(5):
        kill_at_random(writers, "file_on_and_on", path, moments.uniform(0, 0.03))
        lines = path.read_text().splitlines()
        assert len(lines) == 20000
        assert len(set(lines)) == 1


def test_a_bank_is_whole_after_15_kills_at_random_moments(tmp_path: Path, writers: Writers) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    path = make_bank(tmp_path / "bank", bundle).path
    began = time.monotonic()
    writers.start("bank", path)
    assert writers.wait() == 0
    longest = 2 * (time.monotonic() - began)
    version = 2
    moments = random.Random(3)  # noqa: S311 - a moment, no secret
    for _ in range(15):
        kill_at_random(writers, "banks_on_and_on", path, moments.uniform(0, longest))
        bank = Bank.open(path, bundle)
        kept = versions.kept(path)
        for number, place in kept.items():
            assert Bank.open(place, bundle).record.version == number
        assert max([bank.record.version, *kept]) >= version
        version = max([bank.record.version, *kept])
    make_bank(path, bundle, replace=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".bank.versions", "bank", "bundle"]


@pytest.mark.parametrize("job", ["first", "replace", "replace_in_two_steps"])
def test_a_directory_is_the_old_or_the_new_one_whatever_name_was_changed_last(
    tmp_path: Path, writers: Writers, job: str
) -> None:
    """The writer dies before its first, second, … change of a name, until it lives to the end."""
    path = tmp_path / "target"
    seen = set()
    for operation in range(1, 200):
        shutil.rmtree(path, ignore_errors=True)
        if job != "first":
            path.mkdir()
            fill(path, 0)
        writers.start(job, path, operation)
        code = writers.wait()
        assert code in {0, -signal.SIGKILL}
        recover(path)
        seen.add(number_in(path) if path.exists() else None)
        if code == 0:
            break
    assert code == 0
    assert operation > 3
    assert seen == ({None, 1} if job == "first" else {0, 1})
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize("job", ["bank", "undo"])
def test_a_bank_is_the_old_or_the_new_one_whatever_name_was_changed_last(
    tmp_path: Path, writers: Writers, job: str
) -> None:
    """Neither a replacement nor an undo ever loses the present bank or a former one."""
    bundle = make_bundle(tmp_path / "bundle")
    pristine = tmp_path / "pristine"
    pristine.mkdir()
    hashes = {make_bank(pristine / "bank", bundle, seed=seed, replace=True).hash for seed in (10, 11)}
    work = tmp_path / "work"
    present = set()
    for operation in range(1, 200):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(pristine, work)
        (work / "bundle").symlink_to(bundle.path, target_is_directory=True)
        writers.start(job, work / "bank", operation)
        code = writers.wait()
        assert code in {0, -signal.SIGKILL}
        bank = Bank.open(work / "bank", bundle)
        present.add(bank.record.version)
        kept = {Bank.open(place, bundle).hash for place in versions.kept(work / "bank").values()}
        assert hashes <= kept | {bank.hash}
        if code == 0:
            break
    assert code == 0
    assert present == ({2, 3} if job == "bank" else {1, 2})
    assert undo_bank(work / "bank", 2 if job == "undo" else None).record.version == 2
