"""Inference engines and the graphics processor behind them."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import re
from importlib import metadata
from typing import Any

from edgevand_runtime.doctor.check import Check, read_text, run, run_python

__all__ = ["check_cuda", "check_onnxruntime", "check_tensorrt", "installed"]

EDGE_DOCS = "docs/edge-devices.md"

_ORT_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")

_TENSORRT_MODULES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
_TENSORRT_DISTRIBUTIONS = (
    "tensorrt",
    "tensorrt-cu12",
    "tensorrt-cu13",
    "tensorrt-rtx",
    "tensorrt-rtx-cu12-bindings",
    "tensorrt-rtx-cu13-bindings",
)
_NEWER_DRIVER = "update the NVIDIA driver, or install the library's build for the CUDA that the driver supports"

# Importing takes its own process: a wheel for another machine can crash instead of raising.
_PROBE_ORT = """
import json, onnxruntime
from edgevand_runtime.engines.onnxruntime import cuda_of_build
providers = onnxruntime.get_available_providers()
print(json.dumps({"version": onnxruntime.__version__, "providers": providers, "cuda": cuda_of_build()}))
"""

# CUDA's driver interface, without any toolkit: cuInit, cuDeviceGetCount, cuDeviceGetName, cuDeviceGetAttribute.
_PROBE_CUDA = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
code = cuda.cuInit(0)
devices, count, version = [], ctypes.c_int(0), ctypes.c_int(0)
if code == 0:
    cuda.cuDriverGetVersion(ctypes.byref(version))
    code = cuda.cuDeviceGetCount(ctypes.byref(count))
for index in range(count.value):
    device, name, major, minor = ctypes.c_int(0), ctypes.create_string_buffer(256), ctypes.c_int(0), ctypes.c_int(0)
    memory = ctypes.c_size_t(0)
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, 256, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    capability = [major.value, minor.value]
    devices.append({"name": name.value.decode(), "compute_capability": capability, "memory": memory.value})
print(json.dumps({"code": code, "driver_supports_cuda": version.value / 1000, "devices": devices}))
"""


def installed(*distributions: str) -> dict[str, str]:
    """Versions of those distributions that are installed here."""
    versions = {}
    for name in distributions:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _probe(code: str) -> dict[str, Any] | None:
    """The JSON object that ``code`` prints in a process of its own; None where it failed."""
    import json

    done = run_python(code)
    if done is None or done.returncode != 0:
        return None
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def check_onnxruntime() -> Check:
    """ONNX Runtime, its execution providers, and whether two wheels of it overwrite each other."""
    wheels = installed(*_ORT_DISTRIBUTIONS)
    answer = _probe(_PROBE_ORT)
    data = {"wheels": wheels, **(answer or {})}
    if answer is None:
        remedy = f"install it with `pip install onnxruntime`; on a Jetson take NVIDIA's wheel ({EDGE_DOCS})"
        return Check("problem", "ONNX Runtime cannot be imported", remedy, data)
    found = f"ONNX Runtime {answer['version']}, providers: {', '.join(answer['providers'])}"
    if len(wheels) > 1:
        remedy = f"uninstall all of {', '.join(wheels)} and install the one you want: they overwrite each other's files"
        return Check("problem", f"{found}; {len(wheels)} wheels of it are installed", remedy, data)
    old = _driver_too_old(f"ONNX Runtime {answer['version']}", answer.get("cuda"))
    if old is not None:
        return Check("problem", f"{found}; {old}", _NEWER_DRIVER, data)
    if "CUDAExecutionProvider" not in answer["providers"] and _cuda_devices():
        remedy = f"for this GPU, put onnxruntime-gpu in the place of onnxruntime ({EDGE_DOCS})"
        return Check("problem", f"{found}; none of them uses the NVIDIA GPU of this machine", remedy, data)
    return Check("ok", found, None, data)


def _driver_too_old(library: str, made_for: str | None) -> str | None:
    """What to say of a driver that cannot run a library made for a newer major version of CUDA; None where it can."""
    major = (made_for or "").partition(".")[0]
    answer = _probe(_PROBE_CUDA) if major.isdigit() else None
    if not answer or not answer["devices"] or int(answer["driver_supports_cuda"]) >= int(major):
        return None
    supported = f"{answer['driver_supports_cuda']:g}"
    return f"{library} was made for CUDA {made_for}, and the NVIDIA driver supports CUDA {supported} at most"


def _cuda_devices() -> list[dict[str, Any]]:
    """The GPUs that the NVIDIA driver lists."""
    answer = _probe(_PROBE_CUDA)
    devices: list[dict[str, Any]] = answer["devices"] if answer else []
    return devices


def check_cuda() -> Check:
    """NVIDIA driver and GPUs, asked through the driver's own library."""
    answer = _probe(_PROBE_CUDA)
    smi = run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    lines = smi.stdout.split("\n") if smi is not None and smi.returncode == 0 else []
    driver = read_text("/sys/module/nvidia/version")
    data = {"driver": driver, "nvidia_smi": [line for line in lines if line], **(answer or {"devices": []})}
    if answer is None or not answer["devices"]:
        if driver is None and not data["nvidia_smi"]:
            remedy = "nothing to do on a machine without an NVIDIA GPU; with one, install NVIDIA's driver"
            return Check("absent", "no NVIDIA driver", remedy, data)
        code = answer["code"] if answer else "libcuda.so.1 cannot be loaded"
        remedy = (
            "restart after an update of the driver; in a container, start it with the NVIDIA runtime "
            "(`docker run --gpus all`, on a Jetson `--runtime nvidia`)"
        )
        return Check("problem", f"an NVIDIA driver, and no usable GPU (CUDA says {code})", remedy, data)
    gpus = ", ".join(f"{gpu['name']} (sm_{''.join(map(str, gpu['compute_capability']))})" for gpu in answer["devices"])
    return Check("ok", f"{gpus}; the driver supports CUDA {answer['driver_supports_cuda']:.1f}", None, data)


def check_tensorrt() -> Check:
    """The Python modules of TensorRT and TensorRT-RTX, the library, and whether the driver can run it."""
    modules = {name: importlib.util.find_spec(name) is not None for name in _TENSORRT_MODULES}
    library = ctypes.util.find_library("nvinfer")
    versions = installed(*_TENSORRT_DISTRIBUTIONS)
    data = {"modules": modules, "library": library, "versions": versions}
    if any(modules.values()):
        named = ", ".join(f"{name} {version}" for name, version in versions.items())
        found = named or f"Python modules {', '.join(name for name, there in modules.items() if there)}"
        for name, version in versions.items():
            made_for = re.search(r"-cu(\d+)", name)
            old = _driver_too_old(f"{name} {version}", made_for[1] if made_for else None)
            if old is not None:
                return Check("problem", old, _NEWER_DRIVER, data)
        if not _cuda_devices():
            found += "; no GPU here: `edgevand build --target` builds for another one"
        return Check("ok", found, None, data)
    if library is not None:
        remedy = (
            f"make the environment with `python3 -m venv --system-site-packages` so that it sees them ({EDGE_DOCS})"
        )
        return Check("problem", f"TensorRT's library {library}, but no Python module of it", remedy, data)
    remedy = "nothing to do: ONNX Runtime runs every bundle; TensorRT comes with JetPack on a Jetson"
    return Check("absent", "no TensorRT", remedy, data)
