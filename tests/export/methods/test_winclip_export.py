"""winclip from a checkpoint to results: graph, text, enrolment, proofs, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgevand.cli import main
from edgevand.errors import BadInputError, UsageError
from edgevand.prompts import compile_prompts, load_pack
from edgevand_export.methods.preparing import prepare_bundle
from edgevand_export.weights import file_sha256
from edgevand_export.windows import make_windows
from tests.export.models import save_weights, tiny_config, tiny_model
from tests.tiny import write_parts, write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model, a bundle that says it was made from it, its weights, and that bundle prepared for winclip."""
    place = tmp_path_factory.mktemp("winclip")
    config = tiny_config("vit", layers=2)
    model = tiny_model(config)
    weights = save_weights(model, place / "weights.safetensors")
    base = write_tiny_bundle(place / "base")
    changed = {"config": config, "weights_sha256": file_sha256(weights)}
    for name in ("whole", "manifest"):
        manifest = getattr(base, name)
        setattr(base, name, manifest.model_copy(update={"model": manifest.model.model_copy(update=changed)}))
    return (
        model,
        base,
        weights,
        prepare_bundle(base, "winclip", ["image_size=48", "objects=part,metal nut"], [weights], place / "bundle"),
    )


def typed(*words: object) -> int:
    return main([str(word) for word in words])


@torch.no_grad()
def test_the_graphs_logits_are_a_hundred_times_the_difference_of_cosines_of_each_window(made: Any) -> None:
    model, _, _, bundle = made
    golden, image = bundle.golden(), bundle.manifest.image
    pictures = (golden["image"] / 255 - np.array(image.mean)) / np.array(image.std)
    tower = make_windows(model.visual, (48, 48))
    _, windows, patches = tower.module(torch.from_numpy(pictures).permute(0, 3, 1, 2).float())
    text = torch.from_numpy(golden["text"].copy())
    for index, found in enumerate(windows, start=1):
        cosines = functional.normalize(found, dim=-1) @ text.T
        wanted = 100 * (cosines[..., 1] - cosines[..., 0])
        np.testing.assert_allclose(golden[f"logits_{index}"].reshape(wanted.shape), wanted, atol=2e-4)
        np.testing.assert_allclose(golden[f"tokens_{index}"], functional.normalize(found, dim=-1), atol=1e-5)
    np.testing.assert_allclose(golden["tokens_3"], functional.normalize(patches, dim=-1), atol=1e-5)


@torch.no_grad()
def test_its_text_is_the_normalised_mean_of_the_raw_embeddings_of_its_pack(made: Any, tokenizer: Any) -> None:
    model, _, _, bundle = made
    assert set(bundle.own_tensors()) == {"text_part", "text_metal nut"}
    for row, sentences in zip(
        bundle.own_tensors()["text_part"], compile_prompts(load_pack("winclip"), "part"), strict=True
    ):
        mean = model.encode_text(tokenizer(list(sentences))).mean(dim=0)
        np.testing.assert_allclose(row, functional.normalize(mean, dim=0), atol=1e-5)


def test_it_is_enrolled_scored_and_verified_by_the_usual_commands(made: Any, tmp_path: Path) -> None:
    bundle = made[3]
    parts = tmp_path / "parts"
    write_parts(parts, "......x")
    bank, few, none = tmp_path / "bank", tmp_path / "few.jsonl", tmp_path / "none.jsonl"
    taken = ("--source", parts, "-k", 6, "--object", "part")
    assert typed("enroll", "--bundle", bundle.path, *taken, "--set", "terms=reference", "-o", bank) == 0
    assert typed("score", "--bundle", bundle.path, "--bank", bank, parts, "--output", few) == 0
    assert typed("score", "--bundle", bundle.path, "--object", "metal nut", parts, "--output", none) == 0
    lines = [json.loads(line) for line in few.read_text().splitlines()]
    scores = [line["raw_score"] for line in lines]
    assert {line["method"] for line in lines} == {"winclip"}
    assert max(scores) == scores[-1]  # the defective one
    bare = [json.loads(line) for line in none.read_text().splitlines()]
    assert all(line["text_score"] == line["raw_score"] for line in bare)
    assert typed("verify", bundle.path) == 0


def test_weights_of_another_model_are_refused(made: Any, tmp_path: Path) -> None:
    _, base, weights, _ = made
    other = save_weights(torch.nn.Linear(2, 2), tmp_path / "other.safetensors")
    with pytest.raises(BadInputError, match=r"expected the weights that the bundle .* was made from"):
        prepare_bundle(base, "winclip", (), [other], tmp_path / "bundle")
    with pytest.raises(UsageError, match=r"expected one --weights for winclip, .*found 2"):
        prepare_bundle(base, "winclip", (), [weights, other], tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
