"""OpenVINO computes what the golden sample says, in the precision of the graph and no other."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

from edgevand.errors import FormatError, MissingDependencyError, UnavailableError, UsageError
from edgevand_runtime.engines import open_engine
from edgevand_runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgevand_runtime.engines.openvino import OpenVinoEngine, _targets, openvino_devices
from edgevand_runtime.preprocess import to_tensor
from tests.core.builders import make_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from edgevand.bundle import Bundle

pytest.importorskip("openvino", reason="needs the extra edgevand[openvino]")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "bundle", size=32, grid=4)


def pictures(bundle: Bundle) -> np.ndarray:
    return np.stack([to_tensor(each[..., ::-1], bundle.manifest.image) for each in bundle.golden()["image"]])


@pytest.mark.parametrize("batch", [1, 3])
def test_the_golden_outputs_come_out_of_every_batch(batch: int, bundle: Bundle) -> None:
    golden = bundle.golden()
    engine = open_engine(bundle, backend="openvino", device="cpu", threads=1)
    assert (engine.name, engine.precision) == ("openvino:cpu", "fp32")
    found = engine.run(np.repeat(pictures(bundle)[:1], batch, axis=0), golden["text"])
    engine.close()
    np.testing.assert_allclose(found.embedding, np.repeat(golden["embedding"][:1], batch, axis=0), atol=1e-5)
    for number, stage in enumerate(bundle.manifest.stages):
        wanted = np.repeat(golden[f"tokens_{stage.index}"][:1], batch, axis=0)
        np.testing.assert_allclose(found.tokens[number], wanted, atol=1e-5)
        wanted = np.repeat(golden[f"logits_{stage.index}"][:1], batch, axis=0)
        np.testing.assert_allclose(found.logits[number], wanted, atol=1e-3)


def test_results_stay_what_they_were_when_the_engine_runs_again(bundle: Bundle) -> None:
    engine = open_engine(bundle, backend="openvino", threads=1)
    first = engine.run(pictures(bundle)[:1], bundle.golden()["text"])
    kept = first.embedding.copy()
    engine.run(np.zeros_like(pictures(bundle)[:1]), bundle.golden()["text"])
    np.testing.assert_array_equal(first.embedding, kept)


def test_several_threads_may_share_an_engine(bundle: Bundle) -> None:
    engine = open_engine(bundle, backend="openvino", threads=1)
    text = bundle.golden()["text"]
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(engine.run, pictures(bundle), text) for _ in range(40)]
    for run in runs:
        np.testing.assert_allclose(run.result().embedding, bundle.golden()["embedding"], atol=1e-5)


def test_it_computes_in_float32_with_the_threads_that_were_asked_for(bundle: Bundle) -> None:
    engine = OpenVinoEngine(bundle.graph_path, bundle.manifest, threads=1)
    compiled = engine._request.get_compiled_model()
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


class _Pictures(CalibrationDataReader):  # type: ignore[misc] # ONNX Runtime ships no annotations
    """The golden pictures, one by one."""

    def __init__(self, bundle: Bundle) -> None:
        self._feeds = iter([{"image": each[None], "text": bundle.golden()["text"]} for each in pictures(bundle)])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def test_the_products_of_a_quantised_graph_stay_int8_and_agree_with_onnx_runtimes(
    bundle: Bundle, tmp_path: Path
) -> None:
    graph = tmp_path / "encoder.int8.onnx"
    quantize_static(
        bundle.graph_path,
        graph,
        _Pictures(bundle),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        reduce_range=True,  # with weights of 8 bits both libraries saturate on processors without VNNI
    )
    engine = OpenVinoEngine(graph, bundle.manifest, "int8", threads=1)
    operations = engine._request.get_compiled_model().get_runtime_model().get_ordered_ops()
    info = [each.get_rt_info() for each in operations]
    products = [each for each in info if each["layerType"].astype(str) in {"MatMul", "FullyConnected"}]
    assert {"u8", "i8"} & {each["runtimePrecision"].astype(str) for each in products}
    other = OnnxRuntimeEngine(graph, bundle.manifest, "int8", threads=1)
    text = bundle.golden()["text"]
    for one, two in zip(
        engine.run(pictures(bundle), text).tokens, other.run(pictures(bundle), text).tokens, strict=True
    ):
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_a_graph_in_half_precision_gives_float32_outputs_close_to_the_golden_ones(
    bundle: Bundle, tmp_path: Path
) -> None:
    graph = tmp_path / "encoder.fp16.onnx"
    onnx.save(convert_float_to_float16(onnx.load(bundle.graph_path), keep_io_types=True), graph)
    found = OpenVinoEngine(graph, bundle.manifest, "fp16", threads=1).run(pictures(bundle), bundle.golden()["text"])
    assert found.embedding.dtype == np.float32
    np.testing.assert_allclose(found.embedding, bundle.golden()["embedding"], atol=5e-3)


def test_without_the_package_the_sentence_names_the_extra_and_auto_goes_without(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert openvino_devices() == []
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgevand\[openvino\]'"):
        open_engine(bundle, backend="openvino")
    assert open_engine(bundle, device="cpu").name == "onnxruntime:cpu"


def test_a_graphics_processor_that_is_not_there_is_unavailable(bundle: Bundle) -> None:
    if openvino_devices() != ["cpu"]:
        pytest.skip("this machine has one")
    with pytest.raises(UnavailableError, match=r"--device gpu:0, found CPU only"):
        open_engine(bundle, device="gpu")


def test_devices_are_named_by_number_however_openvino_names_them() -> None:
    assert _targets(["CPU"]) == {"cpu": "CPU"}
    assert _targets(["CPU", "GPU"]) == {"cpu": "CPU", "gpu:0": "GPU"}
    assert _targets(["CPU", "GPU.1", "GPU.0", "NPU"]) == {"cpu": "CPU", "gpu:0": "GPU.0", "gpu:1": "GPU.1"}


def test_a_graph_that_does_not_fit_is_refused_in_one_sentence(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"no graph")
    with pytest.raises(FormatError, match=r"expected encoder\.onnx to be a graph that OpenVINO can run"):
        OpenVinoEngine(tmp_path / "encoder.onnx", bundle.manifest)
    other = make_bundle(tmp_path / "other", size=32, grid=4, stages=(1, 2, 3))
    with pytest.raises(FormatError, match="logits_3, tokens_3"):
        OpenVinoEngine(bundle.graph_path, other.manifest)
    with pytest.raises(UsageError, match="--object"):
        open_engine(bundle, backend="openvino").run(pictures(bundle), None)
