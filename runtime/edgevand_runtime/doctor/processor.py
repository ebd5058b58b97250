"""The machine itself: system, processor, its instruction sets, memory."""

from __future__ import annotations

import os
import platform
import signal
import sys
from pathlib import Path
from typing import Literal

from edgevand_runtime.doctor.check import Check, read_text, run

__all__ = ["amx_outcome", "amx_traps", "check_amx", "check_memory", "check_processor", "check_system", "cpu_flags"]

AMX_REMEDY = (
    "set ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 in the environment before anything that uses PyTorch, OpenVINO "
    "or oneDNN, or have the virtual machine's host allow AMX; int8 in ONNX Runtime has no such setting: use fp32 there"
)

_INSTRUCTION_SETS = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f", "avx512vl"),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "BF16": ("avx512_bf16", "bf16"),
    "AMX": ("amx_tile",),
    "NEON": ("asimd",),
    "dot product": ("asimddp",),
    "I8MM": ("i8mm",),
    "FP16": ("asimdhp", "avx512_fp16"),
}
_OLDEST_PYTHON, _NEWEST_PYTHON = (3, 10), (3, 13)
_LITTLE_MEMORY = 2_000_000_000


def check_system() -> Check:
    """Operating system, board and Python."""
    board = read_text("/proc/device-tree/model")
    jetpack = read_text("/etc/nv_tegra_release")
    python = platform.python_version()
    data = {
        "system": platform.platform(),
        "machine": platform.machine(),
        "board": board,
        "jetson": jetpack is not None,
        "python": python,
        "executable": sys.executable,
    }
    found = f"{board or platform.system()} {platform.release()} on {platform.machine()}, Python {python}"
    if not _OLDEST_PYTHON <= sys.version_info[:2] <= _NEWEST_PYTHON:
        return Check("problem", found, "use Python 3.10, 3.11, 3.12 or 3.13: others are not tested", data)
    return Check("ok", found, None, data)


def cpu_flags() -> frozenset[str]:
    """The instruction sets that the kernel announces, in its own words (``flags`` on x86, ``Features`` on ARM)."""
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


def check_processor() -> Check:
    """Model, usable cores and the instruction sets that speed up a network."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in (read_text("/proc/cpuinfo") or "").splitlines()
            if "model name" in line
        ),
        platform.processor() or platform.machine(),
    )
    flags = cpu_flags()
    known = [name for name, aliases in _INSTRUCTION_SETS.items() if flags & set(aliases)]
    cores = _usable_cores()
    quota = _cpu_quota()
    data = {"model": model, "cores": cores, "quota": quota, "instruction_sets": known, "flags": sorted(flags)}
    limited = f" (this container may use {quota:g} of them)" if quota is not None and quota < cores else ""
    found = f"{model}, {cores} usable cores{limited}, {', '.join(known) or 'no vector instructions known'}"
    if flags and not flags & {"avx2", "asimd"}:
        remedy = "expect frames to take several times longer: without AVX2 or NEON the engines run unvectorised code"
        return Check("problem", found, remedy, data)
    return Check("ok", found, None, data)


def _usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_quota() -> float | None:
    """Cores' worth of time that the control group allows; None without a limit."""
    limit, _, period = (read_text("/sys/fs/cgroup/cpu.max") or "").partition(" ")
    return int(limit) / int(period) if limit.isdigit() and period.isdigit() else None


def amx_outcome(*, anyway: bool = False) -> Literal["ok", "denied", "trapped", "unknown"]:
    """Execute AMX instructions in a process of its own.

    Args:
        anyway: try even where the kernel denies the tile registers.
    """
    program = [sys.executable, str(Path(__file__).with_name("amx.py")), *(["--anyway"] if anyway else [])]
    done = run(program)
    if done is None:
        return "unknown"
    if -done.returncode in {signal.SIGILL, signal.SIGSEGV, signal.SIGBUS}:
        return "trapped"
    answer = done.stdout.strip()
    return "ok" if answer == "ok" else "denied" if answer == "denied" else "unknown"


def amx_traps() -> bool:
    """Whether AMX is announced here and ends the process that executes it."""
    return "amx_tile" in cpu_flags() and amx_outcome() == "trapped"


def check_amx() -> Check:
    """Whether AMX, where it is announced, can be executed."""
    if "amx_tile" not in cpu_flags():
        return Check("ok", "not announced by this processor, so nothing will use it", None, {"announced": False})
    outcome = amx_outcome()
    data = {"announced": True, "outcome": outcome}
    if outcome == "trapped":
        return Check("problem", "announced by this processor, and traps when executed", AMX_REMEDY, data)
    words = {
        "ok": "announced and works",
        "denied": "announced, and denied by this kernel, so nothing will use it",
        "unknown": "announced; it could not be tried here",
    }
    return Check("ok", words[outcome], None, data)


def check_memory() -> Check:
    """Memory that the machine has, and what of it is free."""
    fields = {}
    for line in (read_text("/proc/meminfo") or "").splitlines():
        key, _, value = line.partition(":")
        fields[key] = int(value.split()[0]) * 1024
    total, available = fields.get("MemTotal"), fields.get("MemAvailable")
    if total is None or available is None:
        return Check("ok", "not known on this system", None, {"total": None, "available": None})
    limit_text = read_text("/sys/fs/cgroup/memory.max") or ""
    limit = int(limit_text) if limit_text.isdigit() else None
    usable = min(available, limit) if limit is not None else available
    data = {"total": total, "available": available, "limit": limit}
    found = f"{total / 1e9:.1f} GB, {usable / 1e9:.1f} GB of it available"
    if usable < _LITTLE_MEMORY:
        remedy = "close other programs, or use the built-in bundle: ViT-L-14-336 at 518 px in fp32 takes about 3 GB"
        return Check("problem", found, remedy, data)
    return Check("ok", found, None, data)
