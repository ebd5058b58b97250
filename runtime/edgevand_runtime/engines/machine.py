"""What a proof is about: the library that computes and the device that it runs on, by name and version."""

from __future__ import annotations

import hashlib
import platform
import sys
from functools import lru_cache
from pathlib import Path

from edgevand_runtime.engines.cuda_driver import cuda_driver

__all__ = ["device_name", "library_version", "processor_name"]

_MODULES = {
    "onnxruntime": ("onnxruntime",),
    "onnxruntime-openvino": ("onnxruntime",),
    "onnxruntime-tensorrt": ("onnxruntime",),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
"""Modules that an engine of that kind has imported, of which one carries the version."""


def library_version(engine: str) -> str:
    """Version of the library behind an engine that is open, by the engine's name (``onnxruntime:cpu``)."""
    for module in _MODULES.get(engine.partition(":")[0], ()):
        if module in sys.modules:
            return str(sys.modules[module].__version__)
    return "unknown"


def device_name(engine: str) -> str:
    """The device that an open engine runs on, by the engine's name."""
    family, _, index = engine.partition(":")[2].partition(":")
    if family == "cuda":
        driver = cuda_driver()
        if driver is None or int(index) >= len(driver.devices):
            return "unknown GPU"
        device = driver.devices[int(index)]
        major, minor = device.capability
        return f"{device.name} (sm_{major}{minor}, driver for CUDA {driver.cuda[0]}.{driver.cuda[1]})"
    if family == "gpu":
        try:
            import openvino

            return str(openvino.Core().get_property(f"GPU.{index}", "FULL_DEVICE_NAME"))
        except (ImportError, RuntimeError):  # ONNX Runtime's provider brings a library of its own
            return "unknown GPU"
    return processor_name()


@lru_cache(maxsize=1)
def processor_name() -> str:
    """The processor's model, and a digest of its instruction sets, which virtual machines hide at will."""
    model, flags = platform.machine(), ""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "model name":
            model = value
        elif key in {"flags", "Features"}:
            flags = " ".join(sorted(value.split()))
    return f"{model} ({hashlib.sha256(flags.encode()).hexdigest()[:8]})"
