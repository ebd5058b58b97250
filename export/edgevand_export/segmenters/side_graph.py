"""Graphs beside a method's own: written once, proved against torch, run at enrolment only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from edgevand.errors import GateError
from edgevand_export.graph import translate
from edgevand_export.parity import compare_outputs
from edgevand_export.storage import save_graph
from edgevand_runtime.methods.foreground.graphs import SideGraphRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

__all__ = ["write_side_graph"]


@torch.no_grad()
def write_side_graph(
    module: nn.Module,
    folder: Path,
    file: str,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    shapes: dict[str, Any],
) -> SideGraphRecord:
    """Export a module and hold the written graph against it.

    Args:
        module: in evaluation mode.
        folder: staging directory of the bundle.
        file: of the graph.
        inputs: an example of each, by the names of ``forward``'s parameters.
        outputs: names of what ``forward`` returns.
        shapes: dynamic axes, as ``graph.translate`` takes them.

    Raises:
        GateError: the graph does not compute what torch computes.
    """
    import onnxruntime

    found = module(*inputs.values())
    found = (found,) if isinstance(found, torch.Tensor) else found
    reference = {name: each.numpy() for name, each in zip(outputs, found, strict=True)}
    save_graph(translate(module, inputs, list(outputs), shapes), folder, file)
    session = onnxruntime.InferenceSession(folder / file, providers=["CPUExecutionProvider"])
    results = session.run(list(outputs), {name: each.numpy() for name, each in inputs.items()})
    try:
        certificate = compare_outputs(reference, {1: dict(zip(outputs, results, strict=True))}, "fp32")
    except GateError as error:
        raise GateError(f"{file}: {error}") from error
    return SideGraphRecord(
        file=file, reference=certificate.reference, engine=certificate.engine, outputs=certificate.outputs
    )
