"""The published recipe, stated once more in plain torch and held against the program's steps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from torchvision.transforms.functional import normalize, to_tensor

from edgevand_export.bundle_writer import CLIP_MEAN, CLIP_STD
from edgevand_export.heads import read_heads
from edgevand_export.training.config import TrainConfig
from edgevand_export.training.losses import enlarge, step_losses
from edgevand_export.training.plan import Plan
from edgevand_export.training.run import train
from edgevand_runtime.datasets import open_dataset
from tests.export.models import SIZE, at_size, tiny_config, tiny_model
from tests.export.training.workshop import CLASSES, PROMPTS, Silent, Workshop, run

if TYPE_CHECKING:
    from pathlib import Path

    from edgevand_export.training.plan import Draw

EPSILON = 1e-5


def plain_losses(logits: list[torch.Tensor], masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Focal and dice, summed over stages, from two-channel logits (N, 2, h, w) and masks (N, S, S)."""
    focal, dice = torch.zeros(()), torch.zeros(())
    for each in logits:
        both = functional.interpolate(each, masks.shape[1:], mode="bilinear", align_corners=True).softmax(dim=1)
        one_hot = torch.stack([1 - masks, masks], dim=1).clamp(EPSILON, 1 - EPSILON)
        right = (one_hot * both).sum(dim=1) + EPSILON
        focal = focal + (-((1 - right) ** 2) * right.log()).mean()
        abnormal = both[:, 1]
        overlap = (abnormal * masks).sum(dim=(1, 2))
        dice = dice + 1 - ((2 * overlap + 1) / (abnormal.sum(dim=(1, 2)) + masks.sum(dim=(1, 2)) + 1)).mean()
    return focal, dice


def plain_text(model: Any, tokenizer: Any, name: str) -> torch.Tensor:
    """[t_n t_a] (D, 2) of a class."""
    sides = []
    for states in (PROMPTS["normal_states"], PROMPTS["abnormal_states"]):
        sentences = [template.format(state.format(name)) for state in states for template in PROMPTS["templates"]]
        embedded = functional.normalize(model.encode_text(tokenizer(sentences)), dim=-1)
        sides.append(functional.normalize(embedded.mean(dim=0), dim=-1))
    return torch.stack(sides, dim=1)


