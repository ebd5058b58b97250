"""Image towers of open_clip models, as modules that run once and give everything.

A tower maps ``image`` (N, 3, H, W) float32, normalised, to ``(features, stages)``:

- ``features`` (N, D): the image embedding before L2 normalisation, as open_clip's ``encode_image`` gives it;
- ``stages``: for each chosen stage the raw patch tokens (N, P, C), row-major over the grid.

Stages are 1-based: blocks of a ViT, ``layer1..4`` of a ResNet, feature levels of a timm network. For a ViT the
tokens are the residual stream after the block: no final norm, no projection (APRIL-GAN, released code).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from edgevand.errors import UsageError
from edgevand_export.tables import resize_table
from edgevand_export.vit import VitEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Architecture", "Tower", "activation_of", "architecture_of", "default_stages", "make_tower"]

Architecture = Literal["vit", "resnet", "timm"]
Activation = Literal["gelu", "quick-gelu", "none"]

DEFAULT_GROUPS = 4
RESNET_LAYERS = 4
RESNET_STRIDE = 32


@dataclass(frozen=True)
class Tower:
    """An image tower at one size and with chosen stages.

    Attributes:
        module: maps image (N, 3, H, W) to features (N, D) and a list of raw tokens (N, P, C).
        architecture: which kind of network it is.
        size: height and width of the image.
        stages: the 1-based stages, ascending.
        widths: channels of a token, for each stage.
        grids: rows and columns of tokens, for each stage.
    """

    module: nn.Module
    architecture: Architecture
    size: tuple[int, int]
    stages: tuple[int, ...]
    widths: tuple[int, ...]
    grids: tuple[tuple[int, int], ...]


class ResNetEncoder(nn.Module):
    """An open_clip ``ModifiedResNet`` in evaluation mode, its attention pool at another size."""

    def __init__(self, visual: Any, grid: tuple[int, int], stages: Sequence[int]) -> None:  # noqa: ANN401
        """Take over the weights; the pool's positional table is resized to ``grid``, that of layer4."""
        super().__init__()
        self.visual = visual
        self.stages = tuple(stages)
        pool = visual.attnpool
        self.heads = pool.num_heads
        self.table = nn.Buffer(resize_table(pool.positional_embedding.detach(), grid).unsqueeze(0))

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Image (N, 3, H, W) to features (N, D) and, for each stage, tokens (N, P, C)."""
        x = self.visual.stem(image)
        tokens = {}
        for number in range(1, RESNET_LAYERS + 1):
            x = getattr(self.visual, f"layer{number}")(x)
            tokens[number] = x.flatten(2).transpose(1, 2)
        return self._pool(tokens[RESNET_LAYERS]), [tokens[number] for number in self.stages]

    def _pool(self, tokens: Tensor) -> Tensor:
        """Attention pooling: one query, the mean token, over the mean and all P tokens (N, P, C) -> (N, D)."""
        pool = self.visual.attnpool
        x = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1) + self.table
        split = (x.shape[0], -1, self.heads, x.shape[2] // self.heads)
        query = pool.q_proj(x[:, :1]).reshape(split).transpose(1, 2) * split[3] ** -0.5
        key = pool.k_proj(x).reshape(split).transpose(1, 2)
        value = pool.v_proj(x).reshape(split).transpose(1, 2)
        mixed = (query @ key.transpose(-1, -2)).softmax(dim=-1) @ value
        pooled: Tensor = pool.c_proj(mixed.reshape(x.shape[0], x.shape[2]))
        return pooled


class TimmEncoder(nn.Module):
    """An open_clip ``TimmModel``; stages are timm's feature levels (blocks, where the network is a ViT)."""

    def __init__(self, visual: Any, stages: Sequence[int]) -> None:  # noqa: ANN401
        """Take over the network."""
        super().__init__()
        self.visual = visual
        self.indices = [stage - 1 for stage in stages]

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Image (N, 3, H, W) to features (N, D) and, for each stage, tokens (N, P, C)."""
        features, levels = self.levels(image)
        return features, [level.flatten(2).transpose(1, 2) for level in levels]

    def levels(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Like ``forward``, the stages as (N, C, h, w)."""
        last, levels = self.visual.trunk.forward_intermediates(image, indices=self.indices, output_fmt="NCHW")
        return self.visual.head(self.visual.trunk.forward_head(last)), levels


def architecture_of(visual: nn.Module) -> Architecture:
    """Which tower an open_clip model has.

    Raises:
        UsageError: a tower of another kind.
    """
    kinds: dict[str, Architecture] = {
        "VisionTransformer": "vit",
        "ModifiedResNet": "resnet",
        "TimmModel": "timm",
        "TimmTrunk": "timm",
    }
    kind = kinds.get(type(visual).__name__)
    if kind is None:
        raise UsageError(
            f"expected an open_clip model with a ViT, ResNet or timm image tower, found {type(visual).__name__}; "
            "choose another --model"
        )
    return kind


