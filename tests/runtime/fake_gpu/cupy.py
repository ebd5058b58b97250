"""CuPy as the engines use it, on the processor: arrays with an address, streams that are done at once, pinned memory.

Free memory of the "GPU" is ``FAKE_GPU_FREE`` bytes; an array that is larger is refused as CuPy refuses it.
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Self

__version__ = "13.4.0"

float16, float32 = np.float16, np.float32


class OutOfMemoryError(MemoryError):
    """As CuPy's."""


class ndarray(np.ndarray):  # noqa: N801 - CuPy's name
    """An array "on the device": its address is ``data.ptr``, and it only leaves by ``get``."""

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)

    def set(self, values: np.ndarray) -> None:
        assert values.dtype == self.dtype
        assert values.shape == self.shape
        self[...] = values

    def get(self) -> np.ndarray:
        return np.array(self)


def _free() -> int:
    return int(os.environ.get("FAKE_GPU_FREE", str(8 << 30)))


def empty(shape: tuple[int, ...], dtype: Any = float32) -> ndarray:
    array = np.full(shape, 77, dtype).view(ndarray)  # memory of a pool holds what was there before
    if array.nbytes > _free():
        raise OutOfMemoryError(f"Out of memory allocating {array.nbytes} bytes")
    return array


def asarray(values: Any, dtype: Any = None) -> ndarray:
    return np.array(values, dtype).view(ndarray)


class _Entered:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Device(_Entered):
    """The only one there is."""

    def __init__(self, index: int) -> None:
        assert index == 0


class Stream(_Entered):
    """A stream that is done at once."""

    def __init__(self, *, non_blocking: bool) -> None:
        assert non_blocking
        self.ptr = 4711

    def synchronize(self) -> None:
        pass


cuda = SimpleNamespace(
    Device=Device,
    Stream=Stream,
    alloc_pinned_memory=bytearray,
    memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    runtime=SimpleNamespace(memGetInfo=lambda: (_free(), 8 << 30), runtimeGetVersion=lambda: 12080),
)