def plain_picture(draw: Draw, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels (3, S, S) and mask (S, S) of a draw, by Pillow and torchvision."""
    pictures = [Image.open(part.image).convert("RGB") for part in draw.parts]
    masks = [Image.open(part.masks[0]) if part.masks else Image.new("L", pictures[0].size) for part in draw.parts]
    width, height = pictures[0].size
    whole, mask = pictures[0], masks[0]
    if len(pictures) == 4:
        whole, mask = Image.new("RGB", (2 * width, 2 * height)), Image.new("L", (2 * width, 2 * height))
        for number, (picture, part) in enumerate(zip(pictures, masks, strict=True)):
            corner = (number % 2 * width, number // 2 * height)
            whole.paste(picture, corner)
            mask.paste(part, corner)
    pixels = to_tensor(whole.resize(size, Image.Resampling.BICUBIC))
    small = np.asarray(mask.resize(size, Image.Resampling.BILINEAR)) / 255 > 0.5
    return normalize(pixels, list(CLIP_MEAN), list(CLIP_STD)), torch.from_numpy(small).float()


def plain_training(workshop: Workshop, kind: str, config: TrainConfig, steps: int, tokenizer: Any) -> tuple[Any, Any]:
    """Heads after some steps and the log's numbers, with Adam written out."""
    model = tiny_model(tiny_config(kind))
    oracle = model if kind == "timm" else at_size(tiny_config(kind), model, SIZE[kind][0])
    plan = Plan(open_dataset(workshop.data).classes, config)
    indices = list(range(4)) if kind == "vit" else list(range(1, 5))  # a ResNet counts its stem, timm a level before
    with torch.no_grad():
        texts = {name: plain_text(model, tokenizer, name) for name in CLASSES}
    torch.manual_seed(config.seed)
    example = oracle.visual.forward_intermediates(torch.zeros(1, 3, *SIZE[kind]), indices=indices)
    heads = [torch.nn.Linear(level.shape[1], 24) for level in example["image_intermediates"]]
    parameters = [each for head in heads for each in (head.weight, head.bias)]
    first = [torch.zeros_like(each) for each in parameters]
    second = [torch.zeros_like(each) for each in parameters]
    rows = []
    for step in range(1, steps + 1):
        epoch, position = divmod(step - 1, plan.steps)
        draws = plan.epoch(epoch)[position * config.batch : (position + 1) * config.batch]
        pixels, masks = map(torch.stack, zip(*(plain_picture(draw, SIZE[kind]) for draw in draws), strict=True))
        with torch.no_grad():
            levels = oracle.visual.forward_intermediates(pixels, indices=indices)["image_intermediates"]
        text = torch.stack([texts[draw.class_name] for draw in draws])
        logits = []
        for head, level in zip(heads, levels, strict=True):
            unit = functional.normalize(head(level.flatten(2).transpose(1, 2)), dim=-1)
            logits.append((100 * unit @ text).transpose(1, 2).reshape(len(draws), 2, *level.shape[2:]))
        focal, dice = plain_losses(logits, masks)
        gradients = torch.autograd.grad(focal + dice, parameters)
        norm = torch.cat([each.flatten() for each in gradients]).norm()
        rows.append([float((focal + dice).detach()), float(focal.detach()), float(dice.detach()), float(norm)])
        with torch.no_grad():
            for each, gradient, mean, square in zip(parameters, gradients, first, second, strict=True):
                mean.mul_(0.5).add_(gradient, alpha=0.5)
                square.mul_(0.999).add_(gradient**2, alpha=0.001)
                unbiased = (square / (1 - 0.999**step)).sqrt() + 1e-8
                each.sub_(1e-3 * mean / (1 - 0.5**step) / unbiased)
    return [(head.weight.detach(), head.bias.detach()) for head in heads], np.array(rows)


@pytest.mark.parametrize("cache", ["on", "off"])
@pytest.mark.parametrize("kind", ["vit", "resnet", "timm"])
def test_twenty_steps_are_those_of_the_formulas(
    kind: str, cache: str, workshop: Workshop, tokenizer: Any, tmp_path: Path
) -> None:
    settings = ("epochs=5", "mosaic=0.4", "mosaic_pool=3", f"cache={cache}")
    size = SIZE[kind][0]
    options = workshop.options(tmp_path / "run", *settings, f"image_size={size}", kind=kind)
    done = run(options)
    config = done.record.config
    wanted, rows = plain_training(workshop, kind, config, done.steps[0], tokenizer)
    assert done.steps == (20, 20)
    log = np.genfromtxt(tmp_path / "run" / "log.csv", delimiter=",", names=True)
    found = np.stack([log[name] for name in ("loss", "focal", "dice", "gradient")], axis=1)
    np.testing.assert_allclose(found[0], rows[0], rtol=1e-5)
    np.testing.assert_allclose(found[:, :3], rows[:, :3], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[:, 3], rows[:, 3], rtol=1e-3)  # last bits of tokens grow from step to step
    heads = read_heads(tmp_path / "run" / "heads.safetensors")
    for (weight, bias), (wanted_weight, wanted_bias) in zip(heads.layers, wanted, strict=True):
        torch.testing.assert_close(weight, wanted_weight, rtol=0, atol=1e-5)
        torch.testing.assert_close(bias, wanted_bias, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tokens", ["float32", "float16"])
def test_the_cache_changes_no_byte(tokens: str, workshop: Workshop, tmp_path: Path) -> None:
    files = []
    for name, cache in (("first", "on"), ("second", "on"), ("without", "off")):
        watcher = Silent()
        options = workshop.options(tmp_path / name, "mosaic=0.5", f"cache={cache}", f"tokens={tokens}")
        train(options, watcher)
        files.append((tmp_path / name / "heads.safetensors").read_bytes())
        files.append((tmp_path / name / "log.csv").read_bytes())
        encoded = sum(each.encoded for each in watcher.epochs)
        assert encoded == {"second": 0, "without": 42}.get(name, encoded)
    assert files[0] == files[2] == files[4]
    assert files[1] == files[3] == files[5]


def test_tokens_of_half_precision_are_rounded_with_the_cache_and_without(workshop: Workshop, tmp_path: Path) -> None:
    run(workshop.options(tmp_path / "half", "tokens=float16"))
    run(workshop.options(tmp_path / "full"))
    half, full = ((tmp_path / name / "heads.safetensors").read_bytes() for name in ("half", "full"))
    assert half != full


def test_gradients_are_those_of_the_formulas_where_probabilities_are_extreme() -> None:
    generator = torch.Generator().manual_seed(5)
    two = torch.randn(3, 2, 4, 5, generator=generator) * torch.tensor([0.1, 3.0, 20.0]).reshape(3, 1, 1, 1)
    masks = (torch.rand(3, 20, 24, generator=generator) > 0.7).float()
    masks[1] = 0
    plain = two.clone().requires_grad_()
    torch.autograd.backward(torch.stack(plain_losses([plain], masks)).sum())
    own = two.clone().requires_grad_()
    losses = step_losses([own[:, 1] - own[:, 0]], masks, TrainConfig())
    torch.autograd.backward(losses.total)
    torch.testing.assert_close(own.grad, plain.grad, rtol=1e-4, atol=1e-6)
    assert [float(losses.focal.detach()), float(losses.dice.detach())] == pytest.approx(
        [float(each) for each in plain_losses([two], masks)], abs=1e-5
    )


def test_weights_of_the_losses_are_applied() -> None:
    logits, masks = [torch.randn(2, 4, 4)], (torch.rand(2, 8, 8) > 0.5).float()
    both = step_losses(logits, masks, TrainConfig())
    weighted = step_losses(logits, masks, TrainConfig(focal_weight=3.0, dice_weight=0.5))
    torch.testing.assert_close(weighted.total, 3 * both.focal + 0.5 * both.dice)


@pytest.mark.parametrize("source", [(1, 1), (2, 3), (7, 5)])
def test_maps_are_enlarged_as_torch_does(source: tuple[int, int]) -> None:
    maps = torch.randn(2, *source)
    wanted = functional.interpolate(maps[:, None], (12, 17), mode="bilinear", align_corners=True)[:, 0]
    torch.testing.assert_close(enlarge(maps, (12, 17)), wanted, rtol=0, atol=1e-6)


def test_the_record_of_a_run_says_every_number(workshop: Workshop, tmp_path: Path) -> None:
    run(workshop.options(tmp_path / "run", "epochs=1"))
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert set(record["config"]) == set(TrainConfig.model_fields)
    assert record["data"]["classes"] == dict.fromkeys(CLASSES, 7)
    assert record["encoder"]["stages"] == [1, 2, 3, 4]
