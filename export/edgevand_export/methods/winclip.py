"""Prepares a bundle for ``winclip``: its tower with all windows in one graph, and text of the pack ``winclip``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from edgevand.bundle import MethodRecord, StageRecord
from edgevand.errors import UsageError
from edgevand.prompts import load_pack
from edgevand.tensors import write_tensors
from edgevand_export.export import bundle_model
from edgevand_export.graph import LOGIT_SCALE
from edgevand_export.methods.own_graph import write_own_graph
from edgevand_export.text import embed_objects
from edgevand_export.windows import SCALES, WindowTower, make_windows
from edgevand_runtime.methods.winclip import WINCLIP, WinClipSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgevand.bundle import Bundle

__all__ = ["WinClipGraph", "export_winclip"]

TENSORS = "winclip-text.safetensors"
"""Of the method's own tensors: ``text_<object>`` (2, D)."""


class WinClipGraph(nn.Module):
    """Pictures and text to embeddings, unit tokens of windows and patches, and the windows' logits."""

    def __init__(self, tower: WindowTower) -> None:
        """Take over the tower."""
        super().__init__()
        self.tower = tower.module
        self.grids = [(tower.grid[0] - scale + 1, tower.grid[1] - scale + 1) for scale in SCALES]

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) and (2, D) to the embedding (N, D), tokens (N, P, C) of each stage, logits (N, h, w)."""
        features, windows, patches = self.tower(image)
        unit = [nn.functional.normalize(each, dim=-1) for each in (features, *windows, patches)]
        direction = (text[1] - text[0]) * LOGIT_SCALE
        logits = [(each @ direction).reshape(-1, *grid) for each, grid in zip(unit[1:], self.grids, strict=False)]
        return (*unit, *logits)


def export_winclip(
    base: Bundle,
    settings: dict[str, Any],
    weights: tuple[Path, ...],
    folder: Path,
    report: Callable[[str], None],
) -> MethodRecord:
    """Write the graph with windows and the text of the objects; see ``Exporter``.

    Raises:
        UsageError: more than one weights file, or a tower that windows are not defined for.
        BadInputError: weights that are not the base bundle's.
        UnavailableError: they are absent and cannot be fetched.
        GateError: the graph does not compute what torch computes.
    """
    options = WinClipSettings.model_validate(settings)
    if len(weights) > 1:
        raise UsageError(
            f"expected one --weights for winclip, the checkpoint that the bundle was made from, found {len(weights)}; "
            "leave the others out"
        )
    clip, tokenizer = bundle_model(base, str(weights[0]) if weights else None, report)
    side = options.image_size
    size = (side, side) if side else (base.whole.image.height, base.whole.image.width)
    tower = make_windows(clip.visual, size)
    image = base.whole.image.model_copy(update={"height": size[0], "width": size[1]})
    objects = options.objects or base.objects or ("object",)
    report(f"text embeddings of {', '.join(objects)} with the prompts winclip")
    texts = embed_objects(clip, tokenizer, load_pack("winclip"), objects)
    write_tensors(folder / TENSORS, {f"text_{name}": each for name, each in texts.items()})
    graph = WinClipGraph(tower).eval()
    text = next(iter(texts.values()))
    dim = text.shape[1]
    stages = [
        StageRecord(index=number, width=dim, grid=grid, head=True) for number, grid in enumerate(graph.grids, start=1)
    ]
    stages.append(StageRecord(index=len(stages) + 1, width=tower.width, grid=tower.grid, head=False))
    windows = " and ".join(
        f"{stage.grid[0] * stage.grid[1]} windows of {scale}x{scale}"
        for stage, scale in zip(stages, SCALES, strict=False)
    )
    report(f"graph at {size[0]}x{size[1]} px with {windows} patches")
    own = write_own_graph(
        graph,
        folder,
        WINCLIP.name,
        image,
        stages=stages,
        embedding_dim=dim,
        text=text,
    )
    return MethodRecord(name=WINCLIP.name, settings=settings, graph=own, tensors=TENSORS)
