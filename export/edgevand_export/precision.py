"""Half precision in the graph itself, by casts: engines follow the tensors' types, not flags of their own.

``to_half`` is for speed: matrix products and convolutions in float16; everything that overflows or rounds badly
(LayerNormalization, Softmax, norms, logits, the residual stream of a ViT) in float32; inputs and outputs float32.
``store_half`` is for size: the arithmetic stays float32, only the weights lie on the disk as float16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    import torch

__all__ = ["round_to_half", "store_half", "to_half"]

SMALL = 1024
"""Tensors of no more elements are not stored as float16: biases and norms cost nothing and round badly."""

PRODUCTS = {"Conv", "Gemm", "MatMul"}
"""Computed in float16 whatever comes in, unless it comes from the text."""

FOLLOWERS = {
    *("Add", "Clip", "Erf", "Gelu", "HardSigmoid", "HardSwish", "Mul", "Relu", "Sigmoid", "Sub", "Tanh"),
    *("AveragePool", "GlobalAveragePool", "MaxPool"),
    *(
        "Concat",
        "Flatten",
        "Gather",
        "Identity",
        "Pad",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    ),
}
"""Computed in float16 where all their inputs are; one float32 input (the residual stream) keeps them float32."""


def round_to_half(module: torch.nn.Module) -> None:
    """Round a module's large weights to half precision, in place, and keep them as float32.

    Args:
        module: its tensors of more than ``SMALL`` elements are rounded: those that ``store_half`` stores so.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point() and tensor.numel() > SMALL:
            tensor.data = tensor.data.half().float()


def store_half(model: Any) -> None:  # noqa: ANN401 (onnx_ir.Model)
    """Store the float32 weights of more than ``SMALL`` elements as float16, with a Cast to float32 before their use.

    Args:
        model: ``onnx_ir.Model``, changed in place. Weights that were rounded to half before lose nothing.
    """
    graph = model.graph
    casts = []
    for value in list(graph.initializers.values()):
        if value.const_value.dtype != ir.DataType.FLOAT or value.const_value.size <= SMALL:
            continue
        half = _half_initializer(graph, value)
        cast = ir.node("Cast", [half], {"to": ir.DataType.FLOAT})
        value.replace_all_uses_with(cast.outputs[0])
        _describe(cast.outputs[0], value, ir.DataType.FLOAT)
        del graph.initializers[value.name]
        cast.outputs[0].name = value.name
        casts.append(cast)
    if casts:
        graph.insert_before(graph[0], casts)


def to_half(model: Any) -> None:  # noqa: ANN401 (onnx_ir.Model)
    """Make the matrix products and convolutions of a float32 graph float16, with casts where types meet.

    Args:
        model: ``onnx_ir.Model`` of float32 inputs and outputs, which stay so; changed in place.
    """
    _HalfPass(model.graph).run()


class _HalfPass:
    """One walk over the graph in the order of computation; knows which values have become float16."""

    def __init__(self, graph: Any) -> None:  # noqa: ANN401 (onnx_ir.Graph)
        """Start with every value float32."""
        self.graph = graph
        self.half: set[Any] = set()
        self.from_text = {value for value in graph.inputs if value.name == "text"}
        self.as_half: dict[Any, Any] = {}
        self.as_float: dict[Any, Any] = {}

    def run(self) -> None:
        """Type every node, cast at the borders, drop weights that are no longer used as float32."""
        for node in list(self.graph):
            if any(value in self.from_text for value in node.inputs):
                self.from_text.update(node.outputs)
            if self._becomes_half(node):
                self._retype(node, self._to_half)
                for value in node.outputs:
                    value.dtype = ir.DataType.FLOAT16
                    self.half.add(value)
            else:
                self._retype(node, self._to_float)
        for index, value in enumerate(self.graph.outputs):
            if value in self.half:
                raise ValueError(f"output {index} of the graph became float16")
        for value in list(self.graph.initializers.values()):
            if not value.uses():
                del self.graph.initializers[value.name]

    def _becomes_half(self, node: Any) -> bool:  # noqa: ANN401 (onnx_ir.Node)
        """Whether a node is computed in float16."""
        if node.op_type in PRODUCTS:
            return not any(value in self.from_text for value in node.inputs)
        moving = [value for value in node.inputs if value is not None and not _is_constant(value) and _is_float(value)]
        return node.op_type in FOLLOWERS and bool(moving) and all(value in self.half for value in moving)

    def _retype(self, node: Any, convert: Any) -> None:  # noqa: ANN401
        """Give a node its float inputs in the type it computes in."""
        for index, value in enumerate(node.inputs):
            if value is not None and _is_float(value):
                node.replace_input_with(index, convert(value, node))

    def _to_half(self, value: Any, node: Any) -> Any:  # noqa: ANN401
        """A float value as float16."""
        if value in self.half:
            return value
        if value not in self.as_half:
            if value.is_initializer():
                self.as_half[value] = _half_initializer(self.graph, value)
            else:
                self.as_half[value] = self._cast(value, ir.DataType.FLOAT16, node)
        return self.as_half[value]

    def _to_float(self, value: Any, node: Any) -> Any:  # noqa: ANN401
        """A float value as float32."""
        if value not in self.half:
            return value
        if value not in self.as_float:
            self.as_float[value] = self._cast(value, ir.DataType.FLOAT, node)
        return self.as_float[value]

    def _cast(self, value: Any, dtype: Any, node: Any) -> Any:  # noqa: ANN401
        """A new Cast in front of the node that is the first to need it."""
        cast = ir.node("Cast", [value], {"to": dtype})
        _describe(cast.outputs[0], value, dtype)
        cast.outputs[0].name = f"{value.name}.{'half' if dtype == ir.DataType.FLOAT16 else 'float'}"
        self.graph.insert_before(node, [cast])
        return cast.outputs[0]


def _half_initializer(graph: Any, value: Any) -> Any:  # noqa: ANN401
    """The float16 copy of an initializer, added to the graph."""
    array = value.const_value.numpy().astype(np.float16)
    half = ir.Value(name=f"{value.name}.half", const_value=ir.tensor(array, name=f"{value.name}.half"))
    _describe(half, value, ir.DataType.FLOAT16)
    graph.initializers[half.name] = half
    return half


def _describe(value: Any, like: Any, dtype: Any) -> None:  # noqa: ANN401
    """Give a new value its type, and the shape of the one it stands for."""
    value.dtype, value.shape = dtype, like.shape


def _is_constant(value: Any) -> bool:  # noqa: ANN401
    """Whether a value is known before the graph runs."""
    producer = value.producer()
    return value.is_initializer() or (producer is not None and producer.op_type == "Constant")


def _is_float(value: Any) -> bool:  # noqa: ANN401
    """Whether a value was float32 before the pass, or has become float16."""
    return value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16)
