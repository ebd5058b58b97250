"""NVIDIA's driver, and ONNX Runtime on its GPUs, by stand-ins that answer as their documentation says."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

from edgevand.errors import UnavailableError
from edgevand_runtime.engines import choose, cuda_driver, machine, onnxruntime, open_engine, proofs
from edgevand_runtime.engines.choose import ENGINES
from edgevand_runtime.engines.cuda_driver import CudaDevice, CudaDriver
from tests.tiny import write_tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgevand.bundle import Bundle

GPU = CudaDevice("Test GPU", (8, 6), 8 << 30)
PROVIDERS = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_tiny_bundle(tmp_path / "bundle")


class Session(ort.InferenceSession):  # type: ignore[misc] # ONNX Runtime ships no annotations
    """Computes on the processor, whatever the providers; ``fault`` and ``failure`` are raised at start and at run."""

    fault: Exception | None = None
    failure: Exception | None = None
    starts = True
    asked: Sequence[Any] = ()

    def __init__(self, path: str, options: Any, *, providers: Sequence[Any], enable_fallback: int) -> None:
        assert enable_fallback == 0
        type(self).asked = providers
        self._first = providers[0][0] if self.starts else "CPUExecutionProvider"
        if self.fault is not None and providers[0][0] != "CPUExecutionProvider":
            raise self.fault
        super().__init__(path, options, providers=["CPUExecutionProvider"])

    def get_providers(self) -> list[str]:
        return [self._first, "CPUExecutionProvider"]

    def run(self, names: Sequence[str], feed: dict[str, Any]) -> Any:
        if self.failure is not None:
            raise self.failure
        return super().run(names, feed)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> type[Session]:
    """A machine with one GPU, a driver for CUDA 12.8, and an ONNX Runtime made for CUDA 12.6."""
    session = type("Fresh", (Session,), {})
    drive(monkeypatch, CudaDriver((12, 8), (GPU,)))
    monkeypatch.setattr(ort, "get_available_providers", lambda: PROVIDERS)
    monkeypatch.setattr(onnxruntime, "cuda_of_build", lambda: "12.6")
    monkeypatch.setattr(ort, "InferenceSession", session)
    monkeypatch.setattr(ort, "preload_dlls", lambda: sys.stdout.write("not found: libcudnn"))
    monkeypatch.setattr(proofs, "_of_this_process", {})
    return session


def drive(monkeypatch: pytest.MonkeyPatch, driver: CudaDriver | None) -> None:
    for module in (cuda_driver, choose, machine):
        monkeypatch.setattr(module, "cuda_driver", lambda: driver)


def test_cuda_computes_without_tf32_on_the_device_of_that_number(
    session: type[Session], bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    drive(monkeypatch, CudaDriver((12, 8), (GPU, GPU)))
    engine = open_engine(bundle, backend="onnxruntime", device="cuda:1")
    assert engine.name == "onnxruntime:cuda:1"
    assert session.asked[0] == ("CUDAExecutionProvider", {"device_id": "1", "use_tf32": "0"})
    assert capfd.readouterr().out == ""  # standard output belongs to documents


def test_auto_takes_the_gpu_proves_it_and_names_it_in_the_proof(session: type[Session], bundle: Bundle) -> None:
    engine = open_engine(bundle)
    assert engine.name == "onnxruntime:cuda:0"
    proof = proofs.proof_of(bundle, engine)
    assert proof is not None
    assert proof.device == "Test GPU (sm_86, driver for CUDA 12.8)"
    assert ENGINES["onnxruntime"].devices() == ["cpu", "cuda:0"]


def test_a_driver_that_is_too_old_is_told_with_both_versions_and_auto_goes_on_to_the_processor(
    session: type[Session], bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(onnxruntime, "cuda_of_build", lambda: "13.0")
    with pytest.raises(UnavailableError, match=r"driver for CUDA 13\.0.*onnxruntime.*found one for CUDA 12\.8; update"):
        open_engine(bundle, backend="onnxruntime", device="cuda")
    assert open_engine(bundle).name == "onnxruntime:cpu"
    assert "onnxruntime:cuda:0 is passed over: expected an NVIDIA driver for CUDA 13.0" in caplog.text


def test_a_driver_for_an_older_minor_version_or_a_build_that_does_not_say_is_no_fault(
    session: type[Session], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    for made_for in ("12.9", "11.8", ""):
        monkeypatch.setattr(onnxruntime, "cuda_of_build", lambda made_for=made_for: made_for)
        assert open_engine(bundle, backend="onnxruntime", device="cuda").name == "onnxruntime:cuda:0"


@pytest.mark.parametrize(
    ("driver", "device", "words"),
    [
        (None, "cuda", "found no NVIDIA driver that starts"),
        (CudaDriver((12, 8), ()), "cuda", "found a driver without a GPU"),
        (CudaDriver((12, 8), (GPU,)), "cuda:1", "expected a GPU cuda:1, found 1 GPU;"),
    ],
)
def test_a_gpu_that_is_not_there_is_told(
    driver: CudaDriver | None, device: str, words: str, session: type[Session], bundle: Bundle, monkeypatch: Any
) -> None:
    drive(monkeypatch, driver)
    with pytest.raises(UnavailableError, match=words):
        open_engine(bundle, device=device)


def test_a_provider_that_does_not_start_is_unavailable_and_never_the_processor_in_its_name(
    session: type[Session], bundle: Bundle
) -> None:
    session.starts = False
    with pytest.raises(UnavailableError, match="expected CUDAExecutionProvider of ONNX Runtime to start"):
        open_engine(bundle, device="cuda")
    session.starts, session.fault = True, RuntimeError("CUDA failure 35: driver version is insufficient\nat line 5")
    with pytest.raises(UnavailableError, match="found: CUDA failure 35: driver version is insufficient; check"):
        open_engine(bundle, device="cuda")


def test_out_of_memory_while_running_is_unavailable_with_what_to_do(session: type[Session], bundle: Bundle) -> None:
    engine = open_engine(bundle, device="cuda")
    session.failure = RuntimeError("Failed to allocate memory for requested buffer of size 4096")
    images = np.zeros((3, 3, 32, 32), np.float32)
    with pytest.raises(UnavailableError, match=r"run 3 frames, found: Failed to allocate memory .*smaller --batch"):
        engine.run(images, None)


def test_tensorrts_provider_has_a_name_of_its_own_and_cuda_behind_it(session: type[Session], bundle: Bundle) -> None:
    engine = open_engine(bundle, backend="onnxruntime-tensorrt")
    assert engine.name == "onnxruntime-tensorrt:cuda:0"
    (wanted, options), cuda, _ = session.asked
    assert (wanted, cuda[0]) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert (options["trt_fp16_enable"], options["trt_int8_enable"]) == ("0", "0")


@pytest.mark.parametrize(
    ("device", "threads", "options"),
    [
        ("cpu", 2, {"device_type": "CPU", "precision": "FP32", "num_of_threads": "2"}),
        ("gpu:1", None, {"device_type": "GPU.1", "precision": "FP32"}),
    ],
)
def test_openvinos_provider_is_told_device_threads_and_that_float32_stays_float32(
    device: str,
    threads: int | None,
    options: dict[str, str],
    session: type[Session],
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["OpenVINOExecutionProvider", "CPUExecutionProvider"])
    engine = open_engine(bundle, backend="onnxruntime-openvino", device=device, threads=threads)
    assert engine.name == f"onnxruntime-openvino:{device}"
    assert session.asked[0] == ("OpenVINOExecutionProvider", options)


class Library:
    """libcuda with one GPU, as the driver interface describes its functions."""

    def __init__(self, code: int = 0) -> None:
        self._code = code

    def cuInit(self, flags: int) -> int:  # noqa: N802 (the library's name for it)
        return self._code

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 12040
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 1
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:  # noqa: N802
        name.value = b"Test GPU"
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 9}[attribute]
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, device: Any) -> int:  # noqa: N802
        memory._obj.value = 1 << 33
        return 0


def test_the_driver_is_read_through_its_own_library(monkeypatch: pytest.MonkeyPatch) -> None:
    read = cuda_driver.cuda_driver.__wrapped__  # past its memory
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    assert read() == CudaDriver((12, 4), (CudaDevice("Test GPU", (8, 9), 1 << 33),))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library(code=999))
    assert read() is None

    def absent(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert read() is None
