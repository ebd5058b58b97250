"""The CLIP vision transformer, written out for export (methods: APRIL-GAN, graph and tokens).

Attention is spelled as matrix products and one softmax, never ``nn.MultiheadAttention``: its fused path does
not export, and its traced form bakes the batch into a reshape. The scale 1/sqrt(d) is folded into the query's
weights; each LayerNorm stays one operator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from edgevand_export.tables import resize_table

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["VitEncoder"]


class Attention(nn.Module):
    """Self-attention over tokens, from the weights of an ``nn.MultiheadAttention``."""

    def __init__(self, source: nn.MultiheadAttention) -> None:
        """Split the packed projection into query (scaled), key and value; the weights are shared, not copied."""
        super().__init__()
        self.heads = source.num_heads
        self.head_dim = source.embed_dim // source.num_heads
        weights, biases = source.in_proj_weight.detach().chunk(3), source.in_proj_bias.detach().chunk(3)
        scale = self.head_dim**-0.5
        self.query = _linear(weights[0] * scale, biases[0] * scale)
        self.key = _linear(weights[1], biases[1])
        self.value = _linear(weights[2], biases[2])
        self.out = source.out_proj

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (N, L, C) to tokens (N, L, C)."""
        query, key, value = (self._split(project(x)) for project in (self.query, self.key, self.value))
        mixed = (query @ key.transpose(-1, -2)).softmax(dim=-1) @ value
        merged: Tensor = self.out(mixed.transpose(1, 2).reshape(x.shape))
        return merged

    def _split(self, x: Tensor) -> Tensor:
        """(N, L, C) to (N, heads, L, C / heads)."""
        return x.reshape(x.shape[0], x.shape[1], self.heads, self.head_dim).transpose(1, 2)


class Block(nn.Module):
    """One pre-norm block: ``x + attn(ln_1(x))``, then ``x + mlp(ln_2(x))``."""

    def __init__(self, source: Any) -> None:  # noqa: ANN401 (open_clip has no types)
        """Take over an open_clip ``ResidualAttentionBlock``."""
        super().__init__()
        self.ln_1, self.attn, self.ls_1 = source.ln_1, Attention(source.attn), source.ls_1
        self.ln_2, self.mlp, self.ls_2 = source.ln_2, source.mlp, source.ls_2

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (N, L, C) to tokens (N, L, C)."""
        x = x + self.ls_1(self.attn(self.ln_1(x)))
        mixed: Tensor = x + self.ls_2(self.mlp(self.ln_2(x)))
        return mixed


class VitEncoder(nn.Module):
    """An open_clip ``VisionTransformer`` at one image size; runs once for features and stage tokens."""

    def __init__(self, visual: Any, grid: tuple[int, int], stages: Sequence[int]) -> None:  # noqa: ANN401
        """Take over the weights; the positional table is resized to ``grid``.

        Args:
            visual: open_clip ``VisionTransformer``.
            grid: rows and columns of patches.
            stages: 1-based blocks whose tokens are returned.
        """
        super().__init__()
        self.visual = visual
        self.stages = tuple(stages)
        self.grid = grid
        table = resize_table(visual.positional_embedding.detach(), grid)
        self.first = nn.Buffer((visual.class_embedding.detach() + table[0]).reshape(1, 1, -1))
        self.table = nn.Buffer(table[1:].unsqueeze(0))
        blocks = visual.transformer.resblocks
        self.blocks = nn.ModuleList(Block(each) if _is_standard(each) else each for each in blocks)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Image (N, 3, H, W) to features (N, D) and, for each stage, raw tokens (N, P, C) without the class token."""
        patches = self.visual.conv1(image).flatten(2).transpose(1, 2) + self.table
        x = self.visual.ln_pre(torch.cat([self.first.expand(image.shape[0], -1, -1), patches], dim=1))
        tokens = {}
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number in self.stages:
                tokens[number] = x[:, 1:]
        return self._embed(x), [tokens[number] for number in self.stages]

    def _embed(self, x: Tensor) -> Tensor:
        """The last block's tokens (N, L, C) to the image embedding (N, D)."""
        if self.visual.attn_pool is None and self.visual.pool_type == "tok":
            pooled = self.visual.ln_post(x[:, 0])  # the norm works row by row: only the class token's is needed
        else:
            pooled, _ = self.visual._pool(x)  # noqa: SLF001 (open_clip's other poolings, as they are)
        projected: Tensor = pooled @ self.visual.proj
        return projected


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear layer around existing tensors."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def _is_standard(block: Any) -> bool:  # noqa: ANN401
    """Whether the block's attention is PyTorch's own; open_clip's custom blocks export as they are."""
    return isinstance(block.attn, nn.MultiheadAttention)
