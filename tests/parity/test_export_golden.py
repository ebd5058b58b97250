"""Export, seen from the reference: its text embeddings, and open_clip's own tokens of the golden model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("open_clip", reason="exporting needs the extra edgevand[export]")

import onnxruntime
import torch
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file

from edgevand.prompts import load_pack
from edgevand_export.activation import choose_activation, trained_activation
from edgevand_export.graph import EncoderGraph, to_onnx
from edgevand_export.heads import check_heads, read_heads
from edgevand_export.loading import build_model
from edgevand_export.storage import save_graph
from edgevand_export.text import embed_objects
from edgevand_export.towers import make_tower
from edgevand_export.weights import find_model

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "april-gan"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
STAGES = tuple(EXPECTED["stages"])
SIZE = (EXPECTED["image_size"],) * 2


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    with np.load(GOLDEN / "expected.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def model() -> Any:
    """The golden model, built by open_clip alone."""
    config = json.loads((GOLDEN / "golden-vit.json").read_text())
    built = CLIP(**config)
    built.load_state_dict({name: each.float() for name, each in load_file(GOLDEN / "clip.safetensors").items()})
    return built.eval()


def test_the_golden_model_is_found_read_and_run_with_plain_gelu() -> None:
    files = find_model(str(GOLDEN / "golden-vit.json"), str(GOLDEN / "clip.safetensors"))
    heads = read_heads(GOLDEN / "heads.pth")
    trained = trained_activation(files)
    assert choose_activation("auto", heads, trained=trained, openai=False, resized=False) == "gelu"


@pytest.mark.parametrize("name", EXPECTED["objects"])
def test_text_embeddings_are_the_references(name: str, arrays: dict[str, Any]) -> None:
    config = json.loads((GOLDEN / "golden-vit.json").read_text())
    built = build_model(config, GOLDEN / "clip.safetensors", quick_gelu=False)
    text = embed_objects(built, SimpleTokenizer(), load_pack("april-gan"), [name])[name]
    np.testing.assert_allclose(text.T, arrays[f"text_{name.replace(' ', '_')}"], atol=1e-5)


@torch.no_grad()
def test_the_graphs_tokens_and_maps_are_open_clips_and_the_references(
    model: Any, arrays: dict[str, Any], tmp_path: Path
) -> None:
    """The reference's pixels through the exported graph: tokens of open_clip, zero-shot maps of the reference."""
    images = torch.from_numpy(np.stack([arrays[f"test_{number}_pixels"] for number in range(4)]))
    reference = model.visual.forward_intermediates(images, indices=[s - 1 for s in STAGES], output_fmt="NLC")
    tower = make_tower(model.visual, SIZE, STAGES)
    heads = check_heads(read_heads(GOLDEN / "heads.pth"), tower, 48)
    save_graph(to_onnx(EncoderGraph(tower, heads).eval(), SIZE, 48), tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])
    feeds = {"image": images.numpy(), "text": np.ascontiguousarray(arrays["text_bottle"].T)}
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, map(torch.from_numpy, session.run(names, feeds)), strict=True))
    for stage, wanted in zip(STAGES, reference["image_intermediates"], strict=True):
        unit = torch.nn.functional.normalize(wanted, dim=-1)
        torch.testing.assert_close(found[f"tokens_{stage}"], unit, rtol=0, atol=1e-5)
    logits = torch.stack([found[f"logits_{stage}"] for stage in STAGES], dim=1)
    enlarged = torch.nn.functional.interpolate(logits, size=SIZE, mode="bilinear", align_corners=True)
    maps = enlarged.sigmoid().sum(dim=1).numpy()
    for number in range(4):
        np.testing.assert_allclose(maps[number], arrays[f"test_{number}_zero_shot_map"], atol=1e-4)
        text = torch.from_numpy(arrays["text_bottle"])
        score = (100 * found["embedding"][number] @ text).softmax(dim=0)[1]
        assert float(score) == pytest.approx(EXPECTED["tests"][f"test_{number}.png"]["zero_shot_score"], abs=1e-5)
