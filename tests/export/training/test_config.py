from __future__ import annotations

import pytest

from edgevand.errors import UsageError
from edgevand_export.training.config import PRESETS, TrainConfig, apply_settings, preset_for


def test_the_presets_are_those_of_the_paper() -> None:
    mvtec, visa = PRESETS["april-gan-mvtec"], PRESETS["april-gan-visa"]
    for each in (mvtec, visa):
        assert (each.lr, each.betas, each.weight_decay, each.batch, each.seed) == (1e-3, (0.5, 0.999), 0.0, 16, 111)
        assert (each.focal_gamma, each.focal_alpha, each.focal_eps, each.dice_smooth) == (2.0, 1.0, 1e-5, 1.0)
        assert (each.focal_weight, each.dice_weight) == (1.0, 1.0)
    assert (mvtec.epochs, mvtec.mosaic) == (3, 0.2)
    assert (visa.epochs, visa.mosaic) == (15, 0.0)
    assert [preset_for(layout) for layout in ("mvtec", "visa", "loco", "folder")] == [
        "april-gan-mvtec",
        "april-gan-visa",
        "april-gan-mvtec",
        "april-gan-mvtec",
    ]


def test_fields_are_set_from_words() -> None:
    settings = [
        "lr=0.01",
        "betas=0.9,0.99",
        "stages=3",
        "cache=off",
        "image_size=null",
        "cache_dir=/x, y",
        "epochs = 7",
    ]
    changed = apply_settings(TrainConfig(image_size=224), settings)
    assert (changed.lr, changed.betas, changed.stages, changed.cache) == (0.01, (0.9, 0.99), (3,), "off")
    assert (changed.image_size, changed.cache_dir, changed.epochs) == (None, "/x, y", 7)
    assert apply_settings(changed, []) == changed


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("lr", r"expected --set field=value, found 'lr'; write"),
        ("lrr=1", r"expected a field .* in --set, found 'lrr'; did you mean lr\?"),
        ("lr=-1", r"expected lr \(learning rate of Adam, constant\) to be greater than 0, found '-1'; correct it"),
        ("lr=high", r"expected lr .* to be a valid number, found 'high'"),
        ("lr=NaN", r"expected lr .* to be a finite number"),
        ("epochs=2.5", r"expected epochs .* to be a valid integer"),
        ("betas=0.5", r"expected betas"),
        ("betas=0.5,1.0", r"expected betas .* to be less than 1, found '1.0'"),
        ("stages=3,x", r"expected stages"),
        ("mosaic=1.5", r"expected mosaic .* to be less than or equal to 1"),
        ("cache=maybe", r"expected cache .* to be 'on' or 'off', found 'maybe'"),
        ("tokens=int8", r"expected tokens .* to be 'float32' or 'float16'"),
    ],
)
def test_a_setting_that_is_wrong_is_named(setting: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        apply_settings(TrainConfig(), [setting])
