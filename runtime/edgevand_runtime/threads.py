"""How many threads the program may use, told from what the system gives it, in one place.

``os.cpu_count`` counts the machine's cores; a process may have fewer: those of its affinity mask (``taskset``, a
cpuset of its container) and of its control group's quota (``docker run --cpus``). More threads than that only wait
for each other, and under a quota the whole process is halted for the rest of each period.

Who works with them: the engine (its intra-op threads) and the bank search (threads of its own). OpenBLAS and OpenCV
get one each, for their threads wait by spinning and take the cores from the former two: OpenBLAS by
``OPENBLAS_NUM_THREADS=1``, which the command line sets before NumPy is imported, OpenCV by ``set_threads``.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2

from edgevand.errors import UsageError

__all__ = ["available_cores", "set_threads"]


def available_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use: at least 1.

    Args:
        root: of the file system that tells the quota.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(root)
    # Half a core more is no use to a thread: it would be halted for half of the time.
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def set_threads(threads: int | None) -> int:
    """Give OpenCV one thread, and say how many the engine and the search are to have.

    Args:
        threads: what a person chose; None for ``available_cores``.

    Raises:
        UsageError: fewer than one.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"expected --threads of at least 1, found {threads}; give a larger number")
    cv2.setNumThreads(1)
    return threads or available_cores()


def _quota(root: Path) -> float | None:
    """Cores that the control group and those above it grant; None where nothing limits them."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2: one hierarchy
            found += [_quota_v2(folder) for folder in _upwards(root / "sys/fs/cgroup", path)]
        elif "cpu" in controllers.split(","):
            found += [_quota_v1(folder) for folder in _upwards(root / "sys/fs/cgroup" / controllers, path)]
    return min((quota for quota in found if quota is not None), default=None)


def _upwards(mount: Path, path: str) -> list[Path]:
    """A group's folder and those of the groups around it; in a container only the outermost may be there."""
    parts = [part for part in path.split("/") if part not in {"", ".."}]
    return [mount.joinpath(*parts[:length]) for length in range(len(parts), -1, -1)]


def _quota_v2(folder: Path) -> float | None:
    """``cpu.max``: ``<quota> <period>`` in microseconds, or ``max`` in place of the quota."""
    words = _words(folder / "cpu.max")
    return None if len(words) != 2 or words[0] == "max" else int(words[0]) / int(words[1])  # noqa: PLR2004 - a pair


def _quota_v1(folder: Path) -> float | None:
    """``cpu.cfs_quota_us`` (-1: none) over ``cpu.cfs_period_us``."""
    quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
    return int(quota[0]) / int(period[0]) if quota and period and int(quota[0]) > 0 else None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").split()
    except OSError:
        return []
