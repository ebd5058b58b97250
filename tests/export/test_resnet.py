"""ResNet towers as the reference has them (methods.md (a), "CNN variant"): four layers, four heads, four grids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from open_clip.modified_resnet import ModifiedResNet
from PIL import Image
from torchvision.transforms.functional import normalize, to_tensor

from edgevand.errors import BadInputError
from edgevand_export.heads import Heads, check_heads
from edgevand_export.towers import make_tower
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import open_engine
from edgevand_runtime.enroll import EnrolOptions, enroll
from edgevand_runtime.methods.choosing import seen_as
from edgevand_runtime.sources import open_source
from tests.export.models import SIZE, at_size, random_heads, tiny_config
from tests.export.test_end_to_end import SHOTS, TESTS, draw, enlarged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgevand.bundle import Bundle


def rn50() -> ModifiedResNet:
    """The published network, without weights."""
    with torch.device("meta"):
        return ModifiedResNet(layers=(3, 4, 6, 3), output_dim=1024, heads=32, image_size=224, width=64)


def test_rn50_has_the_published_layers_and_a_pool_for_another_size() -> None:
    with torch.device("meta"):
        native, larger = make_tower(rn50(), (224, 224)), make_tower(rn50(), (518, 518))
    assert native.stages == larger.stages == (1, 2, 3, 4)
    assert native.widths == larger.widths == tuple(64 * 2 ** (layer + 2) for layer in range(4))
    assert native.grids == ((56, 56), (28, 28), (14, 14), (7, 7))
    assert larger.grids == ((129, 129), (64, 64), (32, 32), (16, 16))
    assert larger.module.table.shape == (1, 16 * 16 + 1, 2048)


def test_the_references_heads_fit_the_layers_from_the_first_and_no_others() -> None:
    published = Heads(tuple((torch.zeros(1024, width), torch.zeros(1024)) for width in (256, 512, 1024)))
    with torch.device("meta"):
        prefix, others = make_tower(rn50(), (224, 224), (1, 2, 3)), make_tower(rn50(), (224, 224), (2, 3, 4))
    assert list(check_heads(published, prefix, 1024)) == [1, 2, 3]
    with pytest.raises(BadInputError, match=r"expected .*512"):
        check_heads(published, others, 1024)


def test_a_resnets_four_grids_are_searched_near_each_patchs_place(
    exported: Callable[[str], tuple[Any, Bundle]], tmp_path: Path
) -> None:
    """With two cells of the finest grid: 24 x 24 cells within 2, 12 x 12, 6 x 6 and 3 x 3 within 1."""
    model, bundle = exported("resnet")
    paths = draw(tmp_path)
    normal = tmp_path / "normal"
    normal.mkdir()
    for path in paths[:SHOTS]:
        path.rename(normal / path.name)
    view = seen_as(bundle, settings={"locality": 2})
    engine = open_engine(view)
    with open_source(normal) as source:
        done = enroll(source, view, engine, tmp_path / "bank", EnrolOptions(shots=SHOTS, object_name="part"))
    frames = [next(open_source(path)) for path in paths[SHOTS:]]
    with Detector(view, engine, done.bank) as detector:
        results = detector.detect(frames)
    pictures = [normal / path.name for path in paths[:SHOTS]] + paths[SHOTS:]
    for result, raw_map in zip(results, expected(model, bundle, pictures).numpy(), strict=True):
        assert result.raw_map is not None
        np.testing.assert_allclose(result.raw_map, raw_map, atol=1e-4)


@torch.no_grad()
def expected(model: Any, bundle: Bundle, paths: list[Path]) -> torch.Tensor:
    """Raw maps (T, H, W); far patches are masked out of all pairs."""
    record, (height, width) = bundle.manifest.image, SIZE["resnet"]
    resized = [Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BICUBIC) for path in paths]
    image = torch.stack([normalize(to_tensor(each), list(record.mean), list(record.std)) for each in resized])
    visual = at_size(tiny_config("resnet"), model, height).visual
    levels = visual.forward_intermediates(image, indices=[1, 2, 3, 4])["image_intermediates"]
    text = torch.from_numpy(np.array(bundle.text("part")[1])).T
    total = torch.zeros(TESTS, height, width)
    heads = random_heads(tuple(level.shape[1] for level in levels)).layers
    for level, (weight, bias), radius in zip(levels, heads, (2, 1, 1, 1), strict=True):
        tokens, side = level.flatten(2).transpose(1, 2), level.shape[2]
        logits = 100 * torch.nn.functional.normalize(tokens[SHOTS:] @ weight.T + bias, dim=-1) @ text
        two = logits.transpose(1, 2).reshape(TESTS, 2, side, side)
        total += enlarged(two, (height, width)).softmax(dim=1)[:, 1]
        unit = torch.nn.functional.normalize(tokens, dim=-1)
        row, column = torch.arange(side * side) // side, torch.arange(side * side) % side
        far = torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs()) > radius
        cosine = torch.einsum("tpc,fqc->tfpq", unit[SHOTS:], unit[:SHOTS]).masked_fill(far, -1)
        distance = 1 - cosine.amax(dim=(1, 3))
        total += enlarged(distance.reshape(TESTS, 1, side, side), (height, width))[:, 0]
    return total
