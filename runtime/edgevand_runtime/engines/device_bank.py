"""The search of the memory bank on the GPU that encoded the frame, so that its tokens never come down (docs/edge.md).

``d(p) = 1 - max over the bank of cos(x(p), f)`` (methods.md (a)): one matrix product of half-precision unit vectors,
accumulated and written in float32 (cuBLAS, ``cublasGemmEx``), then a maximum. NumPy's ``matmul`` on halves, which CuPy
follows, would round the cosine itself to a half, 0.0005 near 1.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.engines import EncoderOutput
    from edgevand_runtime.memory import MemoryBank

__all__ = ["DeviceBank", "DeviceEngine", "DeviceTokens", "agrees"]

_LOG = logging.getLogger(__name__)

_BLOCK = 64 << 20
"""Bytes of similarities that are on the device at once."""

_TRANSPOSED, _AS_IT_IS = 1, 0  # cublasOperation_t
_HALF, _SINGLE = 2, 0  # cudaDataType_t: CUDA_R_16F, CUDA_R_32F
_COMPUTE_SINGLE = 68  # cublasComputeType_t: CUBLAS_COMPUTE_32F
_ANY_ALGORITHM = -1  # cublasGemmAlgo_t: CUBLAS_GEMM_DEFAULT

_TRIAL = 64
_TOLERANCE = 2e-3
"""Rounding both unit vectors to halves moves a cosine by at most 2 * 2**-11."""


@runtime_checkable
class DeviceEngine(Protocol):
    """An engine that can leave tokens where it computed them, and search a bank there."""

    def run_on_device(self, images: NDArray[np.float32], text: NDArray[np.float32] | None) -> EncoderOutput:
        """As ``Engine.run``, but the tokens are ``DeviceTokens``."""

    def search_on_device(self, memory: MemoryBank) -> DeviceBank | None:
        """A bank's search for such tokens; None where this device cannot do it, which the log then says."""


class DeviceTokens:
    """(N, P, C) float32 tokens on the device; what is indexed, or made a NumPy array of, comes down."""

    __slots__ = ("array", "shape")

    def __init__(self, array: Any) -> None:  # noqa: ANN401 (cupy.ndarray)
        """Hold a CuPy array."""
        self.array = array
        self.shape: tuple[int, ...] = array.shape

    def __len__(self) -> int:
        """N frames."""
        return self.shape[0]

    def __getitem__(self, key: int) -> NDArray[np.float32]:
        """(P, C) of one frame."""
        tokens: NDArray[np.float32] = self.array[key].get()
        return tokens

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: ANN401, FBT001 - NumPy's
        """All of them."""
        del copy  # what comes down is always new
        return np.asarray(self.array.get(), dtype)


class DeviceBank:
    """A memory bank whose searched rows lie on the device in half precision."""

    def __init__(self, memory: MemoryBank, cupy: Any, index: int, stream: Any) -> None:  # noqa: ANN401
        """Bring the rows up.

        Args:
            memory: the bank; keeps what enrolment and explanations read.
            cupy: the module.
            index: CUDA's number of the GPU.
            stream: CuPy stream on which the tokens are computed.
        """
        self._memory, self._cupy, self._stream = memory, cupy, stream
        self._device = cupy.cuda.Device(index)
        with self._device, stream:
            self._rows = [cupy.asarray(np.ascontiguousarray(held.rows, np.float16)) for held in memory.held]

    def distances(self, queries: Sequence[DeviceTokens | NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Distance of every patch to the nearest enrolled one.

        Args:
            queries: for each stage (N, P, C) unit vectors on the device; changed ones may be on the host.

        Returns:
            For each stage (N, P) float32 in [0, 2], on the host.
        """
        with self._device, self._stream:
            found = [self._nearest(self._there(query), rows) for query, rows in zip(queries, self._rows, strict=True)]
            return [1.0 - nearest.get().reshape(query.shape[:2]) for nearest, query in zip(found, queries, strict=True)]

    def leave_out(self, groups: Sequence[int]) -> list[NDArray[np.float32]]:
        """As ``MemoryBank.leave_out``, on the processor: only enrolment asks for it."""
        return self._memory.leave_out(groups)

    def _there(self, query: DeviceTokens | NDArray[np.float32]) -> Any:  # noqa: ANN401 (cupy.ndarray)
        return query.array if isinstance(query, DeviceTokens) else self._cupy.asarray(query)

    def _nearest(self, query: Any, rows: Any) -> Any:  # noqa: ANN401 (cupy.ndarray)
        """Largest cosine of each of N P queries with the rows: (N P,) float32 on the device."""
        flat = query.reshape(-1, query.shape[-1]).astype(self._cupy.float16)
        block = max(1, _BLOCK // (4 * len(flat)))
        best = None
        for start in range(0, len(rows), block):
            largest = self._product(flat, rows[start : start + block]).max(axis=1)
            best = largest if best is None else self._cupy.maximum(best, largest)
        return best

    def _product(self, queries: Any, rows: Any) -> Any:  # noqa: ANN401 (cupy.ndarray)
        """(Q, C) and (M, C) float16, contiguous, to their products (Q, M) float32.

        cuBLAS counts columns first: what it writes as (M, Q) = rows . queries^T is (Q, M) for everybody else.
        """
        (count, width), found = queries.shape, len(rows)
        products = self._cupy.empty((count, found), self._cupy.float32)
        one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
        self._cupy.cuda.cublas.gemmEx(
            self._cupy.cuda.device.get_cublas_handle(),
            _TRANSPOSED,
            _AS_IT_IS,
            found,
            count,
            width,
            one.ctypes.data,
            rows.data.ptr,
            _HALF,
            width,
            queries.data.ptr,
            _HALF,
            width,
            zero.ctypes.data,
            products.data.ptr,
            _SINGLE,
            found,
            _COMPUTE_SINGLE,
            _ANY_ALGORITHM,
        )
        return products


def agrees(bank: DeviceBank, memory: MemoryBank, cupy: Any) -> bool:  # noqa: ANN401
    """Whether the device finds for some rows, turned a little, the distances that the processor finds."""
    queries = []
    for held in memory.held:
        rows = held.rows[:_TRIAL].astype(np.float32)
        turned = rows + 0.5 * np.roll(rows, 1, axis=1)
        queries.append((turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-12))[None])
    wanted = memory.distances(queries)
    found = bank.distances([DeviceTokens(cupy.asarray(query)) for query in queries])
    error = max(float(np.abs(a - b).max()) for a, b in zip(wanted, found, strict=True))
    if not error <= _TOLERANCE:
        _LOG.warning("the bank's search on the GPU differs by %.2g from the processor's, which is used instead", error)
    return error <= _TOLERANCE
