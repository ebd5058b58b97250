"""A method's own graph in a bundle: exported, with a golden sample and a certificate of its own (docs/formats.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from edgevand.bundle import GraphRecord, OwnGraph
from edgevand.tensors import write_tensors
from edgevand_export.golden import golden_images, normalise
from edgevand_export.graph import OPSET, to_onnx
from edgevand_export.parity import compare_outputs, run_graph
from edgevand_export.storage import save_graph

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgevand.bundle import ImageRecord, MapRecord, StageRecord

__all__ = ["write_own_graph"]


class _Named(nn.Module):
    """A module, and what its outputs are called."""

    def __init__(self, module: nn.Module, output_names: list[str], *, takes_text: bool) -> None:
        super().__init__()
        self.module = module
        self.input_names = ["image", "text"] if takes_text else ["image"]
        self.output_names = output_names

    def forward(self, image: Tensor, text: Tensor | None = None) -> tuple[Tensor, ...]:
        found = self.module(image) if text is None else self.module(image, text)
        return (found,) if isinstance(found, Tensor) else tuple(found)


@torch.no_grad()
def write_own_graph(  # noqa: PLR0913 - what a graph may have, by name
    module: nn.Module,
    folder: Path,
    name: str,
    image: ImageRecord,
    *,
    stages: Sequence[StageRecord] = (),
    maps: Sequence[MapRecord] = (),
    embedding_dim: int = 0,
    text: NDArray[np.float32] | None = None,
) -> OwnGraph:
    """Export a module with a dynamic batch, and hold the written graph against it.

    Args:
        module: image (N, 3, H, W) float32, normalised as ``image`` says, to the outputs in this order: the embedding
            (N, D) of unit length where ``embedding_dim`` is not 0, tokens (N, P, C) of unit length of each stage,
            logits (N, h, w) of each stage with a head, and each map (N, h, w); one output may stand by itself. It is
            switched to evaluation mode.
        folder: staging directory of the bundle.
        name: of the method; the files are ``<name>.onnx`` and ``<name>-golden.safetensors``.
        image: the preprocessing.
        stages: of the tokens.
        maps: of the maps.
        embedding_dim: D, or 0 for none.
        text: (2, D) float32 rows (normal, abnormal) to prove it with, where stages have heads; the module then takes
            text besides the image.

    Raises:
        GateError: the graph does not compute what torch computes.
    """
    names = [*(["embedding"] if embedding_dim else []), *(f"tokens_{stage.index}" for stage in stages)]
    names += [f"logits_{stage.index}" for stage in stages if stage.head]
    names += [f"map_{each.name}" for each in maps]
    graph = _Named(module, names, takes_text=text is not None).eval()
    size = (image.height, image.width)
    pictures = golden_images(size)
    inputs = normalise(pictures, image)
    shown = {} if text is None else {"text": text}
    found = graph(torch.from_numpy(inputs), *map(torch.from_numpy, shown.values()))
    reference = {output: each.numpy() for output, each in zip(graph.output_names, found, strict=True)}
    golden = f"{name}-golden.safetensors"
    write_tensors(folder / golden, {"image": pictures, **shown, **reference})
    file = f"{name}.onnx"
    save_graph(to_onnx(graph, size, embedding_dim), folder, file)
    results = run_graph(folder / file, inputs, text)
    return OwnGraph(
        graph=GraphRecord(file=file, opset=OPSET, precision="fp32"),
        image=image,
        embedding_dim=embedding_dim,
        stages=tuple(stages),
        maps=tuple(maps),
        golden=golden,
        parity=compare_outputs(reference, results, "fp32"),
    )
