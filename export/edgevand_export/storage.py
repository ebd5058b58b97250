"""How the graph lies on the disk: one file, or a small graph with its weights beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir as ir

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DATA_FILE", "GRAPH_FILE", "save_graph"]

GRAPH_FILE = "encoder.onnx"
DATA_FILE = "encoder.onnx.data"

INLINE_LIMIT = 64 << 20
"""Bytes of weights up to which the graph is one file; protobuf ends at 2 GiB, and mapped weights load faster."""

SMALL = 1024
"""Bytes up to which a constant stays inside the graph."""


def save_graph(model: Any, folder: Path) -> None:  # noqa: ANN401 (onnx_ir.Model)
    """Write ``encoder.onnx``, and ``encoder.onnx.data`` where the weights are large.

    Args:
        model: ``onnx_ir.Model``; its initializers are written one by one and never copied as a whole.
        folder: the bundle's staging directory.
    """
    weights = [each.const_value for each in model.graph.initializers.values()]
    if sum(each.nbytes for each in weights) <= INLINE_LIMIT:
        ir.save(model, folder / GRAPH_FILE)
    else:
        ir.save(model, folder / GRAPH_FILE, external_data=DATA_FILE, size_threshold_bytes=SMALL)