def activation_of(module: nn.Module) -> Activation:
    """The GELU that a native open_clip tower runs with; ``none`` for towers without one, or of another library."""
    if type(module).__name__ in {"TimmModel", "TimmTrunk", "HFTextEncoder"}:
        return "none"
    names = {type(each).__name__ for each in module.modules()}
    if "QuickGELU" in names:
        return "quick-gelu"
    return "gelu" if "GELU" in names else "none"


def stage_count(visual: Any) -> int:  # noqa: ANN401
    """How many stages a tower has: blocks, layers or feature levels."""
    architecture = architecture_of(visual)
    if architecture == "vit":
        return len(visual.transformer.resblocks)
    if architecture == "resnet":
        return RESNET_LAYERS
    return len(visual.trunk.feature_info)


def default_stages(visual: Any) -> tuple[int, ...]:  # noqa: ANN401
    """The ends of four equal groups (24 blocks: 6, 12, 18, 24); the last four levels of a pyramid."""
    count = stage_count(visual)
    groups = min(DEFAULT_GROUPS, count)
    if architecture_of(visual) == "timm" and count <= DEFAULT_GROUPS + 1:
        return tuple(range(count - groups + 1, count + 1))
    return tuple(round(count * each / groups) for each in range(1, groups + 1))


def check_stages(visual: nn.Module, stages: Sequence[int]) -> tuple[int, ...]:
    """Refuse stages that the tower does not have.

    Raises:
        UsageError: empty, not ascending, or out of range.
    """
    count = stage_count(visual)
    ascending = all(a < b for a, b in pairwise(stages))
    if not stages or not ascending or stages[0] < 1 or stages[-1] > count:
        raise UsageError(
            f"expected ascending stages between 1 and {count} for this image tower, "
            f"found {','.join(map(str, stages)) or 'none'}; change --stages"
        )
    return tuple(stages)


@torch.no_grad()
def make_tower(visual: Any, size: tuple[int, int], stages: Sequence[int] | None = None) -> Tower:  # noqa: ANN401
    """Wrap the image tower of an open_clip model for export at one image size.

    The tower is switched to evaluation mode and shares the model's weights.

    Args:
        visual: ``model.visual`` of an open_clip model.
        size: height and width in pixels.
        stages: 1-based, ascending; None takes ``default_stages``.

    Raises:
        UsageError: stages the tower does not have, or a size that does not fit its patches.
    """
    architecture = architecture_of(visual)
    chosen = check_stages(visual, default_stages(visual) if stages is None else stages)
    visual.eval()
    module: VitEncoder | ResNetEncoder | TimmEncoder
    if architecture == "vit":
        module = VitEncoder(visual, vit_grid(size, tuple(visual.patch_size)), chosen)
    elif architecture == "resnet":
        module = ResNetEncoder(visual, resnet_grid(size, RESNET_LAYERS), chosen)
    else:
        if hasattr(visual.trunk, "set_input_size"):
            visual.set_input_size(size)
        module = TimmEncoder(visual, chosen)
    module.eval()
    widths, grids = _shapes(module, size)
    return Tower(module, architecture, size, chosen, widths, grids)


def _shapes(
    module: VitEncoder | ResNetEncoder | TimmEncoder, size: tuple[int, int]
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Widths and grids of the stages' tokens."""
    if isinstance(module, VitEncoder):
        return (module.table.shape[-1],) * len(module.stages), (module.grid,) * len(module.stages)
    if isinstance(module, ResNetEncoder):
        base = module.visual.layer1[-1].conv3.out_channels
        widths = tuple(base * 2 ** (stage - 1) for stage in module.stages)
        return widths, tuple(resnet_grid(size, stage) for stage in module.stages)
    _, levels = module.levels(torch.zeros(1, 3, *size))
    return tuple(level.shape[1] for level in levels), tuple((level.shape[2], level.shape[3]) for level in levels)


def vit_grid(size: tuple[int, int], patch: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of patches.

    Raises:
        UsageError: a border would be left over, so that the map would not lie on the picture.
    """
    if size[0] % patch[0] or size[1] % patch[1]:
        nearest = max(1, round(size[0] / patch[0])) * patch[0]
        raise UsageError(
            f"expected an image size that is a multiple of the tower's {patch[0]} px patches, "
            f"found {size[0]}x{size[1]}; take --image-size {nearest}"
        )
    return size[0] // patch[0], size[1] // patch[1]


def resnet_grid(size: tuple[int, int], layer: int) -> tuple[int, int]:
    """Rows and columns of a ``ModifiedResNet`` layer's output: a padded stride of 2, then poolings that round down.

    Raises:
        UsageError: the picture is too small for the network.
    """
    rows, columns = ((side + 1) // 2 // 2**layer for side in size)
    if min(rows, columns) < 1:
        raise UsageError(
            f"expected an image of at least {RESNET_STRIDE} px for a ResNet tower, found {size[0]}x{size[1]}; "
            "take a larger --image-size"
        )
    return rows, columns
