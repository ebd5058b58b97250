from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from edgevand.errors import UsageError
from edgevand_export.towers import activation_of, architecture_of, default_stages, make_tower
from tests.export.models import TEXT, at_size, picture_batch, tiny_config, tiny_model

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "mean pooled": {"pool_type": "avg", "final_ln_after_pool": True},
    "layer scale": {"ls_init_value": 0.1},
    "custom blocks": {"qk_norm": True, "scale_attn_inner": True, "scale_fc": True},
    "no first norm": {"no_ln_pre": True},
    "attentional pool": {"attentional_pool": True, "attn_pooler_heads": 4, "attn_pooler_queries": 5},
}


def check(tower_outputs: Any, reference: Any) -> None:
    """Features and tokens against open_clip's ``forward_intermediates`` (NCHW)."""
    features, stages = tower_outputs
    torch.testing.assert_close(features, reference["image_features"], rtol=1e-4, atol=1e-5)
    for tokens, wanted in zip(stages, reference["image_intermediates"], strict=True):
        torch.testing.assert_close(tokens, wanted.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_vit_gives_open_clips_features_and_residual_stream(variant: str) -> None:
    model = tiny_model(tiny_config("vit", **VARIANTS[variant]))
    image = picture_batch(3, (32, 32))
    tower = make_tower(model.visual, (32, 32), (1, 3, 4))
    check(tower.module(image), model.visual.forward_intermediates(image, indices=[0, 2, 3]))
    assert (tower.widths, tower.grids) == ((32,) * 3, ((4, 4),) * 3)


@torch.no_grad()
def test_a_vit_at_another_size_is_open_clips_with_its_table_resized() -> None:
    config = tiny_config("vit")
    model = tiny_model(config)
    image = picture_batch(2, (56, 56))
    wanted = at_size(config, model, 56).visual.forward_intermediates(image, indices=[3])
    check(make_tower(model.visual, (56, 56), (4,)).module(image), wanted)


@pytest.mark.parametrize("size", [64, 96, 110])
@torch.no_grad()
def test_a_resnet_gives_open_clips_features_and_layers(size: int) -> None:
    config = tiny_config("resnet")
    model = tiny_model(config)
    image = picture_batch(2, (size, size))
    wanted = at_size(config, model, size).visual.forward_intermediates(image, indices=[1, 2, 3, 4])
    tower = make_tower(model.visual, (size, size))
    check(tower.module(image), wanted)
    assert tower.stages == (1, 2, 3, 4)
    assert tower.widths == (32, 64, 128, 256)
    assert tower.grids == tuple(tuple(each.shape[2:]) for each in wanted["image_intermediates"])


@torch.no_grad()
def test_a_resnet_left_in_training_mode_is_exported_in_evaluation_mode() -> None:
    model = tiny_model(tiny_config("resnet"))
    image = picture_batch(2, (64, 64))
    wanted = model.visual.forward_intermediates(image, indices=[1, 2, 3, 4])
    model.train()
    check(make_tower(model.visual, (64, 64)).module(image), wanted)


@pytest.mark.parametrize(("kind", "stages"), [("timm", (2, 4)), ("timm-vit", (1, 2))])
@torch.no_grad()
def test_a_timm_tower_gives_open_clips_features_and_timms_levels(kind: str, stages: tuple[int, ...]) -> None:
    model = tiny_model(tiny_config(kind))
    size = model.visual.image_size
    image = picture_batch(2, size)
    tower = make_tower(model.visual, size, stages)
    wanted = model.visual.forward_intermediates(image, indices=[stage - 1 for stage in stages])
    check(tower.module(image), wanted)
    torch.testing.assert_close(tower.module(image)[0], model.visual(image), rtol=1e-4, atol=1e-5)
    assert tower.grids == tuple(tuple(each.shape[2:]) for each in wanted["image_intermediates"])
    assert tower.widths == tuple(each.shape[1] for each in wanted["image_intermediates"])


@pytest.mark.parametrize(
    ("layers", "stages"), [(24, (6, 12, 18, 24)), (12, (3, 6, 9, 12)), (32, (8, 16, 24, 32)), (2, (1, 2))]
)
def test_default_stages_end_four_equal_groups(layers: int, stages: tuple[int, ...]) -> None:
    visual = type("VisionTransformer", (), {})()
    visual.transformer = SimpleNamespace(resblocks=[None] * layers)
    assert default_stages(visual) == stages


@pytest.mark.parametrize("stages", [(), (0, 1), (2, 1), (1, 1), (4, 5)])
def test_stages_that_the_tower_does_not_have_are_refused(stages: tuple[int, ...]) -> None:
    visual = tiny_model(tiny_config("vit")).visual
    with pytest.raises(UsageError, match=r"ascending stages between 1 and 4"):
        make_tower(visual, (32, 32), stages)


def test_a_size_that_leaves_a_border_over_is_refused_with_the_nearest_that_does_not() -> None:
    visual = tiny_model(tiny_config("vit")).visual
    with pytest.raises(UsageError, match=r"found 50x50; take --image-size 48"):
        make_tower(visual, (50, 50))


def test_a_picture_too_small_for_a_resnet_is_refused() -> None:
    visual = tiny_model(tiny_config("resnet")).visual
    with pytest.raises(UsageError, match=r"at least 32 px"):
        make_tower(visual, (16, 16))


def test_a_tower_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match=r"found Linear"):
        architecture_of(nn.Linear(1, 1))


@pytest.mark.parametrize(("quick", "image"), [(False, "gelu"), (True, "quick-gelu")])
def test_activations_are_read_from_the_towers_themselves(quick: bool, image: str) -> None:  # noqa: FBT001
    model = tiny_model(tiny_config("vit"), quick_gelu=quick)
    assert (activation_of(model.visual), activation_of(model.transformer)) == (image, image)
    for kind in ("resnet", "timm"):
        other = tiny_model(tiny_config(kind), quick_gelu=quick)
        assert (activation_of(other.visual), activation_of(other.transformer)) == ("none", image)


@torch.no_grad()
def test_a_coca_model_has_a_vit_tower_like_any_other() -> None:
    vision = {"attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True}
    text = {**TEXT, "embed_cls": True, "context_length": 76}
    multimodal = {"width": 16, "heads": 2, "layers": 1, "context_length": 76, "vocab_size": 49408}
    model = tiny_model({**tiny_config("vit", **vision), "text_cfg": text, "multimodal_cfg": multimodal})
    image = picture_batch(2, (32, 32))
    features, _ = make_tower(model.visual, (32, 32)).module(image)
    torch.testing.assert_close(features, model.encode_image(image, normalize=False), rtol=1e-4, atol=1e-5)
