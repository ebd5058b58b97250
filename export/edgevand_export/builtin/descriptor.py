"""Two descriptions of a picture's patches, for surfaces that nobody has seen: what the built-in bundle's bank holds.

An image tower's stages say what a thing is better than what is wrong with its surface. So two levels are laid over
the tower's own ones. The *surface*, at stride 16: outputs and expansion activations of several blocks, each reduced by
a fixed basis and brought to unit length, side by side; then one linear map, fitted (``metric``) so that what changes
between pictures of one sound surface becomes short and what a defect changes stays long; then a constant coordinate::

    y = (M [u_1 … u_t], a)      u_i = unit(resize(B_i x_i))

Between such vectors 1 - cosine is, for a large a, half the squared distance over a squared: the cosine that the bank
searches by ranks nearly as the distance in the fitted metric does, and length still counts.

The *context*, at stride 32: the outputs of the last groups, reduced by a basis, and a constant coordinate as well::

    z = (unit(C [u_4 u_5 u_6]), b)

It says what a thing is. Its constant divides every distance by 1 + b squared, and so sets what the context weighs
beside the surface in the sum over the stages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from edgevand.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "CONTEXT",
    "LEVELS",
    "STRIDES",
    "TAPS",
    "DescribingTrunk",
    "Fitted",
    "Tap",
    "context",
    "stack",
    "surface",
    "tapped",
]

LEVELS = (6, 7)
"""1-based feature levels of surface and context; EfficientNet-Lite0 itself has five."""

STRIDES = (16, 32)
_SMALL = 1e-6


class Tap(NamedTuple):
    """Where features are taken.

    Attributes:
        group: 0-based group of blocks.
        block: 0-based block in it whose expansion activation is taken; None for the group's output.
        width: channels.
        kept: channels after the fixed basis; equal to ``width`` where none is needed.
    """

    group: int
    block: int | None
    width: int
    kept: int

    @property
    def name(self) -> str:
        """As in ``3.0`` or ``3``."""
        return str(self.group) if self.block is None else f"{self.group}.{self.block}"


TAPS = (
    Tap(2, None, 40, 40),
    Tap(3, 0, 240, 96),
    Tap(3, None, 80, 80),
    Tap(4, 0, 480, 96),
    Tap(4, None, 112, 112),
    Tap(5, 0, 672, 96),
    Tap(5, 1, 1152, 96),
    Tap(5, None, 192, 192),
    Tap(6, 0, 1152, 96),
)
"""Of the surface, in the order in which a picture passes them: strides 8, 8, 16, 16, 16, 16, 32, 32, 32."""

CONTEXT = (Tap(4, None, 112, 112), Tap(5, None, 192, 192), Tap(6, None, 320, 320))
"""Of the context."""

_PLACES = {(tap.group, tap.block): tap.name for tap in (*TAPS, *CONTEXT)}


class Fitted(NamedTuple):
    """The fixed numbers of the two levels.

    Attributes:
        bases: name of a tap of the surface to (kept, C), for those that are reduced.
        metric: (width - 1, sum of kept), the surface's linear map.
        surface: the surface's constant coordinate.
        turn: (width - 1, 624), the context's basis.
        context: the context's constant coordinate.
    """

    bases: dict[str, Tensor]
    metric: Tensor
    surface: float
    turn: Tensor
    context: float


def tapped(trunk: Any, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ANN401 (timm's own types are loose)
    """Run the network once.

    Args:
        trunk: timm's EfficientNet-Lite0, its batch norms folded or not.
        image: (N, 3, H, W).

    Returns:
        What ``trunk.forward_features`` returns, and the features (N, C, h, w) of every tap by its name.
    """
    found = {}
    x = trunk.bn1(trunk.conv_stem(image))
    for number, group in enumerate(trunk.blocks):
        for position, block in enumerate(group):
            if (number, position) in _PLACES:
                wide = block.bn1(block.conv_pw(x))
                found[_PLACES[number, position]] = wide
                narrow = block.bn3(block.conv_pwl(block.bn2(block.conv_dw(wide))))
                x = narrow + x if block.has_skip else narrow
            else:
                x = block(x)
        if (number, None) in _PLACES:
            found[_PLACES[number, None]] = x
    return trunk.bn2(trunk.conv_head(x)), found


def stack(
    features: Mapping[str, Tensor], taps: Sequence[Tap], bases: Mapping[str, Tensor], grid: tuple[int, int]
) -> Tensor:
    """Unit vectors of several taps, side by side.

    Args:
        features: of every tap, (N, C, h, w).
        taps: which ones, in their order.
        bases: name of a tap to (kept, C), for those that are reduced.
        grid: rows and columns wanted; a finer tap is averaged, a coarser one interpolated.

    Returns:
        (N, sum of kept, rows, columns); each tap's part has length one.
    """
    parts = []
    for tap in taps:
        wide = features[tap.name]
        x = F.conv2d(wide, bases[tap.name][:, :, None, None]) if tap.name in bases else wide
        if x.shape[2] > grid[0]:
            x = F.avg_pool2d(x, x.shape[2] // grid[0])
        elif x.shape[2] < grid[0]:
            x = F.interpolate(x, size=grid, mode="bilinear", align_corners=False)
        parts.append(_unit(x))
    return torch.cat(parts, dim=1)


def surface(features: Mapping[str, Tensor], fitted: Fitted, grid: tuple[int, int]) -> Tensor:
    """The first level: (N, width, rows, columns)."""
    mapped = F.conv2d(stack(features, TAPS, fitted.bases, grid), fitted.metric[:, :, None, None])
    return _extended(mapped, fitted.surface)


def context(features: Mapping[str, Tensor], fitted: Fitted, grid: tuple[int, int]) -> Tensor:
    """The second level: (N, width, rows, columns)."""
    turned = F.conv2d(stack(features, CONTEXT, {}, grid), fitted.turn[:, :, None, None])
    return _extended(_unit(turned), fitted.context)


def _unit(x: Tensor) -> Tensor:
    """Each patch's vector over its length."""
    unit: Tensor = x / (x.norm(dim=1, keepdim=True) + _SMALL)
    return unit


