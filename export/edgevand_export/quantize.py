"""A float32 graph with its products in int8, as Q/DQ: after training, from a handful of frames (docs/precision.md).

``x -> QuantizeLinear -> DequantizeLinear -> product <- DequantizeLinear <- int8 weight``: ONNX Runtime, OpenVINO and
TensorRT each replace the pattern by their own int8 kernels, so one graph serves all three. What is not between such
pairs stays float32: the first and the last products of every path (patch embedding, heads, projection), every product
with the text, LayerNormalization, Softmax, attention's two products of activations, the residual stream.

Weights are symmetric, one scale for each output channel, of 7 bits: processors without VNNI add two 8-bit products in
16 bits, which 8-bit weights overflow. Activations have one scale for each tensor, 8 bits, and no zero point either:
TensorRT takes no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from onnxscript import optimizer

from edgevand_export.ranges import Histogram, find_peaks, find_ranges
from edgevand_export.smooth import smooth_norms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand_export.ranges import Feed

__all__ = ["WEIGHT_PEAK", "products_of", "quantise"]

WEIGHT_PEAK = 64
"""Largest weight in int8: 2 x 255 x 64 is below 2**15, where ``vpmaddubsw`` saturates."""

PRODUCTS = {"Conv", "Gemm", "MatMul"}
CLIPPED = {"Clip", "Relu"}
"""Engines do these within the convolution before them, so the pair goes behind them."""


def quantise(path: Path, feeds: Sequence[Feed]) -> Any:  # noqa: ANN401 (onnx_ir.Model)
    """Read a float32 graph and make its products int8.

    Args:
        path: the graph; its weights may be stored as float16.
        feeds: what it is run on to find how large its activations get, at least one; inputs by name, batch 1.

    Returns:
        ``onnx_ir.Model`` with the same inputs and outputs, float32.
    """
    model = ir.load(path)
    optimizer.fold_constants(model, onnx_shape_inference=False, input_size_limit=1 << 40, output_size_limit=1 << 40)
    products = products_of(model.graph)
    peaks = find_peaks(model, {node.inputs[0]: _channel_axis(node) for node in products}, feeds)
    smooth_norms(model.graph, products, peaks)
    places = _places(products)
    ranges = find_ranges(model, places, feeds)
    for node in products:
        _quantise_weight(model.graph, node)
    for value in places:
        _quantise_activation(model.graph, value, ranges[value])
    optimizer.remove_unused_nodes(model)
    return model


def products_of(graph: Any) -> list[Any]:  # noqa: ANN401 (onnx_ir.Graph)
    """Nodes that become int8: products with a constant weight that come neither first nor last nor from the text."""
    candidates = [
        node
        for node in graph
        if node.op_type in PRODUCTS and node.inputs[1].is_initializer() and len(node.inputs[1].shape) > 1
    ]
    behind_text = _reached([value for value in graph.inputs if value.name == "text"], forwards=True)
    behind = _reached([value for node in candidates for value in node.outputs], forwards=True)
    before = _reached([node.inputs[0] for node in candidates], forwards=False)
    return [
        node
        for node in candidates
        if node.inputs[0] in behind and node.outputs[0] in before and node.outputs[0] not in behind_text
    ]


def _reached(values: Iterable[Any], *, forwards: bool) -> set[Any]:
    """The values and all that depends on them, or all that they depend on."""
    found, waiting = set(), list(values)
    while waiting:
        value = waiting.pop()
        if value is None or value in found:
            continue
        found.add(value)
        if forwards:
            waiting += [output for node, _ in value.uses() for output in node.outputs]
        elif value.producer() is not None:
            waiting += value.producer().inputs
    return found


def _places(products: Sequence[Any]) -> list[Any]:
    """Activations that get a Q/DQ pair: inputs of products, and outputs of convolutions, in the graph's order."""
    places = dict.fromkeys(node.inputs[0] for node in products)
    for node in products:
        if node.op_type == "Conv":
            value = node.outputs[0]
            users = [user for user, _ in value.uses()]
            clipped = len(users) == 1 and users[0].op_type in CLIPPED
            places[users[0].outputs[0] if clipped else value] = None
    return list(places)


def _channel_axis(node: Any) -> int:  # noqa: ANN401
    """Axis of the input that the product sums over."""
    return 1 if node.op_type == "Conv" else -1


def _output_axis(node: Any) -> int:  # noqa: ANN401
    """Axis of the weight that counts the output's channels."""
    if node.op_type == "Conv":
        return 0
    transposed = node.op_type == "Gemm" and "transB" in node.attributes and node.attributes["transB"].as_int() == 1
    return 0 if transposed else 1


def _quantise_weight(graph: Any, node: Any) -> None:  # noqa: ANN401
    """Put an int8 weight and its DequantizeLinear in the weight's place."""
    value, axis = node.inputs[1], _output_axis(node)
    weight = value.const_value.numpy()
    others = tuple(each for each in range(weight.ndim) if each != axis)
    scale = np.abs(weight).max(axis=others, keepdims=True) / WEIGHT_PEAK
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    whole = np.rint(weight / scale).astype(np.int8)
    name = f"{node.outputs[0].name}.weight"
    inputs = [
        _constant(graph, f"{name}.int8", whole),
        _constant(graph, f"{name}.scale", scale.reshape(-1)),
        _constant(graph, f"{name}.zero", np.zeros(scale.size, np.int8)),
    ]
    dequantise = ir.node("DequantizeLinear", inputs, {"axis": axis})
    _describe(dequantise.outputs[0], name, ir.DataType.FLOAT, value.shape)
    graph.insert_before(node, [dequantise])
    node.replace_input_with(1, dequantise.outputs[0])
    if not value.uses():
        del graph.initializers[value.name]


def _quantise_activation(graph: Any, value: Any, seen: Histogram) -> None:  # noqa: ANN401
    """Send a value through int8 and back on its way to everything that uses it."""
    scale = seen.scale()
    shared = None
    for number, (user, index) in enumerate(list(value.uses())):
        name = f"{value.name}.{number}"
        if shared is None or user.op_type == "MatMul":
            constants = [_constant(graph, f"{name}.scale", scale), _constant(graph, f"{name}.zero", np.int8(0))]
            shared = ir.node("QuantizeLinear", [value, *constants])
            _describe(shared.outputs[0], f"{name}.int8", ir.DataType.INT8, value.shape)
            graph.insert_before(user, [shared])
            scale = np.nextafter(scale, np.float32(np.inf))
        dequantise = ir.node("DequantizeLinear", [shared.outputs[0], *constants])
        _describe(dequantise.outputs[0], f"{name}.back", ir.DataType.FLOAT, value.shape)
        graph.insert_before(user, [dequantise])
        user.replace_input_with(index, dequantise.outputs[0])


def _constant(graph: Any, name: str, array: NDArray[Any] | np.generic) -> Any:  # noqa: ANN401
    """A new initializer."""
    tensor = ir.tensor(np.asarray(array), name=name)
    value = ir.Value(name=name, const_value=tensor)
    _describe(value, name, tensor.dtype, tensor.shape)
    graph.initializers[name] = value
    return value


def _describe(value: Any, name: str, dtype: Any, shape: Any) -> None:  # noqa: ANN401
    """Name a new value and give it its type."""
    value.name, value.dtype, value.shape = name, dtype, shape
