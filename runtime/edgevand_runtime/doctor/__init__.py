"""What this machine has, and what to do about what it lacks (``edgevand doctor``).

Each check is a function without arguments that returns a ``Check``. A check never raises, and never hangs: whatever
can crash or block (an instruction that traps, a camera that does not answer) runs in a process of its own.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from edgevand_runtime.doctor import accelerators, cameras, engines, processor, software, storage
from edgevand_runtime.doctor.check import Check
from edgevand_runtime.frame import iso_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CHECKS", "DOCTOR_SCHEMA", "Check", "examine", "to_json"]

DOCTOR_SCHEMA = "edgevand.doctor/1"

CHECKS: dict[str, Callable[[], Check]] = {
    "system": processor.check_system,
    "processor": processor.check_processor,
    "amx": processor.check_amx,
    "memory": processor.check_memory,
    "onnxruntime": accelerators.check_onnxruntime,
    "cuda": accelerators.check_cuda,
    "tensorrt": accelerators.check_tensorrt,
    "engines": engines.check_engines,
    "opencv": software.check_opencv,
    "gstreamer": software.check_gstreamer,
    "ffmpeg": software.check_ffmpeg,
    "packages": software.check_packages,
    "export": software.check_export,
    "cameras": cameras.check_cameras,
    "storage": storage.check_storage,
    "bundles": storage.check_bundles,
    "banks": storage.check_banks,
}
"""In the order in which they are reported."""


def examine() -> Iterator[tuple[str, Check]]:
    """Run every check, yielding its name and outcome as it is known."""
    for name, check in CHECKS.items():
        try:
            yield name, check()
        except Exception as error:  # noqa: BLE001 (one check that fails must not hide the others)
            found = f"this check failed: {type(error).__name__}: {error}"
            yield name, Check("problem", found, "please report it with the output of `edgevand doctor --json`")


def to_json(checks: dict[str, Check], version: str) -> dict[str, Any]:
    """The document of ``edgevand doctor --json``."""
    return {
        "schema": DOCTOR_SCHEMA,
        "version": version,
        "time": iso_time(datetime.now(timezone.utc)),
        "problems": [name for name, check in checks.items() if check.state == "problem"],
        "checks": {name: check.to_json() for name, check in checks.items()},
    }
