"""Windows in one pass against each window encoded by itself, by open_clip's own transformer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edgevand.errors import UsageError
from edgevand_export.windows import SCALES, VitWindows, make_windows, window_places
from tests.export.models import picture_batch, tiny_config, tiny_model

SIDE, PATCH = 48, 8
GRID = (SIDE // PATCH, SIDE // PATCH)


def patches_of(top: int, left: int, scale: int) -> list[int]:
    return [(top + down) * GRID[1] + left + right for down in range(scale) for right in range(scale)]


def alone(visual: Any, table: Tensor, image: Tensor, kept: list[int]) -> Tensor:
    """The paper's way: pick tokens after the positional table, then norm, blocks, norm and projection."""
    tokens = visual.conv1(image).flatten(2).transpose(1, 2) + table[1:]
    first = (visual.class_embedding + table[0]).expand(len(image), 1, -1)
    x = visual.ln_pre(torch.cat([first, tokens[:, kept]], dim=1))
    x = visual.transformer(x)
    embedding: Tensor = visual.ln_post(x)[:, 0] @ visual.proj
    return embedding


@pytest.fixture(scope="module")
def visual() -> Any:
    return tiny_model(tiny_config("vit", image_size=SIDE)).visual.double()


@torch.no_grad()
def test_every_window_is_what_it_is_when_encoded_by_itself(visual: Any) -> None:
    image = picture_batch(2, (SIDE, SIDE)).double()
    tower = make_windows(visual, (SIDE, SIDE))
    whole, windows, patches = tower.module(image)
    table = visual.positional_embedding
    everything = alone(visual, table, image, list(range(GRID[0] * GRID[1])))
    torch.testing.assert_close(whole, everything, atol=1e-5, rtol=0)
    for scale, found in zip(SCALES, windows, strict=True):
        places = [(top, left) for top in range(GRID[0] - scale + 1) for left in range(GRID[1] - scale + 1)]
        assert found.shape[1] == len(places)
        for number, (top, left) in enumerate(places):
            wanted = alone(visual, table, image, patches_of(top, left, scale))
            torch.testing.assert_close(found[:, number], wanted, atol=1e-5, rtol=0)
    visual.output_tokens = True
    _, wanted_patches = visual(image)
    visual.output_tokens = False
    torch.testing.assert_close(patches, wanted_patches, atol=1e-5, rtol=0)


@torch.no_grad()
def test_attention_of_the_packed_sequence_is_that_under_a_block_diagonal_mask(visual: Any) -> None:
    """The mask that is never filled in, filled in, and given to PyTorch's own attention."""
    module = make_windows(visual, (SIDE, SIDE)).module
    assert isinstance(module, VitWindows)
    lengths = [1 + GRID[0] * GRID[1]]
    for scale in SCALES:
        lengths += [1 + scale * scale] * ((GRID[0] - scale + 1) * (GRID[1] - scale + 1))
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    mask = owner[:, None] != owner[None]
    x = torch.randn(2, len(owner), 32, generator=torch.Generator().manual_seed(4)).double()
    attention = visual.transformer.resblocks[0].attn
    wanted, _ = attention(x, x, x, attn_mask=mask, need_weights=False)
    found = module._attend(module.blocks[0].attn, x)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_windows_are_listed_row_by_row_with_their_patches() -> None:
    for scale in SCALES:
        wanted = [
            patches_of(top, left, scale) for top in range(GRID[0] - scale + 1) for left in range(GRID[1] - scale + 1)
        ]
        assert window_places(GRID, scale).tolist() == wanted


@torch.no_grad()
def test_windows_of_a_convolutional_tower_are_projected_means_of_its_cells() -> None:
    visual = tiny_model(tiny_config("timm", image_size=160)).visual
    image = picture_batch(2, (160, 160))
    tower = make_windows(visual, (160, 160))
    whole, windows, patches = tower.module(image)
    torch.testing.assert_close(whole, visual(image), atol=1e-5, rtol=1e-5)
    last = visual.trunk.forward_features(image)
    assert tower.grid == tuple(last.shape[2:])
    for scale, found in zip(SCALES, windows, strict=True):
        number = 0
        for top in range(last.shape[2] - scale + 1):
            for left in range(last.shape[3] - scale + 1):
                mean = last[:, :, top : top + scale, left : left + scale].mean(dim=(2, 3))
                torch.testing.assert_close(found[:, number], visual.head(mean), atol=1e-5, rtol=1e-5)
                number += 1
        assert found.shape[1] == number
    assert functional.normalize(patches, dim=-1).shape == (2, last.shape[2] * last.shape[3], last.shape[1])


@pytest.mark.parametrize("kind", ["resnet", "timm-vit"])
def test_a_tower_without_class_token_or_mean_is_refused(kind: str) -> None:
    size = (96, 96) if kind == "resnet" else (160, 160)
    with pytest.raises(UsageError, match=r"expected a ViT, or a convolutional tower .*; choose another base bundle"):
        make_windows(tiny_model(tiny_config(kind)).visual, size)


def test_a_picture_of_fewer_patches_than_a_window_is_refused() -> None:
    with pytest.raises(UsageError, match="expected at least 3x3 patches for winclip's windows, found 2x2"):
        make_windows(tiny_model(tiny_config("vit")).visual, (16, 16))
