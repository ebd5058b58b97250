from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgevand.cli import main
from edgevand.home import newest_bank
from tests.core.builders import make_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle", heads=False, objects=()).path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "good"
    folder.mkdir()
    for seed in range(6):
        cells = np.random.default_rng(seed).integers(90, 130, (12, 16, 3), np.uint8)
        Image.fromarray(cells).resize((160, 120), Image.Resampling.BICUBIC).save(folder / f"{seed}.png")
    return folder


def run(*arguments: object) -> int:
    return main(["enroll", *map(str, arguments)])


def test_enrolling_tells_each_frame_the_promise_and_where_the_bank_is(
    bundle: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--source", good, "--bundle", bundle, "--shots", 5) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "taken 5/5  frame 4 of 4.png" in err
    assert "94 more would prove 1.00%" in err
    bank = newest_bank()
    assert bank is not None
    assert str(bank) in err


def test_json_is_one_document_and_people_hear_only_that_the_engine_was_proved(
    bundle: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--source", good, "--bundle", bundle, "--all", "--json") == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["schema"] == "edgevand.enrolment/1"
    assert len(document["frames"]) == 6
    assert Path(document["contact_sheet"]).is_file()
    assert err.count("\n") == 1
    assert "proving" in err
    assert run("--source", good, "--bundle", bundle, "--all", "--json") == 0
    assert capsys.readouterr().err == ""


def test_enrolling_again_keeps_the_former_bank_and_undo_brings_it_back(
    bundle: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for shots in (4, 5):
        assert run("--source", good, "--bundle", bundle, "--shots", shots) == 0
    assert run("--undo", "--json") == 0
    out, _ = capsys.readouterr()
    assert json.loads(out)["version"] == 1
    bank = newest_bank()
    assert bank is not None
    assert len(json.loads((bank / "bank.json").read_text())["frames"]) == 4


def test_frames_are_appended_and_removed_by_the_number_of_the_contact_sheet(
    bundle: Path, good: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    (good / "5.png").rename(tmp_path / "more" / "5.png")
    assert run("--source", good, "--bundle", bundle, "--shots", 4) == 0
    assert run("--append", "--source", tmp_path / "more", "--shots", 1, "--bundle", bundle) == 0
    assert run("--remove", 2, "--bundle", bundle, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [frame["id"] for frame in document["frames"]] == [1, 3, 4, 5]
    assert document["version"] == 3


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["--source", "{good}", "--shots", "50"], "found only 6", 2),
        (["--source", "{good}", "--shots", "2", "--all"], "--shots or --all", 2),
        (["--source", "{good}", "--roi", "150,0,50,50", "--shots", "4"], "inside the frame of 160x120", 2),
        (["--source", "{good}", "--roi", "no-such-mask.png"], "x,y,w,h", 2),
        (["--source", "{good}", "--shots", "4", "--device", "cuda"], "--device cp", 3),
        (["--source", "{good}", "--shots", "4", "-o", "{good}"], "good", 2),
        (["--source", "no-such-folder"], "no-such-folder", 2),
        (["--camera", "97"], "97", 3),
        ([], "source of normal frames", 2),
        (["--append", "--undo"], "--append and --undo", 2),
        (["--append", "--roi", "0,0,5,5"], "--roi", 2),
        (["--undo"], "enroll", 2),
        (["--source", "{good}", "--false-alarm-rate", "2"], "--false-alarm-rate", 2),
        (["--source", "{good}", "--object", "bottle"], "no text embeddings", 2),
    ],
)
def test_wrong_usage_is_told_in_one_sentence_and_leaves_nothing(
    arguments: list[str], words: str, code: int, bundle: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(good.iterdir())
    filled = [argument.replace("{good}", str(good)) for argument in arguments]
    if "--undo" not in filled and "--append" not in filled:
        filled += ["--bundle", str(bundle)]
    assert run(*filled) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "Traceback" not in err
    assert newest_bank() is None
    assert sorted(good.iterdir()) == before
