"""SAM's automatic masks and DIS's saliency against plain restatements and torch's and torchvision's own operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from torchvision.ops import nms

from edgevand_runtime.methods.foreground.everything import (
    EverythingRule,
    everything,
    point_grid,
    sam_input,
    scaled_size,
)
from edgevand_runtime.methods.foreground.saliency import dis_input, salient

SIDE, LOW = 64, 16
SIZE = (50, 30)


def picture(seed: int, height: int = 30, width: int = 50) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def decoder(points: Any) -> tuple[Any, Any]:
    """Three smooth blobs around each point, and how much they are trusted, the same for the same point."""
    y, x = np.mgrid[0:LOW, 0:LOW] * (SIDE / LOW) + SIDE / LOW / 2
    logits, trust = [], []
    for px, py in points:
        distance = np.hypot(x - px, y - py)
        widths = (9 + px % 5, 15 + py % 7, 24)
        logits.append([(width - distance) * sharp for width, sharp in zip(widths, (9.0, 4.0, 0.9), strict=True)])
        trust.append([0.8 + 0.2 * ((px * 0.377 + py * 0.613 + mask * 0.211) % 1) for mask in range(3)])
    return np.array(logits, np.float32), np.array(trust, np.float32)


def restated(rule: EverythingRule) -> list[Any]:
    """The generation as its authors describe it, in torch, all masks at once."""
    width, height = SIZE
    inner_width, inner_height = SIDE, round(height * SIDE / width)
    step = 1 / rule.points
    points = [
        ((column + 0.5) * step * inner_width, (row + 0.5) * step * inner_height)
        for row in range(rule.points)
        for column in range(rule.points)
    ]
    logits, trust = (torch.from_numpy(each) for each in decoder(np.array(points, np.float32)))
    masks = logits.flatten(0, 1)[:, None]
    masks = functional.interpolate(masks, (SIDE, SIDE), mode="bilinear", align_corners=False)
    masks = masks[..., :inner_height, :inner_width]
    masks = functional.interpolate(masks, (height, width), mode="bilinear", align_corners=False)[:, 0]
    trust = trust.flatten()
    high, low = (masks > rule.offset).flatten(1).sum(1), (masks > -rule.offset).flatten(1).sum(1)
    keep = (trust > rule.iou) & (high / low.clamp_min(1) >= rule.stability) & (masks > 0).flatten(1).any(1)
    masks, trust = masks[keep] > 0, trust[keep]
    boxes = []
    for mask in masks:
        rows, columns = torch.where(mask)
        boxes.append([columns.min(), rows.min(), columns.max(), rows.max()])
    order = nms(torch.tensor(boxes, dtype=torch.float32), trust, rule.suppression)
    return [masks[index].numpy() for index in order]


@pytest.mark.parametrize(
    "rule",
    [
        EverythingRule(points=7),
        EverythingRule(points=9, iou=0.9, stability=0.8, suppression=0.5),
        EverythingRule(points=6, iou=0.5, stability=0.5, offset=2.0, suppression=0.9),
    ],
)
def test_masks_are_those_of_the_published_procedure(rule: EverythingRule) -> None:
    wanted = restated(rule)
    found = everything(decoder, SIZE, SIDE, rule)
    assert len(found) == len(wanted) > 1
    assert all((one == other).all() for one, other in zip(found, wanted, strict=True))


def test_the_defaults_are_those_of_the_release() -> None:
    assert EverythingRule() == (32, 0.88, 0.95, 1.0, 0.7)


def test_a_decoder_that_trusts_nothing_leaves_no_mask() -> None:
    def doubtful(points: Any) -> tuple[Any, Any]:
        logits, trust = decoder(points)
        return logits, trust * 0

    assert everything(doubtful, SIZE, SIDE, EverythingRule(points=4)) == []


def test_points_are_the_middles_of_equal_cells() -> None:
    grid = point_grid(4)
    assert grid.shape == (16, 2)
    np.testing.assert_allclose(grid[:4], [[0.125, 0.125], [0.375, 0.125], [0.625, 0.125], [0.875, 0.125]])


@pytest.mark.parametrize("size", [(50, 30), (30, 50), (64, 64), (333, 500)])
def test_sams_input_is_scaled_by_its_longer_side_normalised_and_padded(size: tuple[int, int]) -> None:
    image = picture(3, size[1], size[0])
    inner = scaled_size(size, SIDE)
    assert max(inner) == SIDE
    resized = Image.fromarray(np.ascontiguousarray(image[..., ::-1])).resize(inner, Image.Resampling.BILINEAR)
    wanted = (np.asarray(resized, np.float64) - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    found = sam_input(image, SIDE)[0].transpose(1, 2, 0)
    np.testing.assert_allclose(found[: inner[1], : inner[0]], wanted, atol=1e-5)
    assert not found[inner[1] :].any()
    assert not found[:, inner[0] :].any()


def test_dis_sees_the_picture_resized_bilinearly_around_zero() -> None:
    image = picture(4)
    pixels = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None].float()
    wanted = functional.interpolate(pixels, (SIDE, SIDE), mode="bilinear", align_corners=False) / 255 - 0.5
    np.testing.assert_allclose(dis_input(image, SIDE), wanted.numpy(), atol=1e-5)


def test_an_answer_is_stretched_before_the_threshold() -> None:
    answer = np.random.default_rng(5).uniform(0.2, 0.3, (SIDE, SIDE)).astype(np.float32)
    enlarged = functional.interpolate(torch.from_numpy(answer)[None, None], (90, 70), mode="bilinear")[0, 0].numpy()
    stretched = (enlarged - enlarged.min()) / (enlarged.max() - enlarged.min())
    assert (salient(answer, (70, 90), 0.5) == (stretched > 0.5)).mean() > 0.999


def test_an_answer_that_is_the_same_everywhere_shows_no_object() -> None:
    assert not salient(np.full((8, 8), 0.7, np.float32), (20, 10), 0.5).any()
