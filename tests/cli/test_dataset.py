"""``edgevand dataset``: what people type and what they get."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from edgevand.cli import main

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: object) -> int:
    return main(["dataset", *map(str, arguments)])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "loco"
    assert run("make", "--layout", "loco", "-o", folder, "--images", 2, "--size", 48, "--seed", 1) == 0
    return folder


def test_what_was_made_is_checked_and_counted(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", made, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["layout"], document["faults"]) == ("edgevand.dataset/1", "loco", [])
    (board, plate) = document["classes"]
    assert (board["name"], plate["name"]) == ("circuit_board", "name_plate")
    counts = {key: board[key] for key in ("train", "validation", "good", "anomalous")}
    assert counts == {"train": 2, "validation": 1, "good": 1, "anomalous": 2}
    assert board["kinds"] == {"logical_anomalies": 1, "structural_anomalies": 1}
    assert document["images"] == 12
    assert run("check", made, "--classes", "name_plate", "--layout", "loco") == 0
    shown = capsys.readouterr().out
    assert "name_plate: logical_anomalies 1, structural_anomalies 1" in shown
    assert "circuit_board" not in shown


def test_make_prints_what_it_drew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("make", "--layout", "visa-prepared", "-o", tmp_path / "v", "--images", 1, "--size", 32) == 0
    told = capsys.readouterr()
    assert told.err == "drawing bottle_cap\ndrawing dial\ndrawing key\n"
    assert "layout visa" in told.out
    arguments = ("make", "--layout", "folder", "--images", 1, "--size", 32, "--classes", "washer")
    assert run(*arguments, "-o", tmp_path / "f", "--json") == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert json.loads(told.out)["classes"][0]["name"] == "f"
    assert run(*arguments, "-o", tmp_path / "q", "-q") == 0
    assert capsys.readouterr() == ("", "")


def test_every_fault_has_a_line_and_the_exit_code_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "d"
    assert run("make", "--layout", "mvtec", "-o", root, "--images", 2, "--size", 32, "-q") == 0
    (root / "gear/train/good/001.png").write_bytes(b"")
    (root / "fabric/train").rename(root / "fabric/trian")
    assert run("check", root) == 2
    told = capsys.readouterr()
    faults = [line for line in told.out.splitlines() if line.startswith("- ")]
    assert faults == [
        "- expected normal images in fabric/train/good, found no such folder; put them there",
        "- gear/train/good/001.png was expected to be an image but is empty (0 bytes): replace or remove it",
    ]
    assert told.err == f"edgevand: expected {root} to be a whole mvtec dataset, found 2 faults; mend them\n"
    assert run("check", root, "--headers-only", "--json") == 2
    told = capsys.readouterr()
    assert json.loads(told.out)["faults"] == [faults[0].removeprefix("- ")]
    assert "found 1 fault; mend them" in told.err


def test_what_is_no_dataset_is_told_as_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", tmp_path / "none", "--json") == 2
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert document["layout"] is None
    assert document["faults"] == [told.err.removeprefix("edgevand: ").rstrip("\n")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("make", "-o", "x"),
            "expected --layout with make, one of mvtec, visa, visa-prepared, loco, folder, found auto",
        ),
        (("make", "--layout", "mvtec"), "expected a place for the dataset, found none; give --output DIR"),
        (("make", "x", "--layout", "mvtec"), "expected no folder after make, found x; write -o x"),
        (
            ("make", "--layout", "mvtec", "-o", "x", "--headers-only"),
            "expected --headers-only with check, found it with",
        ),
        (("check",), "expected the folder of a dataset to check, found none; write `edgevand dataset check DIR`"),
        (
            ("check", "x", "--classes", ","),
            "expected names of classes after --classes, found none; leave it out for all",
        ),
        (("check", "x", "--seed", "1"), "expected --seed with make, found it with check; leave it out"),
        (("check", "x", "--output", "y"), "expected --output with make, found it with check; leave it out"),
        (("break", "x"), "'break' is not one of 'make', 'check'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    told = capsys.readouterr()
    assert sentence in told.err
    assert told.out == ""
    assert told.err.count("\n") == 1
