"""CLIPSeg's graph against transformers' own model, module by module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch.nn import functional
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from edgevand.errors import BadInputError
from edgevand_export.segmenters.clipseg import ClipSegGraph, harmonic_mean, open_clipseg, published_config, resized
from tests.export.segmenters.tiny_models import clipseg_model, save_model

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 64
SENTENCES = ["a tear", "some damage", "a missing component", "an error"]


@pytest.fixture(params=[False, True], ids=["rd64", "refined"])
def original(request: pytest.FixtureRequest) -> Any:
    return clipseg_model(refined=request.param).double()


@pytest.fixture
def conditions() -> torch.Tensor:
    return torch.randn(5, 20, generator=torch.Generator().manual_seed(2)).double()


@pytest.fixture
def tiles() -> torch.Tensor:
    return torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3)).double()


@torch.no_grad()
def test_every_module_gives_what_transformers_gives(
    original: Any, conditions: torch.Tensor, tiles: torch.Tensor
) -> None:
    graph = ClipSegGraph(original, conditions, SIDE).eval()
    embedding, activations = graph.encode(tiles)
    seen = original.clip.get_image_features(tiles, output_hidden_states=True)
    torch.testing.assert_close(embedding, seen.pooler_output, atol=1e-5, rtol=0)
    for index, found in zip(original.extract_layers, activations, strict=True):
        torch.testing.assert_close(found, seen.hidden_states[index + 1], atol=1e-5, rtol=0)
    logits = graph.decode(activations)
    for prompt, condition in enumerate(conditions):
        wanted = original(pixel_values=tiles, conditional_embeddings=condition.expand(len(tiles), -1)).logits
        torch.testing.assert_close(logits[:, prompt], wanted, atol=1e-5, rtol=0)
    unit, maps = graph(tiles)
    torch.testing.assert_close(unit, functional.normalize(seen.pooler_output, dim=-1), atol=1e-5, rtol=0)
    wanted = len(conditions) / sum(1 / logits[:, j].sigmoid().clamp_min(1e-6) for j in range(len(conditions)))
    torch.testing.assert_close(maps, wanted, atol=1e-5, rtol=0)


def test_the_harmonic_mean_counts_the_smallest_as_a_millionth() -> None:
    values = torch.tensor([[[0.5]], [[0.25]], [[1.0]]]).permute(1, 0, 2)
    torch.testing.assert_close(harmonic_mean(values), torch.tensor([[3 / (2 + 4 + 1)]]))
    torch.testing.assert_close(harmonic_mean(torch.zeros(1, 4, 2)), torch.full((1, 2), 1e-6))


def test_the_positional_table_is_resized_as_the_library_resizes_it() -> None:
    model = clipseg_model(refined=False)
    embeddings = model.clip.vision_model.embeddings
    patches = torch.zeros(1, 1 + (SIDE // 8) ** 2, 32)
    wanted = embeddings.interpolate_pos_encoding(patches, SIDE, SIDE)[0]
    torch.testing.assert_close(resized(embeddings.position_embedding.weight, SIDE // 8), wanted, atol=1e-6, rtol=0)


@torch.no_grad()
def test_sentences_get_the_librarys_embeddings_though_their_padding_is_cut_off(tmp_path: Path) -> None:
    model = clipseg_model(refined=False)
    loaded = open_clipseg(save_model(model, tmp_path / "clipseg"))
    ids = SimpleTokenizer(context_length=77)(SENTENCES)
    wanted = model.clip.get_text_features(ids).pooler_output
    torch.testing.assert_close(loaded.embed(ids), wanted, atol=1e-5, rtol=0)


@torch.no_grad()
def test_weights_are_read_from_a_directory_or_a_file_and_give_the_same_model(tmp_path: Path) -> None:
    model = clipseg_model(refined=True)
    folder = save_model(model, tmp_path / "clipseg")
    torch.save(model.state_dict(), folder / "other.bin")
    tiles = torch.randn(1, 3, SIDE, SIDE).double()
    condition = torch.randn(1, 20).double()
    wanted = model.double()(pixel_values=tiles, conditional_embeddings=condition).logits
    for path in (folder, folder / "model.safetensors", folder / "other.bin"):
        found = open_clipseg(path).module.double()(pixel_values=tiles, conditional_embeddings=condition).logits
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("refined", [False, True])
def test_a_published_file_alone_tells_its_model(refined: bool) -> None:  # noqa: FBT001 - a parameter
    """ViT-B/16 at 224 px with 197 positions, as published; unallocated, for its size."""
    vision = {"patch_size": 16, "image_size": 224}
    config = CLIPSegConfig(vision_config=vision, use_complex_transposed_convolution=refined)
    with torch.device("meta"):
        state = CLIPSegForImageSegmentation(config).state_dict()
        again = CLIPSegForImageSegmentation(CLIPSegConfig(**published_config(state))).state_dict()
    assert {name: each.shape for name, each in again.items()} == {name: each.shape for name, each in state.items()}
    assert state["clip.vision_model.embeddings.position_embedding.weight"].shape == (197, 768)


def test_weights_of_another_architecture_are_refused_in_one_sentence(tmp_path: Path) -> None:
    folder = save_model(clipseg_model(refined=True), tmp_path / "clipseg")
    (folder / "config.json").unlink()  # then it is taken for a published model, which is larger
    with pytest.raises(BadInputError, match=r"expected the weights of CLIPSeg in .*, found .*; give the file"):
        open_clipseg(folder)
    with pytest.raises(BadInputError, match="no such file"):
        open_clipseg(tmp_path)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "else.pt")
    with pytest.raises(BadInputError, match=r"found no tensor decoder\.film_mul"):
        open_clipseg(tmp_path / "else.pt")
    torch.save(np.zeros(2), tmp_path / "pickle.pt")
    with pytest.raises(BadInputError, match="weights only"):
        open_clipseg(tmp_path / "pickle.pt")
