"""OpenVINO through its own API: Intel and AMD processors, ARM, and Intel's graphics processors.

OpenVINO computes in bfloat16 or float16 by itself wherever a device has them, so the precision hint is always float32:
the graph alone decides what is narrower (methods.md (i)). What the hint leaves as it is: int8 products of a graph with
QuantizeLinear and DequantizeLinear stay int8, and what lies between them is float32.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from edgevand.errors import FormatError, MissingDependencyError, UnavailableError
from edgevand.home import home
from edgevand_runtime.engines.ports import Ports

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgevand.bundle import Manifest, Precision
    from edgevand_runtime.engines import EncoderOutput

__all__ = ["OpenVinoEngine", "openvino_devices"]


class OpenVinoEngine:
    """Runs the graph by OpenVINO on the processor or an Intel graphics processor."""

    def __init__(
        self,
        graph: Path,
        manifest: Manifest,
        precision: Precision = "fp32",
        *,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        """Load and compile the graph.

        Args:
            graph: the ONNX file; its external data, if any, lies beside it.
            manifest: says which outputs to expect.
            precision: of the graph.
            device: ``cpu``, ``gpu`` or ``gpu:N``.
            threads: processor threads; None for all cores.

        Raises:
            MissingDependencyError: OpenVINO is not installed.
            UnavailableError: it has no such device here.
            FormatError: it cannot run the graph.
        """
        openvino = _library()
        self.name = f"openvino:{device}"
        self.precision = precision
        core = openvino.Core()
        target = _targets(core.available_devices).get(device)
        if target is None:
            raise UnavailableError(
                f"expected OpenVINO to know --device {device}, found {', '.join(core.available_devices) or 'none'} "
                "only; install the driver of the GPU or run with --device cpu."
            )
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        if target == "CPU":
            # Pinned threads of two processes would share one core while others idle.
            options["ENABLE_CPU_PINNING"] = False
            if threads is not None:
                options["INFERENCE_NUM_THREADS"] = threads
        else:
            options["CACHE_DIR"] = str(home() / "cache" / "openvino")  # a GPU's kernels take seconds to compile
        try:
            compiled = core.compile_model(str(graph), target, options)
        except RuntimeError as error:
            raise FormatError(
                f"expected {graph.name} to be a graph that OpenVINO can run on {device}, found: {_last_line(error)}; "
                "run with --backend onnxruntime, or export the bundle again."
            ) from error
        # A port may have several names: that of the cast before an output, beside the output's own.
        inputs = {name for port in compiled.inputs for name in port.names}
        outputs = {name: port for port in compiled.outputs for name in port.names}
        self._ports = Ports.of(manifest, inputs, outputs)
        self._outputs = {name: outputs[name] for name in self._ports.outputs}
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def run(self, images: NDArray[np.float32], text: NDArray[np.float32] | None) -> EncoderOutput:
        """Encode (N, 3, H, W) float32 images; see ``Engine.run``."""
        with self._lock:  # a request that is busy refuses a second caller
            found = self._request.infer(self._ports.feed(images, text), share_inputs=True)
        return self._ports.output({name: found[port] for name, port in self._outputs.items()})

    def close(self) -> None:
        """Free the compiled graph."""
        del self._request, self._outputs


def openvino_devices() -> list[str]:
    """Devices that OpenVINO can use here, in the words of ``--device``; none where it is not installed."""
    try:
        return list(_targets(_library().Core().available_devices))
    except MissingDependencyError:
        return []


def _targets(available: list[str]) -> dict[str, str]:
    """OpenVINO's name (``CPU``; ``GPU``, or ``GPU.0`` and on where there are several) of each device."""
    gpus = sorted(name for name in available if name.partition(".")[0] == "GPU")
    return ({"cpu": "CPU"} if "CPU" in available else {}) | {f"gpu:{number}": name for number, name in enumerate(gpus)}


def _library() -> Any:  # noqa: ANN401 - a module
    """Import OpenVINO.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError(
            "expected the package openvino for --backend openvino, found none; install it with "
            "pip install 'edgevand[openvino]'"
        ) from error
    return openvino


def _last_line(error: Exception) -> str:
    """OpenVINO's messages are a chain of source lines with the reason at the end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
