"""TensorRT's Python interface (10.x), as its documentation records it, for what only a GPU could show.

A plan is a JSON object that names the graph and how it was built; ONNX Runtime computes in place of the GPU, reading
and writing at the addresses that it is given. ``FAKE_TENSORRT`` names faults between commas; ``FAKE_TENSORRT_LOG``
is a file that a build adds a line to.
"""

from __future__ import annotations

import ctypes
import enum
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

__version__ = "10.13.0"


def _fault(name: str) -> bool:
    return name in os.environ.get("FAKE_TENSORRT", "").split(",")


class _Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    """Base of loggers."""

    Severity = _Severity

    def log(self, severity: _Severity, msg: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    """Base of monitors."""


class NetworkDefinitionCreationFlag(enum.IntEnum):
    """Kinds of networks."""

    STRONGLY_TYPED = 1


class BuilderFlag(enum.IntEnum):
    """Modes of the builder; TF32 is set where nobody clears it."""

    TF32 = 7


class MemoryPoolType(enum.IntEnum):
    """Kinds of memory."""

    WORKSPACE = 0


class TensorIOMode(enum.IntEnum):
    """Input or output."""

    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DataType(enum.Enum):
    """Types of tensors."""

    FLOAT = 0
    HALF = 1


class _Network:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.graph = ""


class _Profile:
    def set_shape(self, name: str, smallest: Any, best: Any, largest: Any) -> None:
        assert name == "image"
        self.shapes = [list(smallest), list(best), list(largest)]


class _TimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data + b"t"


class _Config:
    def __init__(self) -> None:
        self.flags = {BuilderFlag.TF32}
        self.workspace: int | None = None
        self.progress_monitor: Any = None
        self.cache: _TimingCache | None = None
        self.targets: list[str] = []
        self.profile = _Profile()

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        assert pool == MemoryPoolType.WORKSPACE
        self.workspace = size

    def add_optimization_profile(self, profile: _Profile) -> int:
        self.profile = profile
        return 0

    def create_timing_cache(self, data: bytes) -> _TimingCache:
        return _TimingCache(data)

    def set_timing_cache(self, cache: _TimingCache, ignore_mismatch: bool) -> bool:  # noqa: FBT001 - as recorded
        assert not ignore_mismatch
        self.cache = cache
        return True

    def get_timing_cache(self) -> _TimingCache | None:
        return self.cache


class Builder:
    """Makes plans."""

    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def create_network(self, flags: int) -> _Network:
        return _Network(flags)

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        monitor = config.progress_monitor
        monitor.phase_start("Building engine", None, 2)
        if "FAKE_TENSORRT_LOG" in os.environ:
            with Path(os.environ["FAKE_TENSORRT_LOG"]).open("a") as file:
                file.write(f"{os.getpid()}\n")
        if _fault("build-slow"):
            time.sleep(float(os.environ.get("FAKE_TENSORRT_SECONDS", "60")))
        if _fault("build-killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        if _fault("build-memory"):
            self.logger.log(
                _Severity.WARNING,
                "Requested amount of GPU memory (12884901888 bytes) could not be allocated. There may not be enough "
                "free memory for allocation to succeed.",
            )
            self.logger.log(_Severity.ERROR, "Error Code 2: OutOfMemory (no further information)")
            return None
        if _fault("build-none"):
            self.logger.log(_Severity.ERROR, "Error Code 10: Could not find any implementation for node Gelu_7")
            return None
        if not monitor.step_complete("Building engine", 0):
            return None
        monitor.phase_finish("Building engine")
        plan = {
            "graph": network.graph,
            "network flags": network.flags,
            "flags": sorted(flag.name for flag in config.flags),
            "workspace": config.workspace,
            "profile": config.profile.shapes,
            "timings": None if config.cache is None else config.cache.data.decode(),
            "targets": config.targets,
        }
        return json.dumps(plan).encode()


class OnnxParser:
    """Takes any graph."""

    def __init__(self, network: _Network, logger: ILogger) -> None:
        self.network = network
        self.num_errors = 0

    def parse_from_file(self, path: str) -> bool:
        self.network.graph = path
        self.num_errors = int(_fault("parse"))
        return not self.num_errors

    def get_error(self, number: int) -> str:
        return f"In node {number} (importGelu): UNSUPPORTED_NODE: no importer for Gelu"


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self.engine.profile
        fits = name != "image" or all(a <= b <= c for a, b, c in zip(smallest, shape, largest, strict=True))
        self.shapes[name] = shape
        return fits and not _fault("shape")

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return not _fault("address")

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle == 4711
        if _fault("enqueue"):
            self.engine.logger.log(_Severity.ERROR, "IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (700)")
            return False
        names = [node.name for node in self.engine.session.get_outputs()]
        feed = {name: _memory(self.addresses[name], shape).copy() for name, shape in self.shapes.items()}
        for name, value in zip(names, self.engine.session.run(names, feed), strict=True):
            _memory(self.addresses[name], value.shape)[...] = value
        return True


def _memory(address: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), shape)


class _Engine:
    device_memory_size_v2 = 3 << 30

    def __init__(self, plan: dict[str, Any], logger: ILogger) -> None:
        self.logger = logger
        self.profile = plan["profile"]
        self.session = ort.InferenceSession(plan["graph"], providers=["CPUExecutionProvider"])
        self.inputs = [node.name for node in self.session.get_inputs()]
        self.names: list[str] = self.inputs + [node.name for node in self.session.get_outputs()]
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.HALF if _fault("half") else DataType.FLOAT

    def create_execution_context(self, *_: object) -> _Context | None:
        if _fault("context"):
            self.logger.log(_Severity.ERROR, "Error Code 2: OutOfMemory (Requested size was 3221225472 bytes.)")
            return None
        return _Context(self)


class Runtime:
    """Loads plans."""

    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, data: bytes) -> Any:
        if _fault("load"):
            self.logger.log(_Severity.ERROR, "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed.")
            return None
        return self.engine_type(json.loads(data), self.logger)

    engine_type: Any = _Engine
