"""How the graph lies on the disk: one file, or a small graph with its weights beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir as ir

if TYPE_CHECKING:
    from pathlib import Path

    from edgevand.bundle import Precision

__all__ = ["GRAPH_FILE", "save_graph", "variant_file"]

GRAPH_FILE = "encoder.onnx"

INLINE_LIMIT = 64 << 20
"""Bytes of weights up to which the graph is one file; protobuf ends at 2 GiB, and mapped weights load faster."""

SMALL = 1024
"""Bytes up to which a constant stays inside the graph."""


def variant_file(precision: Precision) -> str:
    """Name of the graph's file in another precision."""
    return f"encoder.{precision}.onnx"


def save_graph(model: Any, folder: Path, name: str = GRAPH_FILE) -> None:  # noqa: ANN401 (onnx_ir.Model)
    """Write the graph, and ``<name>.data`` beside it where the weights are large.

    Args:
        model: ``onnx_ir.Model``; its initializers are written one by one and never copied as a whole.
        folder: the bundle's staging directory.
        name: of the graph's file.
    """
    weights = [each.const_value for each in model.graph.initializers.values()]
    if sum(each.nbytes for each in weights) <= INLINE_LIMIT:
        ir.save(model, folder / name)
    else:
        ir.save(model, folder / name, external_data=f"{name}.data", size_threshold_bytes=SMALL)
