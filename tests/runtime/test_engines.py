from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
import pytest

from edgevand.errors import FormatError, UnavailableError, UsageError
from edgevand_runtime.engines import open_engine
from edgevand_runtime.engines.fake import FakeEngine
from edgevand_runtime.engines.onnxruntime import OnnxRuntimeEngine
from tests.core.builders import make_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from edgevand.bundle import Bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "bundle", size=32, grid=4)


def normalised(bundle: Bundle) -> np.ndarray:
    image = bundle.manifest.image
    pixels = bundle.golden()["image"].astype(np.float32) / 255
    unit = (pixels - np.asarray(image.mean, np.float32)) / np.asarray(image.std, np.float32)
    return np.ascontiguousarray(unit.transpose(0, 3, 1, 2), dtype=np.float32)


def test_onnx_runtime_computes_the_golden_outputs_in_the_manifests_order(bundle: Bundle) -> None:
    golden = bundle.golden()
    engine = open_engine(bundle, backend="onnxruntime", device="cpu", threads=1)
    found = engine.run(normalised(bundle), golden["text"])
    engine.close()
    assert engine.name == "onnxruntime:cpu"
    np.testing.assert_allclose(found.embedding, golden["embedding"], atol=1e-5)
    for number, stage in enumerate(bundle.manifest.stages):
        np.testing.assert_allclose(found.tokens[number], golden[f"tokens_{stage.index}"], atol=1e-5)
        np.testing.assert_allclose(found.logits[number], golden[f"logits_{stage.index}"], atol=1e-3)


def test_a_graph_with_heads_asks_for_text(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="--object"):
        open_engine(bundle, device="cpu").run(normalised(bundle), None)


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="this ONNX Runtime has CUDA")
def test_a_cuda_device_that_is_not_there_is_unavailable(bundle: Bundle) -> None:
    with pytest.raises(UnavailableError, match=r"--device cuda:1, found one for .*CPU.*; install onnxruntime-gpu"):
        open_engine(bundle, device="cuda:1")


@pytest.mark.parametrize("device", ["tpu", "cpu:1", "cuda:", "cuda:x", "gpux", "auto:0", ""])
def test_an_unknown_device_is_wrong_usage(device: str, bundle: Bundle) -> None:
    with pytest.raises(UsageError, match=r"--device auto, cpu, cuda, cuda:N, gpu or gpu:N, found"):
        open_engine(bundle, device=device)


def test_an_unknown_backend_or_precision_is_wrong_usage_and_a_later_one_unavailable(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="found 'caffe'"):
        open_engine(bundle, backend="caffe")
    with pytest.raises(UsageError, match=r"expected --precision fp32, .* found int8"):
        open_engine(bundle, precision="int8")
    with pytest.raises(UnavailableError, match="backend oip://host:1/m is not part of this version"):
        open_engine(bundle, backend="oip://host:1/m")
    with pytest.raises(UsageError, match="--device cuda for --backend tensorrt, found 'cpu'"):
        open_engine(bundle, backend="tensorrt", device="cpu")


def test_a_file_that_is_no_graph_is_refused_in_one_sentence(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"no graph")
    with pytest.raises(FormatError, match=r"expected encoder\.onnx to be a graph"):
        OnnxRuntimeEngine(tmp_path / "encoder.onnx", bundle.manifest)


def test_a_graph_without_the_manifests_outputs_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "other", size=32, grid=4, stages=(1, 2, 3))
    with pytest.raises(FormatError, match="logits_3, tokens_3"):
        OnnxRuntimeEngine(bundle.graph_path, other.manifest)


def test_the_fake_engine_has_the_manifests_shapes_and_unit_tokens_that_change_only_where_the_picture_does(
    bundle: Bundle,
) -> None:
    engine = FakeEngine(bundle.manifest)
    images = normalised(bundle)[:1]
    changed = images.copy()
    changed[:, :, :8, 8:16] += 1
    before, after = engine.run(images, None), engine.run(changed, None)
    assert [stage.shape for stage in before.tokens] == [(1, 16, stage.width) for stage in bundle.manifest.stages]
    assert [stage.shape for stage in before.logits] == [(1, *stage.grid) for stage in bundle.manifest.stages]
    for old, new in zip(before.tokens, after.tokens, strict=True):
        np.testing.assert_allclose(np.linalg.norm(old, axis=-1), 1, atol=1e-5)
        moved = np.abs(old - new).max(axis=-1)[0] > 1e-6
        assert np.flatnonzero(moved).tolist() == [1]
