"""NVIDIA's driver, asked through its own library: which GPUs there are, and which CUDA it can run. Needs no package.

Sources: CUDA Driver API, initialisation and device management; CUDA Compatibility, "minor version compatibility": a
driver runs every library made for its own major version of CUDA or an older one, and none made for a newer one.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache

from edgevand.errors import UnavailableError

__all__ = ["CudaDevice", "CudaDriver", "cuda_driver", "require_cuda"]

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """One GPU.

    Attributes:
        name: as the driver calls it.
        capability: compute capability, major and minor.
        memory: bytes.
    """

    name: str
    capability: tuple[int, int]
    memory: int


@dataclass(frozen=True, slots=True)
class CudaDriver:
    """What the driver says.

    Attributes:
        cuda: the newest CUDA that it can run, major and minor.
        devices: the GPUs that this process may use, in CUDA's order.
    """

    cuda: tuple[int, int]
    devices: tuple[CudaDevice, ...]


@lru_cache(maxsize=1)
def cuda_driver() -> CudaDriver | None:
    """The driver; None where there is none, or none that starts."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    version, count = ctypes.c_int(0), ctypes.c_int(0)
    if cuda.cuInit(0) or cuda.cuDriverGetVersion(ctypes.byref(version)) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return None
    devices = tuple(_device(cuda, index) for index in range(count.value))
    return CudaDriver((version.value // 1000, version.value % 1000 // 10), devices)


def _device(cuda: ctypes.CDLL, index: int) -> CudaDevice:
    """Describe the GPU of a number below the count."""
    handle, name, memory = ctypes.c_int(0), ctypes.create_string_buffer(256), ctypes.c_size_t(0)
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    cuda.cuDeviceGet(ctypes.byref(handle), index)
    cuda.cuDeviceGetName(name, len(name), handle)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, handle)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, handle)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
    return CudaDevice(name.value.decode(errors="replace"), (major.value, minor.value), memory.value)


def require_cuda(library: str, made_for: str | None, index: int) -> CudaDevice:
    """The GPU that a library is about to use.

    Args:
        library: its name and version, for the sentence.
        made_for: the CUDA it was made for, like ``13.0``; None or empty where it does not say.
        index: of the GPU.

    Raises:
        UnavailableError: no driver, a driver that is too old for the library, or no GPU of that number.
    """
    driver = cuda_driver()
    if driver is None or not driver.devices:
        found = "no NVIDIA driver that starts" if driver is None else "a driver without a GPU"
        raise UnavailableError(
            f"expected an NVIDIA GPU for {library}, found {found}; see edgevand doctor, or run with --device cpu."
        )
    major = made_for.split(".")[0] if made_for else ""
    if major.isdigit() and driver.cuda[0] < int(major):
        raise UnavailableError(
            f"expected an NVIDIA driver for CUDA {made_for}, for which {library} was made, found one for CUDA "
            f"{driver.cuda[0]}.{driver.cuda[1]}; update the driver, or install {library.partition(' ')[0]} for CUDA "
            f"{driver.cuda[0]}."
        )
    if index >= len(driver.devices):
        count = len(driver.devices)
        raise UnavailableError(
            f"expected a GPU cuda:{index}, found {count} GPU{'' if count == 1 else 's'}; count from cuda:0."
        )
    return driver.devices[index]
