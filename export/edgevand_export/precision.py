"""Half precision in the graph itself, by casts: engines follow the tensors' types, not their own flags.

``to_half`` is for speed: matrix products and convolutions in float16, everything that can overflow or round badly
(LayerNormalization, Softmax, norms, logits, the residual stream of a ViT) in float32, inputs and outputs float32.
``store_half`` is for size: the arithmetic stays float32, only the weights lie on the disk as float16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    import torch

__all__ = ["round_to_half", "store_half"]

SMALL = 1024
"""Tensors of no more elements stay float32: biases and norms cost nothing and round badly."""


def round_to_half(module: torch.nn.Module) -> None:
    """Round a module's large weights to half precision, in place, and keep them as float32.

    Args:
        module: its parameters of more than 1024 elements are rounded: those that ``store_half`` stores so.
    """
    for parameter in module.parameters():
        if parameter.numel() > SMALL:
            parameter.data = parameter.data.half().float()


def store_half(model: Any) -> None:  # noqa: ANN401 (onnx_ir.Model)
    """Store the float32 weights of more than ``SMALL`` elements as float16, with a Cast to float32 before their use.

    Args:
        model: ``onnx_ir.Model``, changed in place. Weights that were rounded to half before lose nothing.
    """
    graph = model.graph
    casts = []
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        if tensor.dtype != ir.DataType.FLOAT or tensor.size <= SMALL:
            continue
        half = ir.Value(name=f"{value.name}.half", const_value=ir.tensor(tensor.numpy().astype(np.float16)))
        half.dtype, half.shape = ir.DataType.FLOAT16, value.shape
        cast = ir.node("Cast", [half], {"to": ir.DataType.FLOAT})
        cast.outputs[0].dtype, cast.outputs[0].shape = ir.DataType.FLOAT, value.shape
        value.replace_all_uses_with(cast.outputs[0])
        del graph.initializers[value.name]
        cast.outputs[0].name = value.name
        graph.initializers[half.name] = half
        casts.append(cast)
    if casts:
        graph.insert_before(graph[0], casts)
