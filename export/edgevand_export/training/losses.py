"""Heads, their maps, and what is wrong with them: focal + dice on each stage's map (APRIL-GAN, arXiv 2305.17382).

For each stage i: Z = X W^T + b, rows made unit, L = 100 Z [t_n t_a]; L is enlarged to the image's size (bilinear,
corners aligned) *before* the softmax. Softmax over two channels is the sigmoid of their difference, and enlarging
commutes with taking it, so one channel is enlarged instead of two. Enlarging is two matrix products: the same numbers
as torch's ``interpolate``, whose backward pass on a GPU adds in an order of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgevand_export.graph import LOGIT_SCALE
from edgevand_runtime.maps import interpolation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevand_export.training.config import TrainConfig

__all__ = ["LinearHeads", "StepLosses", "dice_loss", "enlarge", "focal_loss", "step_losses"]


class StepLosses(NamedTuple):
    """Losses of one batch, scalars.

    Attributes:
        total: weighted sum over the stages; what is minimised.
        focal: sum over the stages, not weighted.
        dice: likewise.
        stages: weighted sum of each stage.
    """

    total: Tensor
    focal: Tensor
    dice: Tensor
    stages: tuple[Tensor, ...]


class LinearHeads(nn.Module):
    """One ``Linear(C -> D)`` for each stage."""

    def __init__(self, stages: Sequence[int], widths: Sequence[int], dim: int, seed: int) -> None:
        """First weights as torch draws them for linear layers, from a seed; torch's own generator stays as it was.

        Args:
            stages: 1-based, ascending.
            widths: channels of each stage's tokens.
            dim: length of a text embedding.
            seed: of the weights.
        """
        super().__init__()
        self.stages = tuple(stages)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = [nn.Linear(width, dim) for width in widths]
        self.registered = nn.ModuleList(self.layers)

    def forward(self, tokens: Sequence[Tensor], text: Tensor, grids: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Logits of abnormal minus normal on each stage's grid.

        Args:
            tokens: (N, P, C) float32 of each stage.
            text: (N, 2, D), rows (normal, abnormal) of each picture's class.
            grids: rows and columns of each stage.

        Returns:
            For each stage (N, rows, columns).
        """
        direction = (LOGIT_SCALE * (text[:, 1] - text[:, 0])).unsqueeze(-1)
        return [
            (functional.normalize(head(each), dim=-1) @ direction).reshape(-1, *grid)
            for head, each, grid in zip(self.layers, tokens, grids, strict=True)
        ]


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear with aligned corners: (N, h, w) to (N, *size)."""
    vertical = torch.from_numpy(interpolation(size[0], maps.shape[1])).to(maps)
    horizontal = torch.from_numpy(interpolation(size[1], maps.shape[2])).to(maps)
    return vertical @ (maps @ horizontal.T)


def step_losses(logits: Sequence[Tensor], masks: Tensor, config: TrainConfig) -> StepLosses:
    """Losses of a batch.

    Args:
        logits: of abnormal minus normal, (N, h, w) of each stage.
        masks: (N, S, S) float32, 0 or 1.
        config: weights and constants of the losses.
    """
    focal, dice = [], []
    for each in logits:
        enlarged = enlarge(each, (masks.shape[1], masks.shape[2]))
        focal.append(focal_loss(enlarged, masks, config.focal_gamma, alpha=config.focal_alpha, eps=config.focal_eps))
        dice.append(dice_loss(enlarged.sigmoid(), masks, config.dice_smooth))
    stages = tuple(config.focal_weight * f + config.dice_weight * d for f, d in zip(focal, dice, strict=True))
    return StepLosses(torch.stack(stages).sum(), torch.stack(focal).sum(), torch.stack(dice).sum(), stages)


def focal_loss(logits: Tensor, masks: Tensor, gamma: float, *, alpha: float, eps: float) -> Tensor:
    """Focal loss of a two-way softmax, mean over all pixels.

    With p the two probabilities and y the one-hot mask clamped to [eps, 1 - eps]: q = sum_c y_c p_c + eps, and the loss
    is -alpha (1 - q)^gamma ln q. With t the probability of the mask's own channel that is q = (1 - 2 eps) t + 2 eps.

    Args:
        logits: (N, S, S), abnormal minus normal.
        masks: (N, S, S), 0 or 1.
        gamma: exponent.
        alpha: factor.
        eps: of the clamp and the offset.
    """
    right = ((2 * masks - 1) * logits).sigmoid() * (1 - 2 * eps) + 2 * eps
    wrong = (1 - right).clamp_min(0.0)  # rounding may leave it a hair below
    return -alpha * (wrong.pow(gamma) * right.log()).mean()


def dice_loss(abnormal: Tensor, masks: Tensor, smooth: float) -> Tensor:
    """One minus the mean over the batch of (2 sum pg + smooth) / (sum p + sum g + smooth).

    Args:
        abnormal: (N, S, S), probability of abnormal.
        masks: (N, S, S), 0 or 1.
        smooth: added to both sides of the quotient.
    """
    both = (abnormal * masks).sum(dim=(1, 2))
    each = abnormal.sum(dim=(1, 2)) + masks.sum(dim=(1, 2))
    return 1 - ((2 * both + smooth) / (each + smooth)).mean()
