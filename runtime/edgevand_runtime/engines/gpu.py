"""NVIDIA GPUs for TensorRT, and arrays on them through CuPy: NumPy's interface on the device.

CuPy and not cuda-python: pinned memory, streams, a pool that hands freed memory out again and array arithmetic are one
object each, where the latter gives the bare driver interface and all of them would have to be written here.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Any

from edgevand.errors import MissingDependencyError, UsageError
from edgevand_runtime.engines.cuda_driver import cuda_driver, require_cuda

__all__ = ["MIB", "Gpu", "cupy_cuda", "find_gpu", "free_memory", "load_cupy"]

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of this machine.

    Attributes:
        index: CUDA's number of it.
        name: as the driver says it.
        target: its compute capability, like ``sm89``.
        driver: the newest CUDA that the driver can run, like ``12.8``.
    """

    index: int
    name: str
    target: str
    driver: str


def find_gpu(device: str, library: str, made_for: str | None = None) -> Gpu:
    """The GPU that a ``--device`` names.

    Args:
        device: ``auto`` or ``cuda`` for the first, or ``cuda:N``.
        library: what it is for, by name and version, for the sentence.
        made_for: the CUDA which that library was made for, like ``12.8``; None where it does not say.

    Raises:
        UsageError: another device.
        UnavailableError: there is no such GPU, no driver, or one that is too old for the library.
    """
    match = re.fullmatch(r"auto|cuda(?::(\d+))?", device)
    if match is None:
        raise UsageError(f"expected --device auto, cuda or cuda:N for {library}, found {device!r}; choose one")
    index = int(match.group(1) or 0)
    found = require_cuda(library, made_for, index)
    driver = cuda_driver()
    cuda = (0, 0) if driver is None else driver.cuda
    return Gpu(index, found.name, f"sm{found.capability[0]}{found.capability[1]}", f"{cuda[0]}.{cuda[1]}")


def load_cupy() -> Any:  # noqa: ANN401 (CuPy is optional and has no annotations)
    """The module ``cupy``.

    Raises:
        MissingDependencyError: it is not installed, or does not fit this system.
    """
    try:
        return importlib.import_module("cupy")
    except (ImportError, OSError) as error:  # OSError: a library that it needs cannot be loaded
        found = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise MissingDependencyError(
            f"expected CuPy, which keeps arrays on the GPU, found none that loads ({found}); install it with "
            "pip install 'edgevand[tensorrt]' or take --backend onnxruntime"
        ) from error


def cupy_cuda(cupy: Any) -> str:  # noqa: ANN401
    """The CUDA that this CuPy was made for, like ``12.9``."""
    number = int(cupy.cuda.runtime.runtimeGetVersion())
    return f"{number // 1000}.{number % 1000 // 10}"


def free_memory(gpu: Gpu) -> int:
    """Bytes of the GPU that nobody uses."""
    cupy = load_cupy()
    with cupy.cuda.Device(gpu.index):
        return int(cupy.cuda.runtime.memGetInfo()[0])
