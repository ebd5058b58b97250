"""From an exported bundle through enrolment and detection, against PyTorch and Pillow alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import normalize, to_tensor

from edgevand.bank import Bank
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import open_engine
from edgevand_runtime.enroll import EnrolOptions, enroll
from edgevand_runtime.sources import open_source
from tests.export.models import SIZE, at_size, random_heads, tiny_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgevand.bundle import Bundle

SHOTS, TESTS = 3, 2


def draw(folder: Path) -> list[Path]:
    """Pictures of a textured disc that are alike and not the same."""
    random = np.random.default_rng(7)
    y, x = np.mgrid[0:90, 0:120]
    paths = []
    for number in range(SHOTS + TESTS):
        shade = 120 + 60 * np.sin((x + 9 * number) / 7) + 40 * (np.hypot(x - 60, y - 45 - number) < 30)
        picture = shade[..., None] * (1.0, 0.8, 0.6) + random.normal(0, 6, (90, 120, 3))
        path = folder / f"{number}.png"
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path)
        paths.append(path)
    return paths


@torch.no_grad()
def expected(kind: str, model: Any, bundle: Bundle, paths: list[Path]) -> tuple[torch.Tensor, torch.Tensor]:
    """Raw maps (T, H, W) and text scores (T,) by the reference's formulas; the first pictures are the bank."""
    height, width = SIZE[kind]
    record = bundle.manifest.image
    resized = [Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BICUBIC) for path in paths]
    image = torch.stack([normalize(to_tensor(each), list(record.mean), list(record.std)) for each in resized])
    oracle = model if kind == "timm" else at_size(tiny_config(kind), model, height)
    indices = [stage.index - (kind != "resnet") for stage in bundle.manifest.stages]
    found = oracle.visual.forward_intermediates(image, indices=indices)
    text = torch.from_numpy(np.array(bundle.text("part")[1])).T
    heads = random_heads(tuple(each.shape[1] for each in found["image_intermediates"])).layers
    total = torch.zeros(TESTS, height, width)
    for level, (weight, bias) in zip(found["image_intermediates"], heads, strict=True):
        tokens = level.flatten(2).transpose(1, 2)
        logits = 100 * torch.nn.functional.normalize(tokens[SHOTS:] @ weight.T + bias, dim=-1) @ text
        two = logits.transpose(1, 2).reshape(TESTS, 2, *level.shape[2:])
        total += enlarged(two, SIZE[kind]).softmax(dim=1)[:, 1]
        unit = torch.nn.functional.normalize(tokens, dim=-1)
        distance = 1 - (unit[SHOTS:] @ unit[:SHOTS].flatten(0, 1).T).amax(dim=-1)
        total += enlarged(distance.reshape(TESTS, 1, *level.shape[2:]), SIZE[kind])[:, 0]
    embedding = torch.nn.functional.normalize(found["image_features"][SHOTS:], dim=-1)
    return total, (100 * embedding @ text).softmax(dim=-1)[:, 1]


def enlarged(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear with aligned corners."""
    return torch.nn.functional.interpolate(maps, size=size, mode="bilinear", align_corners=True)


@pytest.mark.parametrize("batch", [1, TESTS])
@pytest.mark.parametrize("kind", ["resnet", "vit", "timm"])
def test_enrolling_and_scoring_give_what_pytorch_gives(
    kind: str, batch: int, exported: Callable[[str], tuple[Any, Bundle]], tmp_path: Path
) -> None:
    model, bundle = exported(kind)
    paths = draw(tmp_path)
    normal = tmp_path / "normal"
    normal.mkdir()
    for path in paths[:SHOTS]:
        (normal / path.name).write_bytes(path.read_bytes())
    with open_source(normal) as source:
        engine = open_engine(bundle)
        options = EnrolOptions(shots=SHOTS, object_name="part")
        done = enroll(source, bundle, engine, tmp_path / "bank", options)
        engine.close()
    frames = [next(open_source(path)) for path in paths[SHOTS:]]
    with Detector.open(bundle, Bank.open(done.bank.path, bundle), device="cpu") as detector:
        results = [each for start in range(0, TESTS, batch) for each in detector.detect(frames[start : start + batch])]
    maps, scores = expected(kind, model, bundle, paths)
    for result, raw_map, score in zip(results, maps.numpy(), scores.tolist(), strict=True):
        assert result.raw_map is not None
        np.testing.assert_allclose(result.raw_map, raw_map, atol=1e-4)
        assert result.text_score == pytest.approx(score, abs=1e-5)
        assert result.raw_score == pytest.approx(score + float(raw_map.max()), abs=2e-4)
