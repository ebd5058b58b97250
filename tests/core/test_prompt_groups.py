"""Groups of a pack: what each way of combining them says, held against the counts that the packs' file states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgevand.errors import BadInputError, UsageError
from edgevand.prompts import load_pack, word

SHIPPED = json.loads((Path(__file__).resolve().parents[2] / "edgevand" / "prompts.json").read_text())
LOCO = SHIPPED["loco"]
PAIR = {"normal": "full {}", "abnormal": "empty {}"}
FILE: dict[str, Any] = {
    "normal_states": ["{}"],
    "abnormal_states": ["broken {}"],
    "templates": ["a photo of a {}.", "the {}."],
    "logical": {
        "generic": {"loss": [{"normal": "complete {}", "abnormal": "incomplete {}"}]},
        "categories": {"tray": {"object_name": "tea tray", "constraints": ["six cups"], "loss": [PAIR]}},
    },
}


def write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "mine.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("category", list(LOCO["logical"]["categories"]))
def test_append_speaks_as_many_sentences_as_the_pack_states(category: str) -> None:
    wording = word(load_pack("loco"), category)
    (everything,) = wording.ensembles
    counts = LOCO["counts"]["prompts_per_side_appended"][category]
    assert len(wording.sentences(everything.normal)) == counts["normal"]
    assert len(wording.sentences(everything.abnormal)) == counts["abnormal"]
    assert wording.object_name == LOCO["logical"]["categories"][category]["object_name"]


def test_per_group_max_keeps_the_plain_states_and_each_group_apart() -> None:
    wording = word(load_pack("loco"), "pushpins", combine="per-group-max")
    assert [one.name for one in wording.ensembles] == ["structural", *LOCO["groups"]]
    structural, _, loss, *_ = wording.ensembles
    assert structural.abnormal == tuple(LOCO["abnormal_states"])
    pairs = [*LOCO["logical"]["generic"]["loss"], *LOCO["logical"]["categories"]["pushpins"]["loss"]]
    assert loss.normal == tuple(pair["normal"] for pair in pairs)
    assert loss.abnormal == tuple(pair["abnormal"] for pair in pairs)
    assert "a photo of a box of pushpins with a missing pin." in wording.sentences(loss.abnormal)


def test_an_object_without_pairs_of_its_own_has_the_generic_ones_and_is_told_so() -> None:
    wording = word(load_pack("loco"), "hazelnut")
    assert wording.category is None
    assert wording.object_name == "hazelnut"
    assert wording.told == ("the pack loco has no pairs for 'hazelnut' alone; the generic ones are used",)
    (everything,) = wording.ensembles
    assert len(everything.normal) == len(LOCO["normal_states"]) + LOCO["counts"]["generic_pairs"]


def test_a_category_that_was_named_must_have_pairs() -> None:
    with pytest.raises(UsageError, match=r"breakfast_box, juice_bottle.*found 'hazelnut'.*leave --category out"):
        word(load_pack("loco"), "hazelnut", category="hazelnut")


def test_a_category_can_be_named_for_an_object_that_is_called_otherwise() -> None:
    assert word(load_pack("loco"), "board 7", category="pushpins").object_name == "box of pushpins"
    assert word(load_pack("loco"), "box of pushpins").category == "pushpins"


def test_a_pack_without_groups_has_nothing_to_keep_apart() -> None:
    with pytest.raises(UsageError, match="expected a pack with groups for --combine per-group-max, found april-gan"):
        word(load_pack("april-gan"), "part", combine="per-group-max")
    assert word(load_pack("april-gan"), "part").told == ()


def test_domain_templates_join_the_pack_s_own_and_replace_them_where_the_pack_has_its_kinds() -> None:
    plain, domain = len(LOCO["templates"]), SHIPPED["anovl"]["templates_by_kind"]
    loco, anovl = load_pack("loco"), load_pack("anovl")
    assert word(loco, "tile", domain="auto").templates == (*LOCO["templates"], *domain["texture"])
    assert word(loco, "pill", domain="auto").templates[plain:] == tuple(domain["object"])
    assert word(anovl, "pill", domain="texture").templates == tuple(domain["texture"])
    assert word(anovl, "pill").templates == tuple(SHIPPED["anovl"]["templates"])


def test_a_file_with_groups_is_read_and_written_back(tmp_path: Path) -> None:
    pack = load_pack(write(tmp_path, FILE))
    assert word(pack, "tray").sentences(["empty {}"]) == ["a photo of a empty tea tray.", "the empty tea tray."]
    (tmp_path / "other.json").write_text(json.dumps(pack.to_json()))
    assert load_pack(tmp_path / "other.json") == pack


@pytest.mark.parametrize("name", list(SHIPPED))
def test_every_shipped_pack_survives_being_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "pack.json").write_text(json.dumps(load_pack(name).to_json()))
    assert load_pack(tmp_path / "pack.json") == load_pack(name)


@pytest.mark.parametrize(
    ("group", "sentence"),
    [
        ([{"normal": "full {}"}, {"normal": "whole {}"}], "the group loss of .*found only normal ones"),
        ([{"normal": "full {}", "abnormal": ""}], "found only normal ones, which tell nothing apart"),
        ([{"abnormal": "empty {}"}], "found only abnormal ones"),
        ([PAIR, {"normal": "whole {}"}], "as abnormal in each pair of the group loss .*found None"),
        ([{"normal": "full", "abnormal": "empty {}"}], r"exactly one \{\} as normal .*found 'full'"),
        ([{"normal": "full {}", "abnormal": "full {}"}], r"found 'full \{\}' twice"),
        ([], "expected a list of pairs"),
        (["full {}"], "expected a list of pairs"),
        ({"normal": ["full {}"]}, "expected a list of pairs"),
    ],
)
def test_a_group_that_tells_nothing_apart_is_one_sentence(group: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=sentence):
        load_pack(write(tmp_path, {**FILE, "logical": {"generic": {"loss": group}}}))
    with pytest.raises(BadInputError, match=sentence.replace("the group loss of ", "the group loss of tray of ")):
        load_pack(write(tmp_path, {**FILE, "logical": {"categories": {"tray": {"loss": group}}}}))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"abnormal_states": ["{}", "broken {}"]}, r"each state on one side .*found '\{\}' on both"),
        ({"logical": []}, "expected an object as logical .*found a list"),
        ({"logical": {"generic": {"structural": [PAIR]}}}, "another name for the group structural"),
        ({"logical": {"categories": {"tray": {"object_name": " ", "loss": [PAIR]}}}}, "a name in object_name of tray"),
        ({"templates_by_kind": {"object": []}}, "expected a list of object"),
    ],
)
def test_a_file_that_is_no_pack_with_groups_is_one_sentence(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match=sentence):
        load_pack(write(tmp_path, {**FILE, **change}))
