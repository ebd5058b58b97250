"""TensorRT and TensorRT-RTX: the graph as a plan that was built for one GPU, run on it (docs/edge.md).

Frames go up through pinned memory, one stream does everything in order, and what the caller reads comes down. What is
allocated for a frame comes from CuPy's pool, which hands the same memory out again.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand.errors import FormatError, UnavailableError, UsageError
from edgevand_runtime.engines.device_bank import DeviceBank, DeviceTokens, agrees
from edgevand_runtime.engines.engine_files import (
    Wanted,
    differences,
    engine_path,
    graph_hash,
    read_engine_record,
    read_plan,
)
from edgevand_runtime.engines.gpu import MIB, cupy_cuda, find_gpu, free_memory, load_cupy
from edgevand_runtime.engines.ports import Ports
from edgevand_runtime.engines.tensorrt_library import load_library, make_logger, requested_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand.bundle import Bundle, Manifest, Precision
    from edgevand_runtime.engines import EncoderOutput
    from edgevand_runtime.engines.engine_files import Flavour
    from edgevand_runtime.engines.gpu import Gpu
    from edgevand_runtime.engines.tensorrt_library import Library
    from edgevand_runtime.memory import MemoryBank

__all__ = ["TensorRTEngine", "open_tensorrt"]

_LOG = logging.getLogger(__name__)


def open_tensorrt(bundle: Bundle, device: str, precision: Precision | None, flavour: Flavour) -> TensorRTEngine:
    """Open the engine that ``edgevand build`` made of a bundle for this GPU.

    Args:
        bundle: a verified bundle.
        device: ``auto``, ``cuda`` or ``cuda:N``.
        precision: of the graph; None for the bundle's first.
        flavour: the library.

    Raises:
        UsageError: a precision that the bundle has no graph for.
        UnavailableError: no library, no GPU, no engine, one that is stale or damaged, or too little memory.
    """
    library = load_library(flavour)
    cupy = load_cupy()
    gpu = find_gpu(device, f"CuPy {cupy.__version__}", cupy_cuda(cupy))
    chosen = precision or bundle.manifest.graph.precision
    wanted = Wanted(graph_hash(bundle, chosen), chosen, flavour, library.version, gpu.target, gpu)
    path = engine_path(bundle, flavour, gpu.target, chosen)
    build = f"run edgevand build --bundle {bundle.path} --backend {flavour} --precision {chosen}"
    try:
        record = read_engine_record(path)
    except FormatError as error:
        raise UnavailableError(f"{error}, or {build}") from error
    if record is None:
        raise UnavailableError(
            f"expected an engine of {bundle.path} for {flavour} on {gpu.name} ({chosen}), found none; {build}"
        )
    difference = differences(record, wanted)
    if difference is not None:
        raise UnavailableError(f"the engine {path} is stale: {difference}; {build}")
    return TensorRTEngine(
        read_plan(path, record),
        bundle.manifest,
        chosen,
        library=library,
        gpu=gpu,
        batch=record.options.batch,
        compiled=path.with_name(path.name + ".compiled"),
    )


class TensorRTEngine:
    """One plan, its execution context and its stream."""

    def __init__(
        self,
        plan: bytes,
        manifest: Manifest,
        precision: Precision,
        *,
        library: Library,
        gpu: Gpu,
        batch: int,
        compiled: Path | None = None,
    ) -> None:
        """Load a plan.

        Args:
            plan: as the library wrote it.
            manifest: says what the graph takes and gives.
            precision: of the graph.
            library: the version that wrote the plan.
            gpu: the GPU it was built for.
            batch: the largest that the plan runs at once; larger ones are run in pieces.
            compiled: where TensorRT-RTX keeps what it compiles for this GPU at the first run; None: not kept.

        Raises:
            UnavailableError: the library refuses the plan, or the GPU has too little memory.
            FormatError: it has not the inputs and outputs that the manifest asks for.
        """
        self.name = f"{library.flavour}:cuda:{gpu.index}"
        self.precision = precision
        self._gpu, self._batch, self._compiled = gpu, batch, compiled
        self._cupy = load_cupy()
        self._lock = threading.Lock()
        self._logger = make_logger(library.trt)
        self._size = (3, manifest.image.height, manifest.image.width)
        with self._cupy.cuda.Device(gpu.index):
            self._runtime = library.trt.Runtime(self._logger)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is None:
                raise self._refused(f"the engine cannot be loaded by {library.flavour} {library.version}", len(plan))
            self._ports = self._check_ports(library.trt, manifest)
            self._shapes = _output_shapes(manifest)
            self._cache: Any = None
            self._context = self._make_context(library.flavour)
            if self._context is None:
                needed = int(self._engine.device_memory_size_v2)
                raise self._refused("the engine cannot be started", needed)
            self._stream = self._cupy.cuda.Stream(non_blocking=True)
            pixels = batch * int(np.prod(self._size))
            pinned = self._cupy.cuda.alloc_pinned_memory(4 * pixels)
            self._pinned = np.frombuffer(pinned, np.float32, pixels).reshape(batch, *self._size)

    def run(self, images: NDArray[np.float32], text: NDArray[np.float32] | None) -> EncoderOutput:
        """Encode (N, 3, H, W) float32 images; see ``Engine.run``."""
        return self._run(images, text, stay=())

    def run_on_device(self, images: NDArray[np.float32], text: NDArray[np.float32] | None) -> EncoderOutput:
        """As ``run``, but the tokens stay on the GPU; see ``DeviceEngine``."""
        return self._run(images, text, stay=self._ports.tokens)

    def search_on_device(self, memory: MemoryBank) -> DeviceBank | None:
        """A bank's search on the GPU, where it is right there; see ``DeviceEngine``."""
        try:
            bank = DeviceBank(memory, self._cupy, self._gpu.index, self._stream)
            return bank if agrees(bank, memory, self._cupy) else None
        except Exception as error:  # noqa: BLE001 - no cuBLAS, no compiler, no memory: CuPy's errors share no base
            _LOG.warning("the bank is searched on the processor, for CuPy cannot on %s: %s", self._gpu.name, error)
            return None

    def _run(
        self, images: NDArray[np.float32], text: NDArray[np.float32] | None, stay: tuple[str, ...]
    ) -> EncoderOutput:
        """Encode in pieces; outputs whose name is in ``stay`` are left on the GPU, as ``DeviceTokens``."""
        images = np.asarray(images)
        if images.ndim != len(self._size) + 1 or images.shape[1:] != self._size or not len(images):
            raise UsageError(
                f"expected images of shape (N, {', '.join(map(str, self._size))}), for which the engine was built, "
                f"found {images.shape}; preprocess them with the engine's own bundle"
            )
        feed = self._ports.feed(images, text)
        pieces = [
            self._run_piece(images[start : start + self._batch], feed.get("text"), stay)
            for start in range(0, len(images), self._batch)
        ]
        return self._ports.output(
            {name: self._join([piece[name] for piece in pieces], name in stay) for name in pieces[0]}
        )

    def close(self) -> None:
        """Free the GPU's memory, and keep what was compiled for the next start."""
        with self._lock, self._cupy.cuda.Device(self._gpu.index):
            self._store_compiled()
            self._stream.synchronize()
            del self._context, self._cache, self._engine, self._runtime, self._stream, self._pinned

    def _join(self, pieces: list[Any], stays: bool) -> Any:  # noqa: ANN401, FBT001 (arrays on the host or the GPU)
        """One output of all pieces."""
        if not stays:
            return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        with self._cupy.cuda.Device(self._gpu.index), self._stream:
            return DeviceTokens(pieces[0] if len(pieces) == 1 else self._cupy.concatenate(pieces))

    def _run_piece(
        self, images: NDArray[np.float32], text: NDArray[np.float32] | None, stay: tuple[str, ...]
    ) -> dict[str, Any]:
        """One batch that fits: up, through, down but for what stays."""
        cupy, count = self._cupy, len(images)
        with self._lock, cupy.cuda.Device(self._gpu.index), self._stream:
            try:
                self._pinned[:count] = images
                arrays = {"image": cupy.empty(images.shape, np.float32)}
                arrays["image"].set(self._pinned[:count])
                if text is not None:
                    arrays["text"] = cupy.asarray(np.ascontiguousarray(text, np.float32))
                outputs = {name: cupy.empty((count, *shape), np.float32) for name, shape in self._shapes.items()}
            except cupy.cuda.memory.OutOfMemoryError as error:
                per_image = sum(int(np.prod(shape)) for shape in (self._size, *self._shapes.values()))
                raise self._refused(f"a batch of {count} cannot be run", 4 * count * per_image) from error
            for name, array in arrays.items():
                if not self._context.set_input_shape(name, array.shape):
                    raise self._refused(f"the engine refuses the input {name} of shape {array.shape}")
            for name, array in (arrays | outputs).items():
                if not self._context.set_tensor_address(name, array.data.ptr):
                    raise self._refused(f"the engine refuses memory for {name}")
            if not self._context.execute_async_v3(self._stream.ptr):
                raise self._refused(f"a batch of {count} was not run")
            # The copies wait for the stream, and with it for the upload: the pinned memory is free again afterwards.
            return {name: array if name in stay else array.get() for name, array in outputs.items()}

    def _check_ports(self, trt: Any, manifest: Manifest) -> Ports:  # noqa: ANN401
        """Inputs and outputs of the plan, held against the manifest; all of them float32."""
        engine = self._engine
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        for name in names:
            if engine.get_tensor_dtype(name) != trt.DataType.FLOAT:
                raise FormatError(
                    f"expected the engine to take and give float32, found {engine.get_tensor_dtype(name)} in {name}; "
                    "run edgevand build again"
                )
        return Ports.of(manifest, inputs, [name for name in names if name not in inputs])

    def _make_context(self, flavour: Flavour) -> Any:  # noqa: ANN401
        """An execution context; TensorRT-RTX's with what it compiled for this GPU in earlier runs."""
        if flavour == "tensorrt":
            return self._engine.create_execution_context()
        config = self._engine.create_runtime_config()
        self._cache = config.create_runtime_cache()
        if self._compiled is not None and self._compiled.is_file():
            self._cache.deserialize(self._compiled.read_bytes())  # False where it is another GPU's or version's
        config.set_runtime_cache(self._cache)
        return self._engine.create_execution_context(config)

    def _store_compiled(self) -> None:
        """Write TensorRT-RTX's runtime cache, where it has grown."""
        if self._cache is None or self._compiled is None:
            return
        from edgevand.errors import OutputError
        from edgevand.staging import write_atomic

        data = bytes(memoryview(self._cache.serialize()))
        try:
            if not self._compiled.is_file() or self._compiled.stat().st_size != len(data):
                write_atomic(self._compiled, data)
        except (OSError, OutputError):
            return  # a cache that cannot be written costs the next start its compilation, and nothing else

    def _refused(self, what: str, needed: int | None = None) -> UnavailableError:
        """The error for a call that the library answered with no; says by how much memory is short where it is.

        Args:
            what: what did not happen.
            needed: bytes of the GPU's memory that it takes at least, where known.
        """
        free = free_memory(self._gpu)
        needed = max(filter(None, (needed, requested_bytes(self._logger.said))), default=None)
        if needed is not None and needed > free:
            return UnavailableError(
                f"{what}: expected {needed / MIB:.0f} MiB free on {self._gpu.name}, found {free / MIB:.0f} MiB, "
                f"{(needed - free) / MIB:.0f} MiB too few; stop what else uses the GPU or take another --backend"
            )
        said = " ".join(self._logger.said[-1].split())[:300] if self._logger.said else "it gave no reason"
        return UnavailableError(
            f"{what} on {self._gpu.name}, found: {said}; run edgevand build again or take another --backend"
        )


def _output_shapes(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Shape of each output for one image."""
    shapes: dict[str, tuple[int, ...]] = {"embedding": (manifest.embedding_dim,)} if manifest.embedding_dim else {}
    shapes |= {f"map_{each.name}": each.grid for each in manifest.maps}
    for stage in manifest.stages:
        shapes[f"tokens_{stage.index}"] = (stage.grid[0] * stage.grid[1], stage.width)
        if stage.head:
            shapes[f"logits_{stage.index}"] = stage.grid
    return shapes
