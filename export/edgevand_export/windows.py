"""Embeddings of every window of patches, all of them in one pass (WinCLIP, CVPR 2023).

The paper encodes each window of 2x2 and 3x3 patches by itself: its own tokens and the class token, picked after the
positional table was added and before the first norm. Run one by one these are hundreds of passes for a frame. Here the
tokens of the whole picture and of all windows stand in one sequence, and attention is block-diagonal: a token sees
those of its own window alone. The blocks are attended to apart, so that the mask is never filled in; norms, projections
and MLPs work on the sequence as a whole. The result is that of one pass for each window.

A convolutional tower with average pooling has no tokens to pick: there a window is the mean of its cells of the last
feature map, projected as the whole picture's mean is. Its cells have seen what lies around the window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgevand.errors import UsageError
from edgevand_export.towers import architecture_of, vit_grid
from edgevand_export.vit import Block, VitEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SCALES", "PooledWindows", "VitWindows", "WindowTower", "make_windows", "window_places"]

SCALES = (2, 3)
"""Patches on a window's side."""

_CLOSE = 1e-4
_MAP_AXES = 4


class Group(NamedTuple):
    """Sequences of one length in the packed sequence."""

    start: int
    number: int
    length: int


class VitWindows(nn.Module):
    """A vision transformer over the whole picture and all its windows at once."""

    def __init__(self, visual: Any, grid: tuple[int, int], scales: Sequence[int] = SCALES) -> None:  # noqa: ANN401
        """Take over the weights of an open_clip ``VisionTransformer``.

        Raises:
            UsageError: its attention is not PyTorch's own, or its embedding is not the class token's.
        """
        super().__init__()
        self.tower = VitEncoder(visual, grid, ())
        self.blocks = [block for block in self.tower.blocks if isinstance(block, Block)]
        standard = len(self.blocks) == len(self.tower.blocks)
        if not standard or visual.attn_pool is not None or visual.pool_type != "tok":
            raise UsageError(
                "expected a ViT that reads its embedding at the class token, with plain attention, for winclip's "
                f"windows, found pooling {visual.pool_type!r}; choose another base bundle"
            )
        places = [window_places(grid, scale) for scale in scales]
        self.picked = nn.Buffer(torch.cat([each.flatten() for each in places]))
        self.counts, self.lengths = [len(each) for each in places], [each.shape[1] for each in places]
        self.groups = [Group(0, 1, 1 + grid[0] * grid[1])]
        for count, length in zip(self.counts, self.lengths, strict=True):
            last = self.groups[-1]
            self.groups.append(Group(last.start + last.number * last.length, count, 1 + length))

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Image (N, 3, H, W) to features (N, D), windows' features (N, W, D) of each scale, patch tokens (N, P, C)."""
        tower = self.tower
        patches = tower.visual.conv1(image).flatten(2).transpose(1, 2) + tower.table
        x = tower.visual.ln_pre(self._packed(patches))
        for block in self.blocks:
            x = x + block.ls_1(self._attend(block.attn, block.ln_1(x)))
            x = x + block.ls_2(block.mlp(block.ln_2(x)))
        x = tower.visual.ln_post(x)
        firsts = [self._of(x, group)[:, :, 0] @ tower.visual.proj for group in self.groups]
        return firsts[0][:, 0], firsts[1:], x[:, 1 : self.groups[0].length]

    def _packed(self, patches: Tensor) -> Tensor:
        """Patch tokens (N, P, C) to the sequence (N, T, C): class and patches, then those of each window."""
        count, _, width = patches.shape
        first = self.tower.first
        parts = [first.expand(count, -1, -1), patches]
        chosen = torch.split(
            patches[:, self.picked], [a * b for a, b in zip(self.counts, self.lengths, strict=True)], dim=1
        )
        for windows, each, length in zip(chosen, self.counts, self.lengths, strict=True):
            own = windows.reshape(-1, each, length, width)
            with_first = torch.cat([first.unsqueeze(1).expand(count, each, -1, -1), own], dim=2)
            parts.append(with_first.reshape(-1, each * (1 + length), width))
        return torch.cat(parts, dim=1)

    def _attend(self, attention: Any, x: Tensor) -> Tensor:  # noqa: ANN401 (vit.Attention)
        """Block-diagonal self-attention over the packed sequence (N, T, C)."""
        parts = [project(x) for project in (attention.query, attention.key, attention.value)]
        mixed = [self._attend_group(attention.heads, parts, group) for group in self.groups]
        merged: Tensor = attention.out(torch.cat(mixed, dim=1))
        return merged

    def _attend_group(self, heads: int, parts: Sequence[Tensor], group: Group) -> Tensor:
        width = parts[0].shape[2]
        split = (-1, group.length, heads, width // heads)
        query, key, value = (self._of(part, group).reshape(split).transpose(1, 2) for part in parts)
        found = (query @ key.transpose(-1, -2)).softmax(dim=-1) @ value
        return found.transpose(1, 2).reshape(-1, group.number * group.length, width)

    @staticmethod
    def _of(x: Tensor, group: Group) -> Tensor:
        """The sequences of a group: (N, count, length, C)."""
        part = x[:, group.start : group.start + group.number * group.length]
        return part.reshape(-1, group.number, group.length, x.shape[2])


class PooledWindows(nn.Module):
    """A convolutional timm tower with average pooling; windows are pooled from its last feature map."""

    def __init__(self, visual: Any, scales: Sequence[int] = SCALES) -> None:  # noqa: ANN401
        """Take over an open_clip ``TimmModel``."""
        super().__init__()
        self.visual = visual
        self.scales = tuple(scales)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """As ``VitWindows.forward``; patch tokens are the cells of the last feature map."""
        last = self.visual.trunk.forward_features(image)
        windows = [functional.avg_pool2d(last, scale, stride=1).flatten(2).transpose(1, 2) for scale in self.scales]
        features = self.visual.head(last.mean(dim=(2, 3)))
        return features, [self.visual.head(each) for each in windows], last.flatten(2).transpose(1, 2)


class WindowTower(NamedTuple):
    """A tower that gives windows."""

    module: VitWindows | PooledWindows
    grid: tuple[int, int]
    """Rows and columns of patches."""
    width: int
    """Channels of a patch token."""


@torch.no_grad()
def make_windows(visual: Any, size: tuple[int, int]) -> WindowTower:  # noqa: ANN401
    """Wrap an open_clip model's image tower for windows.

    Args:
        visual: ``model.visual``.
        size: height and width of the image in pixels.

    Raises:
        UsageError: a tower that windows are not defined for, or fewer patches than a window has.
    """
    visual.eval()
    module: VitWindows | PooledWindows
    architecture = architecture_of(visual)
    if architecture == "vit":
        grid = vit_grid(size, tuple(visual.patch_size))
        _check_grid(grid)
        module = VitWindows(visual, grid)
        return WindowTower(module.eval(), grid, module.tower.table.shape[-1])
    image = torch.linspace(-1, 1, 3 * size[0] * size[1]).reshape(1, 3, *size)
    last = visual.trunk.forward_features(image) if architecture == "timm" else image
    pooled = architecture == "timm" and last.ndim == _MAP_AXES and _is_mean(visual, last, image)
    if not pooled:
        raise UsageError(
            f"expected a ViT, or a convolutional tower that averages its last feature map, for winclip's windows, "
            f"found {type(visual).__name__} with another pooling; choose another base bundle"
        )
    grid = (int(last.shape[2]), int(last.shape[3]))
    _check_grid(grid)
    return WindowTower(PooledWindows(visual).eval(), grid, int(last.shape[1]))


def window_places(grid: tuple[int, int], scale: int) -> Tensor:
    """Patches of each window, stride 1: (W, scale²) int64 row-major positions on the grid."""
    places = torch.arange(grid[0] * grid[1]).reshape(grid)
    return places.unfold(0, scale, 1).unfold(1, scale, 1).reshape(-1, scale * scale)


def _check_grid(grid: tuple[int, int]) -> None:
    if min(grid) < max(SCALES):
        raise UsageError(
            f"expected at least {max(SCALES)}x{max(SCALES)} patches for winclip's windows, found {grid[0]}x{grid[1]}; "
            "take a larger --set image_size"
        )


def _is_mean(visual: Any, last: Tensor, image: Tensor) -> bool:  # noqa: ANN401
    """Whether the tower's embedding is the projected mean of its last feature map."""
    if last.shape[1] != getattr(visual.trunk, "num_features", None):
        return False
    found, wanted = visual.head(last.mean(dim=(2, 3))), visual(image)
    return bool((found - wanted).abs().max() <= _CLOSE * wanted.abs().max())
