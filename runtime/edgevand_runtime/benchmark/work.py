"""How much a bundle's encoder computes, and how fast this processor can multiply matrices.

Counted are the multiplications and additions of ``Conv``, ``Gemm`` and ``MatMul``, two for each product, for one
frame: what a matrix-product peak can be held against. Norms, softmax, activations and resizing are not counted. The
shapes come from ONNX Runtime, which profiles one run of the float32 graph as it was exported, so that no package
that reads ONNX is needed.
"""

from __future__ import annotations

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevand.bundle import Bundle

__all__ = ["count_operations", "matrix_peak"]

_SIDE = 1536
"""Side of the matrices of the peak: 9 MB each, several milliseconds of work for every thread."""

_QUIET = 3


def count_operations(bundle: Bundle) -> int:
    """Floating-point operations of the products in one frame's pass through the encoder.

    Runs the bundle's first graph once on the processor.
    """
    import onnxruntime as ort

    manifest = bundle.manifest
    with TemporaryDirectory(prefix="edgevand-profile-") as folder:
        options = ort.SessionOptions()
        options.log_severity_level = _QUIET
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Weights that are packed when the graph is loaded are missing from the shapes of a node's arguments.
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        graph = bundle.graph_in(manifest.graph.precision)
        session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        feed = {"image": np.zeros((1, 3, manifest.image.height, manifest.image.width), np.float32)}
        if "text" in {node.name for node in session.get_inputs()}:
            feed["text"] = np.ones((2, manifest.embedding_dim), np.float32)
        session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return sum(_operations(event["args"]) for event in events if "op_name" in event.get("args", {}))


def _operations(node: dict[str, Any]) -> int:
    """Operations of one node, from its type and the shapes of its arguments and of its result."""
    if node["op_name"] not in {"Conv", "Gemm", "MatMul"} or not node.get("output_type_shape"):
        return 0
    first, second = (_shape(entry) for entry in node["input_type_shape"][:2])
    made = _shape(node["output_type_shape"][0])
    if node["op_name"] == "Conv":
        terms = math.prod(second[1:])  # input channels of a group, and the kernel
    elif node["op_name"] == "Gemm":
        terms = math.prod(first) // made[0]  # whichever of the two axes is summed over
    else:
        terms = first[-1]
    return 2 * math.prod(made) * terms


def _shape(entry: dict[str, Sequence[int]]) -> Sequence[int]:
    """``{"float": [1, 3, 4]}`` as its shape."""
    return next(iter(entry.values()))


def matrix_peak(threads: int, seconds: float = 0.5) -> float:
    """Most float32 operations a second of NumPy's matrix product, each thread with its own rows of one product.

    Args:
        threads: of the processor.
        seconds: how long it is tried; the best product counts.
    """
    left = np.ones((_SIDE, _SIDE), np.float32)
    right, made = left.copy(), np.empty_like(left)
    shares = [slice(part[0], part[-1] + 1) for part in np.array_split(np.arange(_SIDE), threads)]
    best = math.inf
    with ThreadPoolExecutor(threads) as pool:
        end = time.perf_counter() + seconds
        while math.isinf(best) or time.perf_counter() < end:
            start = time.perf_counter()
            list(pool.map(lambda rows: np.matmul(left[rows], right, out=made[rows]), shares))
            best = min(best, time.perf_counter() - start)
    return 2 * _SIDE**3 / best
