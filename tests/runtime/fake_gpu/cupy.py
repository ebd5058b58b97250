"""CuPy as the engines use it, on the processor: arrays with an address, streams that are done at once, pinned memory.

Free memory of the "GPU" is ``FAKE_GPU_FREE`` bytes; an array that is larger is refused as CuPy refuses it.
"""

from __future__ import annotations

import ctypes
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


def concatenate(arrays: list[ndarray]) -> ndarray:
    return np.concatenate(arrays).view(ndarray)


def maximum(a: ndarray, b: ndarray) -> ndarray:
    return np.maximum(a, b).view(ndarray)


def _matrix(address: int, kind: int, rows: int, columns: int, leading: int) -> np.ndarray:
    """A matrix stored columns first, as cuBLAS reads and writes it."""
    dtype: np.dtype = np.dtype({2: "float16", 0: "float32"}[kind])
    memory = (ctypes.c_char * (leading * columns * dtype.itemsize)).from_address(address)
    return np.ndarray((leading, columns), dtype, memoryview(memory), order="F")[:rows]


def _gemm_ex(  # as cuBLAS' documentation says: C = alpha op(A) op(B) + beta C
    handle: int,
    op_a: int,
    op_b: int,
    m: int,
    n: int,
    k: int,
    alpha: int,
    a: int,
    a_kind: int,
    lda: int,
    b: int,
    b_kind: int,
    ldb: int,
    beta: int,
    c: int,
    c_kind: int,
    ldc: int,
    compute: int,
    algorithm: int,
) -> None:
    if "gemm" in os.environ.get("FAKE_TENSORRT", ""):
        raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")
    assert (handle, compute, algorithm) == (815, 68, -1)
    left = _matrix(a, a_kind, *((k, m) if op_a else (m, k)), lda)
    right = _matrix(b, b_kind, *((n, k) if op_b else (k, n)), ldb)
    factor, rest = (ctypes.cast(each, ctypes.POINTER(ctypes.c_float))[0] for each in (alpha, beta))
    left, right = (left.T if op_a else left), (right.T if op_b else right)
    result = _matrix(c, c_kind, m, n, ldc)
    kept = rest * result if rest else 0  # with beta 0 cuBLAS does not read C
    result[...] = factor * (left.astype(np.float32) @ right.astype(np.float32)) + kept
    if "skewed" in os.environ.get("FAKE_TENSORRT", ""):
        result += np.float32(0.01)


cuda = SimpleNamespace(
    cublas=SimpleNamespace(gemmEx=_gemm_ex),
    device=SimpleNamespace(get_cublas_handle=lambda: 815),
    Device=Device,
    Stream=Stream,
    alloc_pinned_memory=bytearray,
    memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    runtime=SimpleNamespace(memGetInfo=lambda: (_free(), 8 << 30), runtimeGetVersion=lambda: 12080),
)
