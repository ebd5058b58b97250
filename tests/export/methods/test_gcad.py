"""GCAD's formulas against plain re-statements: pieces, standardisation, losses, skips, copies, one step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgevand_export.methods.backbones import open_backbone
from edgevand_export.methods.gcad.copies import copies_of, jittered
from edgevand_export.methods.gcad.nets import AdditiveNet, Standardised, TileEncoder, UNet
from edgevand_export.methods.gcad.training import Branches, GcadJob, Shape, losses, skip_weight
from edgevand_runtime.methods.gcad import GcadSettings
from tests.tiny import draw_part

if TYPE_CHECKING:
    from pathlib import Path

TINY = GcadSettings(image_size=64, copies=1, batch=2, bottleneck=5, global_depth=3)
SHAPES = [Shape(6, (4, 5, 6, 7, 8), (2, 3, 4, 5, 6), additive) for additive in (False, True)]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def branches(shape: Shape) -> Branches:
    torch.manual_seed(1)
    return Branches(shape, TINY)


def test_a_descriptor_is_the_backbones_mean_over_its_own_piece(resnet18: Path) -> None:
    backbone, image = open_backbone("resnet18", (4, 8, 16), [resnet18]), drawn(2, 3, 64, 64)
    with torch.no_grad():
        found = TileEncoder(backbone, 32)(image)
        assert found.shape == (2, 64 + 128 + 256, 4, 4)
        for frame, row, column in ((0, 0, 0), (0, 1, 3), (1, 3, 2)):
            piece = image[frame : frame + 1, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            enlarged = functional.interpolate(piece, size=(32, 32), mode="bilinear", align_corners=False)
            wanted = torch.cat([each.mean(dim=(2, 3))[0] for each in backbone(enlarged)])
            torch.testing.assert_close(found[frame, :, row, column], wanted, atol=1e-5, rtol=1e-5)


def test_channels_are_standardised_on_the_frames_that_train() -> None:
    features = 3 * drawn(4, 5, 2, 2) + 7
    features[:, 4] = 1  # a channel that never changes
    layer = Standardised(5)
    layer.measure(features)
    array = features.double().numpy()
    mean, deviation = array.mean(axis=(0, 2, 3)), array.std(axis=(0, 2, 3))
    wanted = (array - mean[:, None, None]) / np.maximum(deviation, 1e-5)[:, None, None]
    np.testing.assert_allclose(layer(features).numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_losses_are_squared_errors_for_each_channel(shape: Shape) -> None:
    nets, image, local = branches(shape), drawn(2, 3, 64, 64), drawn(2, 6, 4, 4, seed=1)
    with torch.no_grad():
        found = losses(nets, image, local, 0.4)
        whole = nets.encoder(image, 0.4).double().numpy()
        of_local, of_whole = (each.double().numpy() for each in nets.predicted(image))
        distilled = nets.upsample(torch.from_numpy(whole).float()).double().numpy()
    pixels, wanted = 2 * 4 * 4, local.double().numpy()
    assert whole.shape == (2, 3, 4, 4)
    assert float(found.distilled) == pytest.approx(np.sum((wanted - distilled) ** 2) / pixels / 6, abs=1e-5)
    assert float(found.whole) == pytest.approx(np.sum((whole - of_whole) ** 2) / pixels / 3, abs=1e-5)
    assert float(found.local) == pytest.approx(np.sum((wanted - of_local) ** 2) / pixels / 6, abs=1e-5)
    assert float(found.total) == pytest.approx(float(found.distilled + found.whole + found.local))


def test_skips_fade_evenly_over_the_first_fifth_and_are_gone_then() -> None:
    weights = [skip_weight(step, 100) for step in range(100)]
    np.testing.assert_allclose(weights[:21], np.linspace(1, 0, 21), atol=1e-12)
    assert not any(weights[20:])


@pytest.mark.parametrize("skip", [0.0, 0.3, 1.0])
def test_the_additive_net_adds_each_level_on_the_way_up(skip: float) -> None:
    torch.manual_seed(2)
    net, image = AdditiveNet((2, 3, 4, 5, 6), 7, 5, 128), drawn(1, 3, 128, 128)
    relu = functional.relu
    down: Any = net.down
    up: Any = net.up
    with torch.no_grad():
        e1 = relu(net.stem[2](relu(net.stem[0](image))))
        e2 = relu(down[0](e1))
        e3 = relu(down[1](e2))
        e4 = relu(down[2](e3))
        e5 = relu(down[3](e4))
        squeezed = net.squeeze(e5)
        d5 = relu(net.expand(squeezed)) + skip * e5
        d4 = relu(up[3](d5)) + skip * e4
        d3 = relu(up[2](d4)) + skip * e3
        d2 = relu(up[1](d3)) + skip * e2
        d1 = relu(up[0](d2)) + skip * e1
        torch.testing.assert_close(net(image, skip), net.head(d1), atol=1e-5, rtol=1e-5)
    assert [tuple(each.shape[1:]) for each in (squeezed, e5, e1)] == [(5, 1, 1), (6, 2, 2), (2, 32, 32)]
    assert net(image, skip).shape == (1, 7, 8, 8)


def test_without_skips_the_whole_passes_through_the_bottleneck() -> None:
    net = AdditiveNet((2, 3, 4, 5, 6), 7, 5, 64)
    nn.init.zeros_(net.squeeze.weight)
    first, second = drawn(1, 3, 64, 64), drawn(1, 3, 64, 64, seed=9)
    torch.testing.assert_close(net(first, 0.0), net(second, 0.0))
    assert not torch.allclose(net(first, 1.0), net(second, 1.0))


def test_the_unet_concatenates_each_level_on_the_way_up() -> None:
    torch.manual_seed(3)
    net, image = UNet((2, 3, 4, 5, 6), 7), drawn(1, 3, 64, 64)
    down: Any = net.down
    up: Any = net.up
    merge: Any = net.merge
    with torch.no_grad():
        levels = [down[0](net.stem(image))]
        for layer in down[1:]:
            levels.append(layer(functional.max_pool2d(levels[-1], 2)))
        found = levels[4]
        for level in (3, 2, 1, 0):
            found = merge[level](torch.cat([levels[level], up[level](found)], dim=1))
        torch.testing.assert_close(net(image), net.head(found), atol=1e-5, rtol=1e-5)
    assert [each.shape[-1] for each in levels] == [16, 8, 4, 2, 1]


def test_errors_are_means_over_channels_without_skips_in_the_encoder() -> None:
    nets, image, local = branches(SHAPES[1]), drawn(1, 3, 64, 64), drawn(1, 6, 4, 4, seed=4)
    nets.standardised.measure(drawn(3, 6, 4, 4, seed=5))
    with torch.no_grad():
        of_local, of_whole = nets.errors(image, local)
        standard = (local - nets.standardised.mean) / nets.standardised.deviation
        torch.testing.assert_close(of_local, ((standard - nets.local(image, 1.0)) ** 2).sum(1) / 6)
        torch.testing.assert_close(of_whole, ((nets.encoder(image, 0.0) - nets.whole(image, 1.0)) ** 2).sum(1) / 3)


def test_a_step_is_one_update_of_adam_with_weight_decay() -> None:
    images, local = drawn(4, 3, 64, 64), drawn(4, 6, 4, 4, seed=6)
    net = GcadJob(images, local, TINY, SHAPES[0], epochs=2, lr=1e-4).begin(0, [0, 1])
    before = {name: each.detach().clone() for name, each in net.module.named_parameters()}
    chosen = np.random.default_rng([0, 0, 0]).permutation([0, 1, 2, 3])[:2]
    mean, deviation = local[[0, 2]].mean((0, 2, 3), keepdim=True), local[[0, 2]].std((0, 2, 3), correction=0)
    target = (local[chosen] - mean) / deviation[:, None, None]
    total = losses(net.module, images[chosen], target, 1.0).total
    gradients = dict(zip(before, torch.autograd.grad(total, list(net.module.parameters())), strict=True))
    assert net.step(0) == pytest.approx(float(total.detach()), abs=1e-5)
    for name, parameter in net.module.named_parameters():
        gradient = gradients[name] + 1e-5 * before[name]
        wanted = before[name] - 1e-4 * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(parameter.detach(), wanted, atol=1e-5, rtol=0)


def test_colours_are_jittered_as_torchvision_adjusts_them() -> None:
    transforms = pytest.importorskip("torchvision.transforms.functional")
    image = draw_part(1)
    tensor = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1).double() / 255
    wanted = transforms.adjust_saturation(
        transforms.adjust_contrast(transforms.adjust_brightness(tensor, 1.1), 0.9), 1.2
    )
    found = torch.from_numpy(jittered(image, 1.1, 0.9, 1.2)[..., ::-1].copy()).permute(2, 0, 1)
    assert float((found - 255 * wanted).abs().max()) < 0.6  # grey weights of 4 digits, and rounding


def test_copies_keep_the_layout_unless_asked_otherwise() -> None:
    image = draw_part(2)
    plain = copies_of(image, 0, GcadSettings())
    assert len(plain) == 4
    assert all(0 < np.abs(each.astype(int) - image).mean() < 25 for each in plain)
    for one, two in zip(plain, copies_of(image, 0, GcadSettings()), strict=True):
        np.testing.assert_array_equal(one, two)
    still = copies_of(image, 0, GcadSettings(jitter=0))
    assert all(np.array_equal(each, image) for each in still)
    flipped = copies_of(image, 0, GcadSettings(jitter=0, flips=True, copies=12))
    for pose in (image, image[::-1], image[:, ::-1], image[::-1, ::-1]):
        assert any(np.array_equal(each, pose) for each in flipped)
    turned = copies_of(image, 0, GcadSettings(jitter=0, rotation=30))
    assert not any(np.array_equal(each, image) for each in turned)
