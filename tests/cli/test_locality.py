"""``--locality`` of enroll and evaluate, which is april-gan's option of that name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edgevand.bank import Bank
from edgevand.bundle import Bundle
from edgevand.cli import main
from tests.core.builders import make_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle", grid=8, heads=False, objects=()).path


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    """Six normal frames of a part that does not move, as a dataset's training split, and a test split."""
    scene = cv2.resize(np.random.default_rng(5).integers(0, 255, (8, 8, 3), np.uint8), (96, 96))
    for folder, seeds in (("train/good", range(6)), ("test/good", range(10, 12)), ("test/bad", range(20, 22))):
        (tmp_path / "data/part" / folder).mkdir(parents=True)
        for seed in seeds:
            noise = np.random.default_rng(seed).normal(0, 2, scene.shape)
            image = np.clip(scene + noise, 0, 255).astype(np.uint8)
            if "bad" in folder:
                image[30:50, 40:60] = image[70:90, 10:30]
                mask = np.zeros((96, 96), np.uint8)
                mask[30:50, 40:60] = 255
                (tmp_path / "data/part/ground_truth/bad").mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(tmp_path / f"data/part/ground_truth/bad/{seed:03d}_mask.png"), mask)
            cv2.imwrite(str(tmp_path / "data/part" / folder / f"{seed:03d}.png"), image)
    return tmp_path / "data"


def run(*arguments: object) -> int:
    return main([*map(str, arguments)])


def test_auto_says_at_enrolment_what_it_chose_and_why_and_the_bank_keeps_it(
    bundle: Path, fixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = fixed / "part/train/good"
    assert run("enroll", "--source", good, "--all", "--bundle", bundle, "--locality", "auto", "-o", tmp_path / "b") == 0
    assert "locality 1: the view is fixed, for " in capsys.readouterr().err
    assert Bank.open(tmp_path / "b", Bundle.open(bundle)).record.settings["locality"] == 1


def test_auto_is_told_in_json_too(
    bundle: Path, fixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = fixed / "part/train/good"
    arguments = ("enroll", "--source", good, "--shots", 3, "--bundle", bundle, "--set", "locality=auto", "--json")
    assert run(*arguments, "-o", tmp_path / "b") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["settings"]["locality"] == "off"
    assert document["decided"] == ["locality off: 3 independent frames cannot tell whether the view is fixed, 4 can."]


@pytest.mark.parametrize(("wish", "kept"), [("2", 2), ("off", "off"), ("0", 0)])
def test_a_radius_is_taken_at_its_word(bundle: Path, fixed: Path, tmp_path: Path, wish: str, kept: int | str) -> None:
    good = fixed / "part/train/good"
    assert run("enroll", "--source", good, "--all", "--bundle", bundle, "--locality", wish, "-o", tmp_path / "b") == 0
    assert Bank.open(tmp_path / "b", Bundle.open(bundle)).record.settings["locality"] == kept


@pytest.mark.parametrize("wish", ["near", "-1", "1.5"])
def test_another_word_is_refused(
    bundle: Path, fixed: Path, tmp_path: Path, wish: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good = fixed / "part/train/good"
    arguments = ("enroll", "--source", good, "--bundle", bundle, f"--locality={wish}", "-o", tmp_path / "b")
    assert run(*arguments) == 2
    assert "expected --set locality of april-gan" in capsys.readouterr().err


def test_appending_keeps_the_banks_own(
    bundle: Path, fixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = fixed / "part/train/good"
    assert run("enroll", "--source", good, "--all", "--bundle", bundle, "--locality", 1, "-o", tmp_path / "b") == 0
    arguments = ("enroll", "--append", "--source", fixed / "part/test/good", "--bank", tmp_path / "b")
    assert run(*arguments, "--bundle", bundle, "--locality", "off") == 2
    assert "found --locality beside it" in capsys.readouterr().err
    assert run(*arguments, "--bundle", bundle, "--shots", 2) == 0
    assert Bank.open(tmp_path / "b", Bundle.open(bundle)).record.settings["locality"] == 1


def test_evaluate_enrols_with_it(bundle: Path, fixed: Path, tmp_path: Path) -> None:
    common = ("evaluate", "--data", fixed, "--dataset", "mvtec", "--shots", "2,5", "--seeds", 0, "--bundle", bundle)
    scores = {}
    for wish in ("off", "auto", "1"):
        assert run(*common, "--no-html", "--locality", wish, "-o", tmp_path / wish) == 0
        report = json.loads((tmp_path / wish / "report.json").read_text())
        scores[wish] = [[each["raw_score"] for each in row["scores"]] for row in report["rows"]]
        told = [[sentence.split(":")[0] for sentence in row["decided"]] for row in report["rows"]]
        assert told == ([["locality off"], ["locality 1"]] if wish == "auto" else [[], []])
    assert scores["auto"][0] == scores["off"][0] != scores["1"][0]  # two frames decide nothing
    assert scores["auto"][1] == scores["1"][1] != scores["off"][1]
