"""What TensorRT-RTX has beside TensorRT: builds for other GPUs, and a cache of what is compiled at run time."""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Any

from tests.runtime.fake_gpu import tensorrt
from tests.runtime.fake_gpu.tensorrt import (
    BuilderFlag,
    DataType,
    ILogger,
    IProgressMonitor,
    MemoryPoolType,
    NetworkDefinitionCreationFlag,
    OnnxParser,
    TensorIOMode,
)

__all__ = [
    "Builder",
    "BuilderFlag",
    "ComputeCapability",
    "DataType",
    "ILogger",
    "IProgressMonitor",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "Runtime",
    "TensorIOMode",
]

__version__ = "1.7.1"


class ComputeCapability(enum.IntEnum):
    """Targets of the builder."""

    NONE = 0
    CURRENT = 1
    SM86 = 86
    SM89 = 89


class _Config(tensorrt._Config):
    num_compute_capabilities = 0

    def set_compute_capability(self, capability: ComputeCapability, index: int) -> bool:
        assert index < self.num_compute_capabilities
        self.targets.append(capability.name)
        return True


class Builder(tensorrt.Builder):
    """Makes plans for GPUs that are not here."""

    def create_builder_config(self) -> _Config:
        return _Config()


class _RuntimeCache:
    data = b""

    def deserialize(self, data: bytes) -> bool:
        self.data = data
        return True

    def serialize(self) -> bytes:
        return self.data or b"compiled"


class _RuntimeConfig:
    def create_runtime_cache(self) -> _RuntimeCache:
        return _RuntimeCache()

    def set_runtime_cache(self, cache: _RuntimeCache) -> bool:
        if "FAKE_TENSORRT_LOG" in os.environ:
            with Path(os.environ["FAKE_TENSORRT_LOG"]).open("a") as file:
                file.write(f"starts with {cache.data!r}\n")
        return True


class _Engine(tensorrt._Engine):
    def create_runtime_config(self) -> _RuntimeConfig:
        return _RuntimeConfig()


class Runtime(tensorrt.Runtime):
    """Loads plans."""

    engine_type: Any = _Engine
