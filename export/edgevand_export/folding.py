"""Batch norms folded into the convolutions before them, in torch, before weights are rounded.

The exporter folds them anyway. Done here first, the weights that are rounded are those that the graph holds, and
torch computes with the same ones: the certificate then shows the graph's error and not the rounding's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["fold_norms"]


@torch.no_grad()
def fold_norms(module: nn.Module, run: Callable[[], object]) -> int:
    """Fold each batch norm whose input is a convolution's output into that convolution, in place.

    Args:
        module: in evaluation mode; a folded norm stays where it is and does nothing.
        run: runs the module once on any input, so that it can be seen what follows what.

    Returns:
        How many were folded.
    """
    pairs = _pairs(module, run)
    for conv, norm in pairs:
        if norm.running_mean is None or norm.running_var is None:
            continue
        weight, bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
        norm.weight, norm.bias = nn.Parameter(torch.ones_like(norm.weight)), nn.Parameter(torch.zeros_like(norm.bias))
        norm.running_mean = torch.zeros_like(bias)
        norm.running_var = torch.full_like(bias, 1 - norm.eps)
    return len(pairs)


def _pairs(module: nn.Module, run: Callable[[], object]) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions whose output a norm takes as it is."""
    makers: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after(conv: nn.Conv2d, _: object, output: Tensor) -> None:
        """Remember who made a tensor; the tensor is kept, so that its identity is not used again."""
        makers[id(output)] = (conv, output)

    def before(norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        """Look up who made the norm's input."""
        if id(inputs[0]) in makers and norm.affine and norm.track_running_stats:
            pairs.append((makers[id(inputs[0])][0], norm))

    hooks = [each.register_forward_hook(after) for each in module.modules() if isinstance(each, nn.Conv2d)]
    hooks += [each.register_forward_pre_hook(before) for each in module.modules() if isinstance(each, nn.BatchNorm2d)]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return pairs
