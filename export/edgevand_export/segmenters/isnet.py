"""IS-Net, the network of DIS (Qin et al., "Highly Accurate Dichotomous Image Segmentation", ECCV 2022), for inference.

A U-Net of U-Nets: six encoder stages and five decoder stages, each a residual U-block (RSU) of its own. The published
checkpoint (``isnet-general-use.pth``) fits by its tensors' names. Of its six answers only the finest, ``side1``, is
computed; the others exist for training. Upsampling is bilinear with ``align_corners=False``, pooling rounds up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgevand.errors import BadInputError

if TYPE_CHECKING:
    from edgevand_export.segmenters.weights import Weights

__all__ = ["DIS_KEY", "DIS_SIDE", "IsNet", "load_isnet"]

DIS_KEY = "stage1.rebnconvin.conv_s1.weight"
"""A tensor by which the weights are known."""

DIS_SIDE = 1024
"""Pixels of the input's side, as released."""

_DEEPEST = 2
"""Dilation of a block's lowest layer."""

# Of each stage: how deep its U is (0: without pooling, dilated), and channels in, within and out.
ENCODER = ((7, 64, 32, 64), (6, 64, 32, 128), (5, 128, 64, 256), (4, 256, 128, 512), (0, 512, 256, 512))
LOWEST = (0, 512, 256, 512)
DECODER = ((7, 128, 16, 64), (6, 256, 32, 64), (5, 512, 64, 128), (4, 1024, 128, 256), (0, 1024, 256, 512))
SIDES = (64, 64, 128, 256, 512, 512)


class ConvNormRelu(nn.Module):
    """3x3 convolution, batch norm, ReLU; the size stays."""

    def __init__(self, inner: int, outer: int, dilation: int = 1) -> None:
        """``inner`` channels to ``outer``."""
        super().__init__()
        self.conv_s1 = nn.Conv2d(inner, outer, 3, padding=dilation, dilation=dilation)
        self.bn_s1 = nn.BatchNorm2d(outer)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H, W)."""
        return functional.relu(self.bn_s1(self.conv_s1(x)))


class ResidualU(nn.Module):
    """A U-Net of ``depth`` layers around its own input; of depth 0 it has four dilated layers and no pooling."""

    def __init__(self, depth: int, inner: int, middle: int, outer: int) -> None:
        """``inner`` channels to ``outer``, with ``middle`` within."""
        super().__init__()
        self.pools = depth > 0
        self.depth = depth or 4
        self.rebnconvin = ConvNormRelu(inner, outer)
        for layer in range(1, self.depth + 1):
            lowest = layer == self.depth
            dilation = (_DEEPEST if lowest else 1) if self.pools else 2 ** (layer - 1)
            setattr(self, f"rebnconv{layer}", ConvNormRelu(outer if layer == 1 else middle, middle, dilation))
        for layer in range(1, self.depth):
            dilation = 1 if self.pools else 2 ** (layer - 1)
            last = ConvNormRelu(2 * middle, outer if layer == 1 else middle, dilation)
            setattr(self, f"rebnconv{layer}d", last)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H, W)."""
        start = self.rebnconvin(x)
        x, kept = start, []
        for layer in range(1, self.depth):
            x = getattr(self, f"rebnconv{layer}")(x)
            kept.append(x)
            x = halved(x) if self.pools and layer < self.depth - 1 else x
        x = getattr(self, f"rebnconv{self.depth}")(x)
        for layer in range(self.depth - 1, 0, -1):
            beside = kept[layer - 1]
            x = getattr(self, f"rebnconv{layer}d")(torch.cat([fitted(x, beside), beside], dim=1))
        found: Tensor = x + start
        return found


class IsNet(nn.Module):
    """Picture to the probability that a pixel is of the object."""

    def __init__(self) -> None:
        """The published architecture, with weights that mean nothing yet."""
        super().__init__()
        self.conv_in = nn.Conv2d(3, SIDES[0], 3, stride=2, padding=1)
        for number, stage in enumerate(ENCODER, start=1):
            setattr(self, f"stage{number}", ResidualU(*stage))
        self.stage6 = ResidualU(*LOWEST)
        for number, stage in enumerate(DECODER, start=1):
            setattr(self, f"stage{number}d", ResidualU(*stage))
        for number, width in enumerate(SIDES, start=1):  # all six, as in the checkpoint
            setattr(self, f"side{number}", nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, S, S) in [-0.5, 0.5] to (N, S, S) in [0, 1]."""
        x, kept = self.conv_in(image), []
        for number in range(1, len(ENCODER) + 1):
            x = getattr(self, f"stage{number}")(x)
            kept.append(x)
            x = halved(x)
        x = self.stage6(x)
        for number in range(len(DECODER), 0, -1):
            beside = kept[number - 1]
            x = getattr(self, f"stage{number}d")(torch.cat([fitted(x, beside), beside], dim=1))
        return fitted(getattr(self, "side1")(x), image).sigmoid()[:, 0]  # noqa: B009 (it was set by name)


def load_isnet(weights: Weights) -> IsNet:
    """The network with the published checkpoint's tensors.

    Raises:
        BadInputError: they are of another architecture.
    """
    if DIS_KEY not in weights.state:
        raise BadInputError(
            f"expected IS-Net's weights in {weights.path}, found no tensor {DIS_KEY}; give DIS's isnet-general-use.pth"
        )
    module = IsNet()
    weights.fill(module, "IS-Net (DIS)")
    return module.eval()


def halved(x: Tensor) -> Tensor:
    """Largest of each 2x2 pixels; an odd edge stands alone."""
    return functional.max_pool2d(x, 2, stride=2, ceil_mode=True)


def fitted(x: Tensor, like: Tensor) -> Tensor:
    """Enlarged bilinearly to the rows and columns of ``like``."""
    if x.shape[2:] == like.shape[2:]:
        return x
    return functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)
