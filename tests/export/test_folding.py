from __future__ import annotations

import pytest
import torch
from torch import nn

from edgevand_export.folding import fold_norms
from edgevand_export.towers import make_tower
from tests.export.models import SIZE, picture_batch, tiny_config, tiny_model


@pytest.mark.parametrize("kind", ["timm", "resnet"])
@torch.no_grad()
def test_folding_changes_where_numbers_are_kept_and_nothing_that_is_computed(kind: str) -> None:
    tower = make_tower(tiny_model(tiny_config(kind)).visual, SIZE[kind])
    image = picture_batch(2, SIZE[kind])
    features, stages = tower.module(image)
    norms = [each for each in tower.module.modules() if isinstance(each, nn.BatchNorm2d)]
    assert fold_norms(tower.module, lambda: tower.module(image)) == len(norms) > 5
    for norm in norms:
        torch.testing.assert_close(norm.running_mean, torch.zeros_like(norm.bias))
    folded, folded_stages = tower.module(image)
    torch.testing.assert_close(folded, features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(folded_stages, stages, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_norm_that_follows_something_else_is_left_alone() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    assert fold_norms(module, lambda: module(torch.zeros(1, 3, 2, 2))) == 0
