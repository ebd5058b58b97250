from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from edgevand.errors import BadInputError
from edgevand.prompts import load_pack
from edgevand.text_files import read_text_file, write_text_file
from edgevand_export.text import embed_objects, embed_sentences, pool
from tests.export.models import TEXT, tiny_config, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

SENTENCES = ["a photo of a metal_nut.", "x", "a bad photo of the perfect bottle without any flaw at all, on a table."]


@pytest.mark.parametrize("custom_text", [False, True])
@torch.no_grad()
def test_sentences_cut_off_after_the_longest_give_what_encode_text_gives(custom_text: bool, tokenizer: Any) -> None:  # noqa: FBT001
    model = tiny_model(tiny_config("vit"), custom_text=custom_text)
    ids = tokenizer(SENTENCES)
    torch.testing.assert_close(embed_sentences(model, ids), model.encode_text(ids), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_text_tower_that_looks_both_ways_is_run_over_its_whole_context(tokenizer: Any) -> None:
    config = {**tiny_config("vit"), "text_cfg": {**TEXT, "no_causal_mask": True}}
    model = tiny_model(config, custom_text=True)
    ids = tokenizer(SENTENCES)
    torch.testing.assert_close(embed_sentences(model, ids), model.encode_text(ids))


def test_pooling_follows_the_rule_of_the_pack() -> None:
    embeddings = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    half = 0.5**0.5
    torch.testing.assert_close(pool(embeddings, "normalise-mean-normalise"), torch.tensor([half, half]))
    torch.testing.assert_close(pool(embeddings, "mean-raw-normalise"), torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(pool(embeddings, "mean-similarity"), torch.tensor([0.5, 0.5]))


def test_an_object_has_a_normal_and_an_abnormal_row_of_its_own_sentences(tokenizer: Any) -> None:
    model = tiny_model(tiny_config("vit"))
    pack = load_pack("april-gan")
    text = embed_objects(model, tokenizer, pack, ["metal_nut", "metal nut"])
    assert list(text) == ["metal_nut", "metal nut"]
    assert not np.allclose(text["metal_nut"], text["metal nut"])
    with torch.no_grad():
        rows = torch.nn.functional.normalize(
            model.encode_text(
                tokenizer(
                    [
                        t.replace("{}", s.replace("{}", "metal_nut"))
                        for s in pack.abnormal_states
                        for t in pack.templates
                    ]
                )
            ),
            dim=-1,
        )
    wanted = torch.nn.functional.normalize(rows.mean(dim=0), dim=0)
    np.testing.assert_allclose(text["metal_nut"][1], wanted.numpy(), atol=1e-6)


def test_weights_that_give_no_numbers_are_refused(tokenizer: Any) -> None:
    model = tiny_model(tiny_config("vit"))
    model.text_projection.data[0, 0] = float("nan")
    with pytest.raises(BadInputError, match=r"finite text embeddings for 'part'"):
        embed_objects(model, tokenizer, load_pack("april-gan"), ["part"])


def test_a_pack_that_pools_by_mean_similarity_can_be_stored(tokenizer: Any, tmp_path: Path) -> None:
    """The length of its vectors is part of its meaning: the mean of cosines is the product with the mean itself."""
    text = embed_objects(tiny_model(tiny_config("vit")), tokenizer, load_pack("vvv"), ["part"])
    write_text_file(tmp_path / "t", text, pack="vvv", weights_sha256="0" * 64, activation="gelu")
    stored = read_text_file(tmp_path / "t").objects["part"]
    np.testing.assert_array_equal(stored, text["part"])
    assert np.all(np.linalg.norm(stored, axis=1) < 0.9999)
