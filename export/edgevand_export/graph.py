"""The encoder as one ONNX graph: image (and text) in; embedding, patch tokens and logits out.

Outputs, float32, N dynamic:

- ``embedding`` [N, D]: unit image embeddings;
- ``tokens_<stage>`` [N, P, C]: unit patch tokens, row-major over the grid;
- ``logits_<stage>`` [N, h, w], where the stage has a head: ``scale * z . (t_abnormal - t_normal) / ||z||`` with
  z the head's output, which is the reference's logit of abnormal minus that of normal.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor, nn

from edgevand.bundle import StageRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgevand_export.towers import Tower

__all__ = ["LOGIT_SCALE", "OPSET", "EncoderGraph", "NamedGraph", "to_onnx", "translate"]

LOGIT_SCALE = 100.0
OPSET = 20
"""The first with Gelu as one operator; LayerNormalization is one since 17."""

EPSILON = 1e-12
MAX_BATCH = 1024


class NamedGraph(Protocol):
    """A module whose inputs and outputs have names."""

    @property
    def input_names(self) -> list[str]:
        """``image``, and ``text`` where it takes it."""

    @property
    def output_names(self) -> list[str]:
        """In the order of what ``forward`` returns."""


class EncoderGraph(nn.Module):
    """A tower and its heads; ``forward`` is what the ONNX graph computes."""

    def __init__(self, tower: Tower, heads: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        """Put the parts together.

        Args:
            tower: the image tower.
            heads: stage to (weight (D, C), bias (D,)); may be empty.
        """
        super().__init__()
        self.encoder = tower.module
        self.stages = tower.stages
        self.grids = tower.grids
        self.widths = tower.widths
        self.heads = nn.ModuleDict({str(stage): _head(*heads[stage]) for stage in tower.stages if stage in heads})

    @property
    def input_names(self) -> list[str]:
        """Names of the graph's inputs."""
        return ["image", "text"] if len(self.heads) else ["image"]

    @property
    def output_names(self) -> list[str]:
        """Names of the graph's outputs."""
        tokens = [f"tokens_{stage}" for stage in self.stages]
        return ["embedding", *tokens, *(f"logits_{stage}" for stage in self.heads)]

    def stage_records(self) -> tuple[StageRecord, ...]:
        """The manifest's records of the stages."""
        return tuple(
            StageRecord(index=stage, width=width, grid=grid, head=str(stage) in self.heads)
            for stage, width, grid in zip(self.stages, self.widths, self.grids, strict=True)
        )

    def forward(self, image: Tensor, text: Tensor | None = None) -> tuple[Tensor, ...]:
        """Image (N, 3, H, W) and text (2, D), rows (normal, abnormal), to the outputs in ``output_names``' order."""
        features, stages = self.encoder(image)
        logits = []
        if text is not None:
            direction = (text[1] - text[0]).unsqueeze(1) * LOGIT_SCALE
            for stage, grid, tokens in zip(self.stages, self.grids, stages, strict=True):
                if str(stage) in self.heads:
                    z = self.heads[str(stage)](tokens)
                    logits.append(((z @ direction) / _norm(z)).reshape(-1, *grid))
        return (_unit(features), *map(_unit, stages), *logits)


def to_onnx(graph: NamedGraph, size: tuple[int, int], dim: int) -> Any:  # noqa: ANN401 (onnx_ir has its own types)
    """Translate the graph to ONNX with a dynamic batch.

    Args:
        graph: a module in evaluation mode, float32.
        size: height and width of the image.
        dim: length of a text embedding.

    Returns:
        An ``onnx_ir.Model`` whose initializers share memory with the module's weights.
    """
    shapes: dict[str, Any] = {"image": {0: torch.export.Dim("N", min=1, max=MAX_BATCH)}}
    inputs = {"image": torch.zeros(2, 3, *size)}
    if "text" in graph.input_names:
        shapes["text"] = None
        inputs["text"] = torch.zeros(2, dim)
    return translate(cast("nn.Module", graph), inputs, graph.output_names, shapes)


def translate(module: nn.Module, inputs: Mapping[str, Tensor], outputs: list[str], shapes: dict[str, Any]) -> Any:  # noqa: ANN401
    """Translate a module to ONNX.

    Args:
        module: in evaluation mode, float32.
        inputs: an example of each input, by the names of ``forward``'s parameters, in their order.
        outputs: names of what ``forward`` returns.
        shapes: for each input which axes are dynamic (``torch.export.Dim`` by axis), or None.

    Returns:
        An ``onnx_ir.Model`` whose initializers share memory with the module's weights.
    """
    noisy = logging.getLogger("torch.onnx")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=outputs,
                opset_version=OPSET,
                dynamic_shapes=shapes,
                dynamo=True,
                verbose=False,
            )
    finally:
        noisy.setLevel(level)
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    model = program.model
    _strip(model)
    return model


def _strip(model: Any) -> None:  # noqa: ANN401
    """Remove what the exporter notes about its own source files, and the names it gives to itself."""
    model.metadata_props.clear()
    model.producer_name, model.producer_version, model.doc_string = "edgevand", None, None
    model.graph.name = "encoder"
    model.graph.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()


def _head(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A head as a layer, from existing tensors."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


def _norm(x: Tensor) -> Tensor:
    """Length of the rows, never 0."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.clamp_min(EPSILON)


def _unit(x: Tensor) -> Tensor:
    """Rows of length 1."""
    return x / _norm(x)