def _extended(x: Tensor, constant: float) -> Tensor:
    """One more channel that is the same everywhere."""
    return torch.cat([x, torch.full_like(x[:, :1], constant)], dim=1)


class DescribingTrunk(nn.Module):
    """A timm network whose feature levels are the two descriptions; takes its place in an open_clip tower."""

    def __init__(self, trunk: Any, fitted: Fitted) -> None:  # noqa: ANN401
        """Take over the network.

        Args:
            trunk: timm's EfficientNet-Lite0.
            fitted: the fixed numbers.
        """
        super().__init__()
        self.trunk = trunk
        self.names = tuple(fitted.bases)
        self.bases = nn.ParameterList([_fixed(basis) for basis in fitted.bases.values()])
        self.metric, self.turn = _fixed(fitted.metric), _fixed(fitted.turn)
        self.constants = (fitted.surface, fitted.context)
        widths = (len(fitted.metric) + 1, len(fitted.turn) + 1)
        own = [{"num_chs": width, "reduction": stride} for width, stride in zip(widths, STRIDES, strict=True)]
        self.feature_info = [*trunk.feature_info, *own]

    def forward_intermediates(
        self, image: Tensor, indices: Sequence[int], output_fmt: str = "NCHW"
    ) -> tuple[Tensor, list[Tensor]]:
        """As timm's method of this name; of the levels only the two descriptions, of the formats only NCHW.

        Raises:
            UsageError: other levels.
        """
        if [index + 1 for index in indices] != list(LEVELS) or output_fmt != "NCHW":
            raise UsageError(
                f"expected the stages {','.join(map(str, LEVELS))} of the built-in model, found "
                f"{','.join(str(index + 1) for index in indices) or 'none'}; change the stages"
            )
        last, features = tapped(self.trunk, image)
        bases = dict(zip(self.names, self.bases, strict=True))
        fitted = Fitted(bases, self.metric, self.constants[0], self.turn, self.constants[1])
        fine, coarse = ((image.shape[2] // stride, image.shape[3] // stride) for stride in STRIDES)
        return last, [surface(features, fitted, fine), context(features, fitted, coarse)]

    def forward_head(self, last: Tensor) -> Tensor:
        """Pool what ``forward_intermediates`` returned first."""
        pooled: Tensor = self.trunk.forward_head(last)
        return pooled


def _fixed(tensor: Tensor) -> nn.Parameter:
    """A tensor that moves and is rounded with the module and is not trained."""
    return nn.Parameter(tensor, requires_grad=False)
