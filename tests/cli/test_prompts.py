"""``edgevand prompts``: what people type and what they get."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Any

import pytest

from edgevand.cli import main

if TYPE_CHECKING:
    from pathlib import Path

FILE = {
    "normal_states": ["{}"],
    "abnormal_states": ["broken {}"],
    "templates": ["a photo of a {}."],
    "logical": {"generic": {"loss": [{"normal": "full {}", "abnormal": "empty {}"}]}},
}


def run(*arguments: object) -> int:
    return main(["prompts", *map(str, arguments)])


def output(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert run(*arguments, "--json") == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(FILE))
    return path


def test_packs_are_listed_with_what_is_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    packs = {pack["name"]: pack for pack in output(capsys)["packs"]}
    assert packs["april-gan"]["normal_states"] == 7
    assert packs["loco"]["groups"] == {"misplacement": 4, "loss": 4, "redundancy": 4, "geometry": 5}
    assert run("list") == 0
    assert "pairs of their own for breakfast_box" in capsys.readouterr().out


def test_a_pack_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "loco") == 0
    shown = capsys.readouterr().out
    assert "  complete {}  |  incomplete {}" in shown
    assert "loss, pushpins (box of pushpins)" in shown
    assert output(capsys, "show", "vvv")["pack"]["pooling"] == {"rule": "mean-similarity"}


def test_a_file_of_one_s_own_is_checked(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", mine) == 0
    assert "1 normal and 1 abnormal states, 1 templates" in capsys.readouterr().out
    mine.write_text(json.dumps({**FILE, "logical": {"generic": {"loss": [{"normal": "full {}"}]}}}))
    assert run("check", mine) == 2
    assert "found only normal ones" in capsys.readouterr().err
    mine.write_text('{"cells": []}')
    assert run("check", mine) == 2
    assert "expected a list of normal_states" in capsys.readouterr().err
    assert run("check", "nowhere.json") == 2


def test_compiling_gives_every_sentence_by_group(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = output(capsys, "compile", mine, "--object", "tin", "--combine", "per-group-max")
    assert document["ensembles"] == {
        "structural": {"normal": ["a photo of a tin."], "abnormal": ["a photo of a broken tin."]},
        "loss": {"normal": ["a photo of a full tin."], "abnormal": ["a photo of a empty tin."]},
    }
    assert (document["category"], document["encoders"]) == (None, {})
    assert run("compile", mine, "--object", "tin") == 0
    told = capsys.readouterr()
    assert "all, abnormal: 2 sentences" in told.out
    assert "no pairs for 'tin' alone" in told.err


def test_sentences_go_into_a_file(mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compile", mine, "--object", "tin", "-o", tmp_path / "out.json") == 0
    assert capsys.readouterr().out == ""
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["ensembles"]["all"]["normal"] == ["a photo of a tin.", "a photo of a full tin."]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show"], "expected a pack or a file after show, found none"),
        (["list", "loco"], "expected no pack after list, found loco"),
        (["compile", "loco"], "expected --object NAME with compile"),
        (["show", "loco", "--object", "tin"], "expected --object with compile, found it with show"),
        (["compile", "loco", "--object", "tin", "--category", "tin"], "expected a category that the pack loco has"),
        (["compile", "loco", "--object", "tin", "--pretrained", "x"], "expected --model or --bundle with --pretrained"),
        (
            ["compile", "loco", "--object", "tin", "--model", "RN50", "--pretrained", "a", "--pretrained", "b"],
            "1 in turn, found 2",
        ),
    ],
)
def test_what_does_not_go_together_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    assert sentence in capsys.readouterr().err


def test_measuring_without_torch_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))
    assert run("compile", "loco", "--object", "tin", "--model", "RN50") == 3
    assert "expected the package torch for measuring sentences" in capsys.readouterr().err
