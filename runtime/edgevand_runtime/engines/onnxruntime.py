"""ONNX Runtime: the engine that is always there.

It hands the graph to one of its execution providers. The processor's and CUDA's are the device's choice (``cpu``,
``cuda:N``). OpenVINO's and TensorRT's compute by other libraries, with rules of their own for precision, on devices
that the first two run on as well: so they are engines of their own, ``onnxruntime-openvino`` and
``onnxruntime-tensorrt``, with their own name in results and proofs.
"""

from __future__ import annotations

import contextlib
import io
import os
from typing import TYPE_CHECKING, Literal

import onnxruntime as ort

from edgevand.errors import FormatError, UnavailableError
from edgevand.home import home
from edgevand_runtime.engines.cuda_driver import require_cuda
from edgevand_runtime.engines.ports import Ports

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgevand.bundle import Manifest, Precision
    from edgevand_runtime.engines import EncoderOutput

__all__ = ["OnnxRuntimeEngine", "Provider", "cuda_of_build", "has_provider"]

Provider = Literal["own", "openvino", "tensorrt"]

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_NAMES = {"openvino": "OpenVINOExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_PACKAGES = {
    _CUDA: "onnxruntime-gpu",
    _NAMES["openvino"]: "onnxruntime-openvino",
    _NAMES["tensorrt"]: "onnxruntime-gpu",
}
_QUIET = 3
"""ONNX Runtime's log level 'error': its warnings about graph optimisation mean nothing to a user."""


class OnnxRuntimeEngine:
    """Runs the graph on the processor or a GPU, in no narrower type than the graph says."""

    def __init__(
        self,
        graph: Path,
        manifest: Manifest,
        precision: Precision = "fp32",
        *,
        device: str = "cpu",
        provider: Provider = "own",
        threads: int | None = None,
    ) -> None:
        """Load the graph.

        Args:
            graph: the ONNX file; its external data, if any, lies beside it.
            manifest: says which outputs to expect.
            precision: of the graph.
            device: ``cpu`` or ``cuda:N``; ``gpu:N`` with the provider ``openvino``.
            provider: ``own`` for ONNX Runtime's for that device.
            threads: processor threads; None for all cores.

        Raises:
            UnavailableError: this ONNX Runtime lacks the provider, or the device does not start.
            FormatError: it cannot run the graph.
        """
        self.name = f"{'onnxruntime' if provider == 'own' else f'onnxruntime-{provider}'}:{device}"
        self.precision = precision
        providers = _providers(provider, device, precision, threads)
        options = ort.SessionOptions()
        options.log_severity_level = _QUIET
        # Waiting threads sleep: by default they spin, and take the processor from decoding, search and other cameras.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        self._start(graph, options, providers)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self._ports = Ports.of(manifest, {node.name for node in inputs}, {node.name for node in outputs})

    def _start(self, graph: Path, options: ort.SessionOptions, providers: list[tuple[str, dict[str, str]]]) -> None:
        """Open the session, on the first of the providers or not at all."""
        wanted = providers[0][0]
        try:
            # Its own fallback prints to standard output and then computes on the processor, whatever was asked for.
            self._session = ort.InferenceSession(str(graph), options, providers=providers, enable_fallback=0)
        except Exception as error:  # ONNX Runtime raises its own classes, which share no public base but Exception
            if wanted == _CPU:
                raise FormatError(
                    f"expected {graph.name} to be a graph that ONNX Runtime can run, found: {_first_line(error)}; "
                    "export the bundle again."
                ) from error
            raise _not_started(wanted, _first_line(error)) from error
        if self._session.get_providers()[0] != wanted:
            raise _not_started(wanted, "nothing said why")

    def run(self, images: NDArray[np.float32], text: NDArray[np.float32] | None) -> EncoderOutput:
        """Encode (N, 3, H, W) float32 images; see ``Engine.run``."""
        outputs = self._ports.outputs
        feed = self._ports.feed(images, text)
        try:
            found = self._session.run(outputs, feed)
        except Exception as error:
            if self.name == "onnxruntime:cpu":
                raise
            message = (
                f"expected {self.name} to run {len(images)} frames, found: {_first_line(error)}; give a smaller "
                "--batch, close what else uses its memory, or run with --device cpu."
            )
            raise UnavailableError(message) from error
        return self._ports.output(dict(zip(outputs, found, strict=True)))

    def close(self) -> None:
        """Free the session."""
        del self._session


def has_provider(provider: Provider, device: str) -> bool:
    """Whether this ONNX Runtime was built with a provider for a device, whether or not that one starts."""
    return _provider_name(provider, device) in ort.get_available_providers()


def cuda_of_build() -> str:
    """The CUDA that this ONNX Runtime was made for, like ``12.8``; empty where it does not say."""
    try:
        from onnxruntime.capi.build_and_package_info import cuda_version
    except ImportError:  # a build without CUDA
        return ""
    return str(cuda_version or "")


def _provider_name(provider: Provider, device: str) -> str:
    if provider != "own":
        return _NAMES[provider]
    return _CPU if device == "cpu" else _CUDA


def _providers(
    provider: Provider, device: str, precision: Precision, threads: int | None
) -> list[tuple[str, dict[str, str]]]:
    """Providers and their options, the wanted one first; behind it the one for operators that it lacks.

    Raises:
        UnavailableError: this ONNX Runtime has not the wanted one, or its GPU is not there.
    """
    wanted = _provider_name(provider, device)
    cpu: tuple[str, dict[str, str]] = (_CPU, {})
    if wanted not in ort.get_available_providers():
        package = "onnxruntime-openvino" if provider == "openvino" else "onnxruntime-gpu"
        raise UnavailableError(
            f"expected an ONNX Runtime with {wanted} for --device {device}, found one for "
            f"{', '.join(ort.get_available_providers())} only; install {package} in the place of onnxruntime "
            "(docs/engines.md), or run with --backend onnxruntime --device cpu."
        )
    family, _, index = device.partition(":")
    if provider == "openvino":
        # FP32 is the hint for what the graph leaves open; a narrower graph stays narrower.
        options = {"device_type": "CPU" if family == "cpu" else f"GPU.{index}", "precision": "FP32"}
        options |= {} if threads is None else {"num_of_threads": str(threads)}
        return [(wanted, options), cpu]
    if family == "cpu":
        return [cpu]
    require_cuda(f"onnxruntime {ort.__version__}", cuda_of_build(), int(index))
    if hasattr(ort, "preload_dlls"):  # from 1.21 on: finds CUDA in site-packages; it prints what it does not find
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()
    cuda = (_CUDA, {"device_id": index, "use_tf32": "0"})
    if provider == "own":
        return [cuda, cpu]
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # this provider has no option for it
    cache = home() / "cache" / "onnxruntime-tensorrt"
    options = {"device_id": index, "trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache)}
    options |= {"trt_fp16_enable": str(int(precision == "fp16")), "trt_int8_enable": str(int(precision == "int8"))}
    return [(wanted, options), cuda, cpu]


def _not_started(provider: str, reason: str) -> UnavailableError:
    return UnavailableError(
        f"expected {provider} of ONNX Runtime to start and to load the graph, found: {reason}; check the driver with "
        "edgevand doctor or run with --device cpu."
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
