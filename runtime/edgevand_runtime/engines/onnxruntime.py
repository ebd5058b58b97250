"""ONNX Runtime: the engine that is always there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from edgevand.errors import FormatError, UnavailableError, UsageError
from edgevand_runtime.engines import EncoderOutput

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgevand.bundle import Manifest, Precision

__all__ = ["OnnxRuntimeEngine"]

_QUIET = 3
"""ONNX Runtime's log level 'error': its warnings about graph optimisation mean nothing to a user."""


class OnnxRuntimeEngine:
    """Runs the graph on the processor or a CUDA device in float32 (TF32 off)."""

    def __init__(
        self,
        graph: Path,
        manifest: Manifest,
        precision: Precision = "fp32",
        *,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        """Load the graph.

        Args:
            graph: the ONNX file; its external data, if any, lies beside it.
            manifest: says which outputs to expect.
            precision: of the graph.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            threads: processor threads; None for all cores.
        """
        provider, self.name = _provider(device)
        self.precision = precision
        options = ort.SessionOptions()
        options.log_severity_level = _QUIET
        # Waiting threads sleep: by default they spin, and take the processor from decoding, search and other cameras.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = ort.InferenceSession(str(graph), options, providers=provider)
        except Exception as error:  # ONNX Runtime raises its own classes, which share no public base but Exception
            message = (
                f"expected {graph.name} to be a graph that ONNX Runtime can run, found: {_first_line(error)}; export "
                "the bundle again."
            )
            raise FormatError(message) from error
        if self.name != "onnxruntime:cpu" and self._session.get_providers()[0] != "CUDAExecutionProvider":
            message = (
                f"expected a CUDA device for --device {device}, but ONNX Runtime could not start it; check the driver "
                "with edgevand doctor or run with --device cpu."
            )
            raise UnavailableError(message)
        self._inputs = {node.name for node in self._session.get_inputs()}
        self._tokens = [f"tokens_{stage.index}" for stage in manifest.stages]
        self._logits = [f"logits_{stage.index}" for stage in manifest.stages if stage.head]
        self._outputs = ["embedding", *self._tokens, *self._logits]
        lacking = set(self._outputs) - {node.name for node in self._session.get_outputs()}
        if lacking:
            message = (
                "expected the graph to have the outputs that manifest.json names, found none called "
                f"{', '.join(sorted(lacking))}; export the bundle again."
            )
            raise FormatError(message)

    def run(self, images: NDArray[np.float32], text: NDArray[np.float32] | None) -> EncoderOutput:
        """Encode (N, 3, H, W) float32 images; see ``Engine.run``."""
        feed: dict[str, Any] = {"image": images}
        if "text" in self._inputs:
            if text is None:
                message = "expected text embeddings, since the bundle's graph has heads, found none; give --object."
                raise UsageError(message)
            feed["text"] = text
        found = dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))
        return EncoderOutput(
            embedding=found["embedding"],
            tokens=tuple(found[name] for name in self._tokens),
            logits=tuple(found[name] for name in self._logits),
        )

    def close(self) -> None:
        """Free the session."""
        del self._session


def _provider(device: str) -> tuple[list[Any], str]:
    """Execution provider and engine name for a ``--device``."""
    match = re.fullmatch(r"auto|cpu|cuda(?::(\d+))?", device)
    if match is None:
        message = f"expected --device auto, cpu, cuda or cuda:N, found {device!r}; choose one of these."
        raise UsageError(message)
    cuda_here = "CUDAExecutionProvider" in ort.get_available_providers()
    if device == "cpu" or (device == "auto" and not cuda_here):
        return ["CPUExecutionProvider"], "onnxruntime:cpu"
    if not cuda_here:
        message = (
            f"expected an ONNX Runtime with CUDA for --device {device}, found one for "
            f"{', '.join(ort.get_available_providers())} only; install onnxruntime-gpu or run with --device cpu."
        )
        raise UnavailableError(message)
    index = match.group(1) or "0"
    # A CPU fallback follows the GPU for operators that CUDA lacks, and for `auto` where the driver does not start.
    return [
        ("CUDAExecutionProvider", {"device_id": index, "use_tf32": "0"}),
        "CPUExecutionProvider",
    ], f"onnxruntime:cuda:{index}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
