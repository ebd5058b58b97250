"""What a text tower makes of groups, against the same sentences one by one through the tower."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from edgevand.cli import main
from edgevand.errors import BadInputError
from edgevand.prompts import load_pack, word
from edgevand_export.text import embed_objects
from edgevand_export.wordings import embed_wording
from tests.export.models import save_weights, tiny_config, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "mine.json"
    record = {
        "normal_states": ["{}", "flawless {}"],
        "abnormal_states": ["broken {}"],
        "templates": ["a photo of a {}.", "the {}."],
        "logical": {
            "generic": {
                "loss": [
                    {"normal": "full {}", "abnormal": "empty {}"},
                    {"normal": "whole {}", "abnormal": "{} with a gap"},
                ]
            }
        },
    }
    path.write_text(json.dumps(record))
    return path


def test_groups_are_pooled_each_by_itself_as_sentences_one_by_one_say(pack: Path) -> None:
    model, tokenizer = tiny_model(tiny_config("vit")), SimpleTokenizer(context_length=77)
    opened = load_pack(pack)
    wording = word(opened, "tin", combine="per-group-max")
    states = embed_wording(model, tokenizer, [wording], opened.pooling)
    _, loss = (states.pooled(ensemble) for ensemble in wording.ensembles)

    def unit(sentence: str) -> NDArray[np.float64]:
        with torch.no_grad():
            vector = model.encode_text(tokenizer([sentence]))[0].double().numpy()
        return np.asarray(vector / np.linalg.norm(vector))

    for side, phrases in enumerate((("full tin", "whole tin"), ("empty tin", "tin with a gap"))):
        sentences = [[unit(f"a photo of a {phrase}."), unit(f"the {phrase}.")] for phrase in phrases]
        mean = np.mean([one for each in sentences for one in each], axis=0)
        assert loss.sides[side] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
        own = [np.mean(each, axis=0) / np.linalg.norm(np.mean(each, axis=0)) for each in sentences]
        assert (loss.normal, loss.abnormal)[side] == pytest.approx(np.stack(own), abs=1e-5)


def test_the_plain_states_are_what_the_bundle_s_own_text_is(pack: Path) -> None:
    model, tokenizer = tiny_model(tiny_config("vit")), SimpleTokenizer(context_length=77)
    opened = load_pack(pack)
    wording = word(opened, "tin", combine="per-group-max")
    structural = embed_wording(model, tokenizer, [wording], opened.pooling).pooled(wording.ensembles[0])
    assert structural.sides == pytest.approx(embed_objects(model, tokenizer, opened, ["tin"])["tin"], abs=1e-6)


def test_a_tower_that_is_damaged_is_refused(pack: Path) -> None:
    model = tiny_model(tiny_config("vit"))
    with torch.no_grad():
        model.token_embedding.weight.fill_(float("nan"))
    opened = load_pack(pack)
    with pytest.raises(BadInputError, match="expected finite text embeddings"):
        embed_wording(model, SimpleTokenizer(context_length=77), [word(opened, "tin")], opened.pooling)


def test_the_command_measures_every_model_that_is_named(
    pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config("vit")
    (tmp_path / "tiny.json").write_text(json.dumps(config))
    weights = [str(save_weights(tiny_model(config, seed=seed), tmp_path / f"{seed}.safetensors")) for seed in (1, 2)]
    models = [each for one in weights for each in ("--model", str(tmp_path / "tiny.json"), "--pretrained", one)]
    asked = ["prompts", "compile", str(pack), "--object", "tin", "--combine", "per-group-max", *models]
    assert main([*asked, "--json"]) == 0
    encoders = json.loads(capsys.readouterr().out)["encoders"]
    assert len(encoders) == 2
    for found in encoders.values():
        assert [group["name"] for group in found["groups"]] == ["structural", "loss"]
        for group in found["groups"]:
            assert group["swing"] == pytest.approx(100 * np.sqrt(2 - 2 * group["cosine"]), abs=1e-3)
    assert main(asked) == 0
    assert "text separation for 'tin'" in capsys.readouterr().out
