from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgevand.errors import BadInputError, UsageError
from edgevand.prompts import compile_prompts, load_pack, pack_names

SHIPPED = json.loads((Path(__file__).resolve().parents[2] / "edgevand" / "prompts.json").read_text())
PACK = {"normal_states": ["{}"], "abnormal_states": ["broken {}"], "templates": ["a photo of a {}."]}


@pytest.mark.parametrize("name", pack_names())
def test_every_pack_compiles_to_the_number_of_sentences_that_it_states(name: str) -> None:
    normal, abnormal = compile_prompts(load_pack(name), "part")
    counts = SHIPPED[name]["counts"]
    assert (len(normal), len(abnormal)) == (counts["normal_prompts"], counts["abnormal_prompts"])
    assert load_pack(name).pooling == SHIPPED[name]["pooling"]["rule"]


def test_sentences_put_the_object_into_the_state_and_the_state_into_the_template_name_as_written() -> None:
    normal, abnormal = compile_prompts(load_pack("april-gan"), "metal_nut")
    assert normal[0] == "a bad photo of a metal_nut."
    assert normal[35] == "a bad photo of a flawless metal_nut."
    assert abnormal[-1] == "this is one metal_nut with damage in the scene."


def test_a_name_with_braces_stays_as_it_is() -> None:
    assert compile_prompts(load_pack("april-gan"), "{}")[0][0] == "a bad photo of a {}."


def write(folder: Path, content: Any) -> Path:
    path = folder / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_prompts_file_is_read_and_written_back(tmp_path: Path) -> None:
    pack = load_pack(write(tmp_path, {**PACK, "pooling": {"rule": "mean-similarity"}}))
    assert (pack.name, pack.pooling, pack.abnormal_states) == ("mine", "mean-similarity", ("broken {}",))
    (tmp_path / "other.json").write_text(json.dumps(pack.to_json()))
    assert load_pack(tmp_path / "other.json") == pack


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "expected JSON in the prompts file"),
        ("[1]", "found a list"),
        ({**PACK, "abnormal_states": []}, "expected a list of abnormal_states"),
        ({"normal_states": ["{}"], "templates": ["{}"]}, "expected a list of abnormal_states"),
        ({**PACK, "templates": ["a photo."]}, "exactly one {} in each of templates of .*found 'a photo.'"),
        ({**PACK, "templates": ["{} and {}"]}, "exactly one {}"),
        ({**PACK, "normal_states": [3]}, "found 3"),
        ({**PACK, "pooling": {"rule": "median"}}, "expected the pooling rule .*found 'median'"),
    ],
)
def test_a_prompts_file_that_cannot_be_used_is_one_sentence(content: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=sentence):
        load_pack(write(tmp_path, content))


def test_a_pack_that_does_not_exist_is_told_with_those_that_do() -> None:
    with pytest.raises(UsageError, match=r"april-gan, winclip, anovl, vvv, loco.*found 'april'"):
        load_pack("april")


def test_an_object_needs_a_name() -> None:
    with pytest.raises(UsageError, match=r"name of an object"):
        compile_prompts(load_pack("april-gan"), " ")
