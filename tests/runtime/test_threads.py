"""Threads are counted from what the system really gives the process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import cv2
import pytest

from edgevand.errors import UsageError
from edgevand_runtime.threads import available_cores, set_threads

if TYPE_CHECKING:
    from pathlib import Path

EIGHT = set(range(8))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: EIGHT, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)


def test_the_affinity_mask_counts_and_not_the_machine(tmp_path: Path) -> None:
    assert available_cores(tmp_path) == 8


def test_a_system_without_affinity_masks_counts_its_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_cores(tmp_path) == 64


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("300000 100000", 3), ("250000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8), ("max 100000", 8)],
)
def test_the_quota_of_a_control_group_counts_in_whole_cores(tmp_path: Path, quota: str, cores: int) -> None:
    files = {"proc/self/cgroup": "0::/unit\n", "sys/fs/cgroup/unit/cpu.max": quota}
    assert available_cores(write(tmp_path, files)) == cores


def test_the_tightest_group_around_the_process_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/pod/unit\n",
        "sys/fs/cgroup/pod/cpu.max": "200000 100000",
        "sys/fs/cgroup/pod/unit/cpu.max": "400000 100000",
    }
    assert available_cores(write(tmp_path, files)) == 2


def test_in_a_container_the_root_of_the_mount_is_its_own_group(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/../../elsewhere\n", "sys/fs/cgroup/cpu.max": "150000 50000"}
    assert available_cores(write(tmp_path, files)) == 3


@pytest.mark.parametrize(("quota", "cores"), [("400000", 4), ("-1", 8)])
def test_the_older_control_groups_count_too(tmp_path: Path, quota: str, cores: int) -> None:
    files = {
        "proc/self/cgroup": "4:cpu,cpuacct:/unit\n3:memory:/unit\n",
        "sys/fs/cgroup/cpu,cpuacct/unit/cpu.cfs_quota_us": quota,
        "sys/fs/cgroup/cpu,cpuacct/unit/cpu.cfs_period_us": "100000",
    }
    assert available_cores(write(tmp_path, files)) == cores


def test_what_a_person_chose_goes_before_all_and_opencv_gets_one() -> None:
    before = cv2.getNumThreads()
    try:
        assert set_threads(3) == 3
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


def test_no_thread_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="--threads of at least 1, found 0"):
        set_threads(0)
