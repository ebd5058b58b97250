"""The networks of GCAD: what predicts, and what is predicted (methods.md (f); docs/methods/gcad.md).

All take a normalised picture (N, 3, S, S), S a multiple of 64, and give (N, C, S / 16, S / 16). A stem of two strided
convolutions brings S to S / 4, where the five levels of ``UNet`` and ``AdditiveNet`` begin; a 4x4 convolution with
stride 4 at the end brings S / 4 to the grid of the local encoder.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevand_export.methods.backbones import Backbone

__all__ = ["GRID_CELL", "AdditiveNet", "Standardised", "TileEncoder", "UNet", "UpsampleModel"]

GRID_CELL = 16
"""Pixels for a side of a cell of every output."""

_DEEPEST = 64
"""Pixels for a side of a cell of the fifth level."""

_LEAST_DEVIATION = 1e-5


class TileEncoder(nn.Module):
    """E_loc before standardisation: each 16x16 piece of the picture through the backbone, by itself.

    The descriptor of a piece is the average of each of the backbone's maps over the piece, one after the other; nothing
    outside the piece is in it.
    """

    def __init__(self, backbone: Backbone, tile: int) -> None:
        """Remember the backbone.

        Args:
            backbone: with the maps of strides 4, 8 and 16.
            tile: pixels for a side to which a piece is enlarged, bilinearly, before it enters the backbone.
        """
        super().__init__()
        self.backbone, self.tile = backbone, tile
        self.depth = sum(backbone.widths)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, S, S) to (N, depth, S / 16, S / 16)."""
        side = image.shape[-1] // GRID_CELL
        rows = image.reshape(-1, 3, side, GRID_CELL, side, GRID_CELL)
        tiles = rows.permute(0, 2, 4, 1, 3, 5).reshape(-1, 3, GRID_CELL, GRID_CELL)
        enlarged = functional.interpolate(tiles, size=(self.tile, self.tile), mode="bilinear", align_corners=False)
        means = torch.cat([each.mean(dim=(2, 3)) for each in self.backbone(enlarged)], dim=1)
        return means.reshape(-1, side, side, self.depth).permute(0, 3, 1, 2)


class Standardised(nn.Module):
    """Channels to mean 0 and deviation 1 over the training's own frames, as they are before any copy is made."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, depth: int) -> None:
        """Begin with mean 0 and deviation 1."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, depth, 1, 1))
        self.register_buffer("deviation", torch.ones(1, depth, 1, 1))

    def measure(self, features: Tensor) -> None:
        """Take mean and deviation (over frames and places, divided by their number) of (F, depth, h, w)."""
        self.mean.copy_(features.mean(dim=(0, 2, 3), keepdim=True))
        deviation = features.std(dim=(0, 2, 3), keepdim=True, correction=0)
        self.deviation.copy_(deviation.clamp_min(_LEAST_DEVIATION))

    def forward(self, features: Tensor) -> Tensor:
        """(N, depth, h, w) to the same."""
        return (features - self.mean) / self.deviation


def _stem(width: int) -> nn.Sequential:
    """S to S / 4."""
    first, second = nn.Conv2d(3, width, 4, 2, 1), nn.Conv2d(width, width, 4, 2, 1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


class AdditiveNet(nn.Module):
    """The global encoder's shape, and that of the second kind of regressor.

    Strided convolutions down to S / 64, a bottleneck of a few numbers for the whole picture, and transposed
    convolutions up again, with the downward maps added at each of the five levels::

        e_1 = stem(image)         e_i+1 = relu(down_i(e_i))               z = squeeze(e_5)
        d_5 = relu(expand(z)) + s e_5         d_i = relu(up_i(d_i+1)) + s e_i         out = head(d_1)

    ``skip`` (s) is 1 at first and 0 from a fifth of the training on in the global encoder, and always 1 in a regressor.
    """

    def __init__(self, channels: Sequence[int], depth: int, bottleneck: int, side: int) -> None:
        """Make the layers.

        Args:
            channels: of the five levels.
            depth: of the output.
            bottleneck: numbers that are left of the picture where the skips are 0.
            side: of the picture in pixels.
        """
        super().__init__()
        deepest = side // _DEEPEST
        self.stem = _stem(channels[0])
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in itertools.pairwise(channels))
        self.squeeze = nn.Conv2d(channels[-1], bottleneck, deepest)
        self.expand = nn.ConvTranspose2d(bottleneck, channels[-1], deepest)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 4, 2, 1) for a, b in itertools.pairwise(channels))
        self.head = nn.Conv2d(channels[0], depth, 4, 4)

    def forward(self, image: Tensor, skip: float) -> Tensor:
        """(N, 3, S, S) to (N, depth, S / 16, S / 16); ``skip`` is the weight of all five additions."""
        levels = [self.stem(image)]
        for layer in self.down:
            levels.append(functional.relu(layer(levels[-1])))
        found = functional.relu(self.expand(self.squeeze(levels[-1])))
        for up, level in zip(reversed(self.up), reversed(levels[1:]), strict=True):
            found = functional.relu(up(_added(found, level, skip)))
        head: Tensor = self.head(_added(found, levels[0], skip))
        return head


def _added(found: Tensor, level: Tensor, skip: float) -> Tensor:
    """With a skip of 0 nothing is added, so that the exported graph has no trace of it."""
    return found + skip * level if skip else found


class UNet(nn.Module):
    """The first kind of regressor (Ronneberger et al., 2015): five levels, two 3x3 convolutions each, padded."""

    def __init__(self, channels: Sequence[int], depth: int) -> None:
        """Make the layers.

        Args:
            channels: of the five levels.
            depth: of the output.
        """
        super().__init__()
        self.stem = _stem(channels[0])
        self.down = nn.ModuleList(_double(a, b) for a, b in itertools.pairwise([channels[0], *channels]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in itertools.pairwise(channels))
        self.merge = nn.ModuleList(_double(2 * width, width) for width in channels[:-1])
        self.head = nn.Conv2d(channels[0], depth, 4, 4)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, S, S) to (N, depth, S / 16, S / 16)."""
        found, levels = self.stem(image), []
        for number, layer in enumerate(self.down):
            found = layer(functional.max_pool2d(found, 2) if number else found)
            levels.append(found)
        for up, merge, level in zip(reversed(self.up), reversed(self.merge), reversed(levels[:-1]), strict=True):
            found = merge(torch.cat([level, up(found)], dim=1))
        head: Tensor = self.head(found)
        return head


def _double(source: int, target: int) -> nn.Sequential:
    first, second = nn.Conv2d(source, target, 3, padding=1), nn.Conv2d(target, target, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


class UpsampleModel(nn.Module):
    """U, for distillation alone: the global encoder's few channels to the local encoder's many, by 1x1 convolutions."""

    def __init__(self, source: int, target: int) -> None:
        """Make the layers.

        Args:
            source: channels of the global encoder.
            target: channels of the local one.
        """
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(source, target, 1), nn.ReLU(), nn.Conv2d(target, target, 1))

    def forward(self, features: Tensor) -> Tensor:
        """(N, source, h, w) to (N, target, h, w)."""
        found: Tensor = self.layers(features)
        return found
