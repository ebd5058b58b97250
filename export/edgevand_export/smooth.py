"""Outlying channels of activations moved into the weights behind them (Xiao et al. 2023, "SmoothQuant", equation 4).

A few channels of a transformer's activations are many times larger than the others, and one scale for the whole tensor
leaves the others no steps. ``x W = (x / s) (s W)``: with ``s_j = max|x_j|^a / max|W_j|^(1 - a)`` both sides share the
difficulty, and the division costs nothing where x comes from a LayerNormalization, whose scale and shift take it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["STRENGTH", "smooth_norms"]

STRENGTH = 0.5
"""The a of the formula; the paper's choice for most models."""

FEWEST = 1e-5
"""Channels and weights below this count as this: a channel that is always 0 has nothing to divide."""


def smooth_norms(
    graph: Any,  # noqa: ANN401 (onnx_ir.Graph)
    products: Sequence[Any],
    peaks: Mapping[Any, NDArray[np.float32]],
    strength: float = STRENGTH,
) -> int:
    """Smooth what goes from a LayerNormalization into products and nowhere else; the graph computes what it did.

    Args:
        graph: changed in place; constants that several nodes share are copied, not changed.
        products: MatMul nodes with a constant weight (C, out) among others.
        peaks: largest magnitude of each channel, (C,), by the products' inputs.
        strength: a; 0 leaves the whole range to the activations' channels as far as the weights' peaks allow.

    Returns:
        Norms that were smoothed.
    """
    chosen, done = set(products), 0
    for norm in [node for node in graph if node.op_type == "LayerNormalization"]:
        value = norm.outputs[0]
        users = [user for user, _ in value.uses()]
        if value.is_graph_output() or not users or not all(user in chosen and _is_linear(user) for user in users):
            continue
        weights = [user.inputs[1].const_value.numpy() for user in users]
        heaviest = np.maximum(np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0), FEWEST)
        factor = np.maximum(peaks[value], FEWEST) ** strength / heaviest ** (1 - strength)
        for index in range(1, len(norm.inputs)):
            _replace(graph, norm, index, norm.inputs[index].const_value.numpy() / factor)
        for user, weight in zip(users, weights, strict=True):
            _replace(graph, user, 1, weight * factor[:, None])
        done += 1
    return done


def _is_linear(node: Any) -> bool:  # noqa: ANN401
    return node.op_type == "MatMul" and len(node.inputs[1].shape) == 2  # noqa: PLR2004 - a matrix


def _replace(graph: Any, node: Any, index: int, array: NDArray[Any]) -> None:  # noqa: ANN401
    """Give a node a constant of its own."""
    old = node.inputs[index]
    name = f"{node.outputs[0].name}.{index}.smooth"
    new = ir.Value(name=name, const_value=ir.tensor(array.astype(np.float32), name=name))
    new.dtype, new.shape = ir.DataType.FLOAT, old.shape
    graph.initializers[name] = new
    node.replace_input_with(index, new)
    if not old.uses():
        del graph.initializers[old.name]
