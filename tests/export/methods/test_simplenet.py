"""SimpleNet's formulas against plain re-statements, and its folded graph against the modules that were trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgevand_export.methods.simplenet import Aggregation, Trained, _Net, fold, hinge
from edgevand_runtime.methods.simplenet import SimpleNetSettings


def unfolded(level: torch.Tensor) -> torch.Tensor:
    """The 3x3 neighbourhood of each place of (C, h, w), zeros beyond the border: (h, w, C, 3, 3), one by one."""
    depth, rows, columns = level.shape
    found = torch.zeros(rows, columns, depth, 3, 3)
    for row in range(rows):
        for column in range(columns):
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    y, x = row + down, column + right
                    if 0 <= y < rows and 0 <= x < columns:
                        found[row, column, :, down + 1, right + 1] = level[:, y, x]
    return found


@pytest.mark.parametrize(("widths", "dim"), [((5, 7), 12), ((40, 112), 384), ((6, 3), 8)])
def test_aggregation_is_unfolding_pooling_enlarging_and_pooling(widths: tuple[int, int], dim: int) -> None:
    generator = torch.Generator().manual_seed(1)
    fine, coarse = (torch.randn(w, s, s, generator=generator) for w, s in zip(widths, (6, 3), strict=True))
    patches = [unfolded(fine), unfolded(coarse)]
    # as released: the coarser level's neighbourhoods are enlarged number by number, then each is pooled
    numbers = patches[1].permute(2, 3, 4, 0, 1).reshape(-1, 1, 3, 3)
    enlarged = functional.interpolate(numbers, size=(6, 6), mode="bilinear", align_corners=False)
    patches[1] = enlarged.reshape(widths[1], 3, 3, 6, 6).permute(3, 4, 0, 1, 2)
    pooled = [functional.adaptive_avg_pool1d(each.reshape(36, 1, -1), dim) for each in patches]
    stacked = torch.stack([each.squeeze(1) for each in pooled], dim=1).reshape(36, 1, -1)
    wanted = functional.adaptive_avg_pool1d(stacked, dim).reshape(6, 6, dim)
    found = Aggregation(widths, dim)([fine[None], coarse[None]])[0].permute(1, 2, 0)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(Aggregation(widths, dim, 0.5)([fine[None], coarse[None]])[0].permute(1, 2, 0), found / 2)


def test_the_loss_is_a_hinge_on_either_side() -> None:
    clean, noised = np.array([1.0, 0.2, -0.4]), np.array([-2.0, 0.1, -0.3])
    wanted = (np.maximum(0, 0.5 - clean)).mean() + (np.maximum(0, 0.5 + noised)).mean()
    assert float(hinge(torch.tensor(clean), torch.tensor(noised), 0.5)) == pytest.approx(wanted, abs=1e-6)


def trained(dim: int = 10, hidden: int = 6) -> Trained:
    torch.manual_seed(0)
    network = Trained(dim, hidden)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
        for name, buffer in network.named_buffers():
            if name.endswith("mean"):
                buffer.normal_()
            elif name.endswith("var"):
                buffer.uniform_(0.3, 2)
    return network.eval()


def test_the_folded_layers_compute_what_the_trained_modules_compute() -> None:
    network = trained()
    rows = torch.randn(2 * 3 * 4, 10, generator=torch.Generator().manual_seed(2))
    wanted = -network.discriminator(network.adaptor(rows))
    layers = fold(network)
    assert [type(each) for each in layers] == [nn.Conv2d, nn.LeakyReLU, nn.Conv2d]
    found = layers(rows.reshape(2, 3, 4, 10).permute(0, 3, 1, 2)).squeeze(1)
    torch.testing.assert_close(found.flatten(), wanted, atol=1e-5, rtol=1e-5)


def test_first_weights_follow_xaviers_normal_rule() -> None:
    torch.manual_seed(0)
    network = Trained(300, 200)
    for layer, fans in ((network.adaptor, 600), (network.discriminator.first, 500), (network.discriminator.last, 201)):
        assert float(layer.weight.detach().std()) == pytest.approx((2 / fans) ** 0.5, rel=0.15)


def test_a_step_is_one_update_of_adamw_and_one_of_adam() -> None:
    settings = SimpleNetSettings(hidden=6, batch=8, noise=0.1)
    features = torch.randn(2, 9, 10, generator=torch.Generator().manual_seed(3))
    net = _Net(features, [0, 1], settings, 0)
    before = {name: each.detach().double().numpy().copy() for name, each in net.module.named_parameters()}
    order = np.random.default_rng([0, 0, 0]).permutation([0, 1])
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([0, 0, 0, 1]).generate_state(1, np.uint32)[0]))
    noise = torch.randn((18, 10), generator=generator).double().numpy()

    rows = features[order].reshape(18, 10).double().numpy()
    names = ("first.weight", "first.bias", "norm.weight", "norm.bias", "last.weight")
    w1, b1, scale, shift, w2 = (before[f"discriminator.{name}"] for name in names)
    adapted = rows @ before["adaptor.weight"].T + before["adaptor.bias"]
    judged = np.concatenate([adapted, adapted + 0.1 * noise])
    hidden = judged @ w1.T + b1
    mean, variance = hidden.mean(0), hidden.var(0)
    unit = (hidden - mean) / np.sqrt(variance + 1e-5)
    normed = unit * scale + shift
    active = np.where(normed > 0, normed, 0.2 * normed)
    scores = active @ w2[0]
    loss = np.maximum(0, 0.5 - scores[:18]).mean() + np.maximum(0, 0.5 + scores[18:]).mean()
    # backwards, by hand
    by_score = np.concatenate([(scores[:18] < 0.5) / -18, (scores[18:] > -0.5) / 18])
    by_normed = by_score[:, None] * w2[0] * np.where(normed > 0, 1, 0.2)
    by_unit = by_normed * scale
    by_hidden = (by_unit - by_unit.mean(0) - unit * (by_unit * unit).mean(0)) / np.sqrt(variance + 1e-5)
    by_judged = by_hidden @ w1
    by_adapted = by_judged[:18] + by_judged[18:]
    # without the biases before the BatchNorm, which takes every shift away: their gradient is 0 but for rounding
    gradients = {
        "adaptor.weight": by_adapted.T @ rows,
        "discriminator.first.weight": by_hidden.T @ judged,
        "discriminator.norm.weight": (by_normed * unit).sum(0),
        "discriminator.norm.bias": by_normed.sum(0),
        "discriminator.last.weight": (by_score @ active)[None],
    }

    assert net.step(0) == pytest.approx(loss, abs=1e-5)
    after = dict(net.module.named_parameters())
    for name, gradient in gradients.items():
        if name.startswith("adaptor"):
            wanted = before[name] * (1 - 1e-4 * 0.01) - 1e-4 * gradient / (np.abs(gradient) + 1e-8)
        else:
            gradient = gradient + 1e-5 * before[name]  # noqa: PLW2901 (L2, as Adam adds it)
            wanted = before[name] - 2e-4 * gradient / (np.abs(gradient) + 1e-8)
        np.testing.assert_allclose(after[name].detach().numpy(), wanted, atol=1e-5, err_msg=name)
    assert net.module.discriminator.norm.num_batches_tracked == 1
    kept = dict(net.module.named_buffers())["discriminator.norm.running_mean"]
    np.testing.assert_allclose(kept.numpy(), 0.1 * mean, atol=1e-5)
