from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from edgevand.bundle import Bundle
from edgevand_export.bundle_writer import BundleOptions, write_model_bundle
from edgevand_export.precision import round_to_half
from edgevand_export.towers import make_tower
from tests.export.models import SIZE, random_heads, source_of, tiny_config, tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FULL = {"LayerNormalization", "Softmax", "ReduceL2", "Div"}


def export(kind: str, target: Path, tokenizer: Any, **options: Any) -> Bundle:
    config = tiny_config(kind)
    model = tiny_model(config)
    heads = random_heads(make_tower(model.visual, SIZE[kind], (2, 4)).widths)
    making = BundleOptions(SIZE[kind], stages=(2, 4), heads=heads, objects=("part",), **options)
    return write_model_bundle(target, model, tokenizer, source_of(config), making)


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Callable[[str], Bundle]:
    """``half(kind)``: an fp16 bundle, made once."""
    folder = tmp_path_factory.mktemp("half")

    def made(kind: str) -> Bundle:
        target = folder / kind
        return Bundle.open(target) if target.exists() else export(kind, target, tokenizer, variant="fp16")

    return made


def types(bundle: Bundle) -> tuple[Any, dict[str, int]]:
    """The graph, and the element type of every value that ONNX can infer."""
    model = onnx.shape_inference.infer_shapes(onnx.load(bundle.graph_in(bundle.precisions[-1])), strict_mode=True)
    graph = model.graph
    known = {each.name: each.data_type for each in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        known[value.name] = value.type.tensor_type.elem_type
    return graph, known


@pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
def test_fp16_computes_products_in_half_and_what_rounds_badly_in_single(
    kind: str, half: Callable[[str], Bundle]
) -> None:
    bundle = half(kind)
    graph, known = types(bundle)
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT, value.name
    halves = 0
    for node in graph.node:
        if node.op_type in FULL:
            assert known[node.output[0]] == TensorProto.FLOAT, node
        if node.op_type == "Conv" or (node.op_type == "MatMul" and known[node.output[0]] == TensorProto.FLOAT16):
            halves += 1
            assert {known[name] for name in node.input} == {TensorProto.FLOAT16}
    assert halves > 8
    singles = [node for node in graph.node if node.op_type == "MatMul" and known[node.output[0]] == TensorProto.FLOAT]
    assert len(singles) == 2, "the logits of the two heads, which come from the text, stay float32"
    assert bundle.precisions == ("fp32", "fp16")
    (variant,) = bundle.manifest.variants
    parity = variant.parity
    assert min(each.cosine for each in parity.outputs if not each.output.startswith("logits")) >= 0.999
    assert 1e-6 < parity.map_max_abs < 0.05


def test_the_residual_stream_of_a_vit_stays_float32_in_fp16(half: Callable[[str], Bundle]) -> None:
    graph, known = types(half("vit"))
    norms = [node for node in graph.node if node.op_type == "LayerNormalization"]
    makers = {name: node for node in graph.node for name in node.output}
    additions = [makers[node.input[0]] for node in norms if makers[node.input[0]].op_type == "Add"]
    assert len(additions) >= 7
    assert all(known[name] == TensorProto.FLOAT for node in additions for name in node.input)


def test_weights_stored_as_half_compute_in_single_what_torch_computes_with_them(tokenizer: Any, tmp_path: Path) -> None:
    small = export("timm", tmp_path / "small", tokenizer, store_half=True)
    assert small.manifest.graph.precision == "fp32"
    assert small.manifest.parity.map_max_abs < 1e-4
    graph, known = types(small)
    assert {known[name] for node in graph.node if node.op_type == "Conv" for name in node.input} == {TensorProto.FLOAT}
    stored = {each.name: each.data_type for each in graph.initializer if np.prod(each.dims) > 1024}
    assert set(stored.values()) == {TensorProto.FLOAT16}


def test_rounding_keeps_small_tensors_and_rounds_large_ones_to_half() -> None:
    module = torch.nn.Linear(64, 32)
    weight, bias = module.weight.detach().clone(), module.bias.detach().clone()
    round_to_half(module)
    torch.testing.assert_close(module.weight, weight.half().float(), rtol=0, atol=0)
    torch.testing.assert_close(module.bias, bias, rtol=0, atol=0)
