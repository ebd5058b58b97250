"""``edgevand score`` as a person types it: what goes where, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import cv2
import pytest

from edgevand.bundle import Bundle
from edgevand.cli import main
from edgevand.home import remember
from edgevand_runtime.result_file import read_results
from tests.tiny import enrol_tiny, write_parts, write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    bundle = write_tiny_bundle(folder / "bundle")
    enrol_tiny(bundle, folder / "bank")
    return folder


@pytest.fixture
def options(models: Path) -> list[str]:
    return ["--bundle", str(models / "bundle"), "--bank", str(models / "bank")]


def score(*arguments: object) -> int:
    return main(["score", *map(str, arguments)])


def test_without_output_each_frame_is_a_line_on_standard_output_and_words_go_elsewhere(
    options: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = write_parts(tmp_path / "parts", ".x.")
    assert score(*options, *paths[:1], "-q", "-o", "-") == 0
    assert json.loads(capfd.readouterr().out)["frame"] == 0
    assert score(*options, *paths) == 0
    out, err = capfd.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    assert [line["source"] for line in found] == [str(path) for path in paths]
    assert all(line["schema"] == "edgevand.result/1" for line in found)
    assert "3 frames scored, 1 anomalous" in err


def test_with_json_standard_output_is_one_document_with_the_results_and_a_summary(
    options: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_parts(tmp_path / "parts", ".x?")
    assert score(*options, tmp_path / "parts", "--json", "--output", tmp_path / "r.jsonl") == 2
    document = json.loads(capfd.readouterr().out)
    assert document["schema"] == "edgevand.score/1"
    assert document["results"] == list(read_results(tmp_path / "r.jsonl"))
    assert {"frames": 2, "anomalous": 1, "failed": 1, "held": 0}.items() <= document["summary"].items()


def test_quiet_says_nothing_but_errors(options: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_parts(tmp_path / "parts", ".")
    assert score(*options, tmp_path / "parts", "-q", "-o", tmp_path / "r.jsonl") == 0
    assert capfd.readouterr() == ("", "")
    write_parts(tmp_path / "parts", ".?")
    assert score(*options, tmp_path / "parts", "-q", "-o", tmp_path / "r.jsonl") == 2
    assert capfd.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("kinds", "code"), [("..", 0), (".x", 1), (".x?", 2)])
def test_fail_on_anomaly_ends_with_one_and_an_unreadable_frame_with_two(
    options: list[str], tmp_path: Path, kinds: str, code: int
) -> None:
    write_parts(tmp_path / "parts", kinds)
    assert score(*options, tmp_path / "parts", "--fail-on-anomaly", "-o", tmp_path / "r.jsonl") == code
    assert len(list(read_results(tmp_path / "r.jsonl"))) == len(kinds)


def test_fail_on_anomaly_without_anything_that_decides_is_wrong_use(
    models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bank = enrol_tiny(Bundle.open(models / "bundle"), tmp_path / "bank", shots=2).path
    (path,) = write_parts(tmp_path / "parts", "x")
    arguments = ["--bundle", models / "bundle", "--bank", bank, path, "--fail-on-anomaly"]
    assert score(*arguments) == 2
    assert "--threshold" in capfd.readouterr().err
    assert score(*arguments, "--threshold", "0.001") == 1
    (line,) = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert (line["calibration"], line["anomalous"]) == ("manual", True)


def test_resume_scores_what_the_output_lacks_tries_failed_frames_again_and_repairs_a_torn_line(
    options: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "r.jsonl"
    write_parts(tmp_path / "parts", "..?xx")
    assert score(*options, tmp_path / "parts", "-o", output) == 2
    lines = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(b"".join(lines[:4]) + lines[4][:-40])
    write_parts(tmp_path / "parts", "...xx")
    capfd.readouterr()
    assert score(*options, tmp_path / "parts", "-o", output, "--resume") == 0
    assert "2 frames scored, 3 held already, 2 anomalous" in capfd.readouterr().err
    found = list(read_results(output))
    assert [line["frame"] for line in found] == [0, 1, 3, 2, 4]
    assert output.read_bytes().startswith(b"".join([*lines[:2], lines[3]]))
    assert score(*options, tmp_path / "parts", "-o", output, "--resume", "--fail-on-anomaly") == 1
    assert list(read_results(output)) == found


def test_resume_with_json_reports_the_held_results_too(
    options: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_parts(tmp_path / "parts", "..")
    assert score(*options, tmp_path / "parts" / "000.png", "-o", tmp_path / "r.jsonl") == 0
    capfd.readouterr()
    assert score(*options, tmp_path / "parts", "-o", tmp_path / "r.jsonl", "--resume", "--json") == 0
    assert [line["frame"] for line in json.loads(capfd.readouterr().out)["results"]] == [0, 1]


def test_resume_needs_an_output_of_the_same_bundle_and_bank(
    options: list[str], models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (path,) = write_parts(tmp_path / "parts", ".")
    assert score(*options, path, "--resume") == 2
    assert "--output" in capfd.readouterr().err
    assert score(*options, path, "-o", tmp_path / "r.jsonl") == 0
    other = enrol_tiny(Bundle.open(models / "bundle"), tmp_path / "other", shots=4).path
    before = (tmp_path / "r.jsonl").read_bytes()
    arguments = ["--bundle", models / "bundle", "--bank", other, path, "-o", tmp_path / "r.jsonl", "--resume"]
    assert score(*arguments) == 2
    assert "leave out --resume" in capfd.readouterr().err
    assert (tmp_path / "r.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda path: None, "does not"),
        (lambda path: path.mkdir(), "image"),
        (lambda path: (path.mkdir(), (path / "a.txt").write_text("x")), "image"),
    ],
    ids=["missing", "empty folder", "folder without image"],
)
def test_a_source_that_is_none_is_one_sentence_and_no_output(
    options: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], make: Any, word: str
) -> None:
    make(tmp_path / "source")
    assert score(*options, tmp_path / "source", "-o", tmp_path / "r.jsonl") == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert word in err
    assert not (tmp_path / "r.jsonl").exists()


def test_no_source_and_an_output_that_cannot_be_written_are_one_sentence_each(
    options: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert score(*options) == 2
    assert "at least one image" in capfd.readouterr().err
    (path,) = write_parts(tmp_path / "parts", ".")
    for option in ("--output", "--maps", "--overlays", "--explain"):
        assert score(*options, path, option, path / "x") == 2
        assert capfd.readouterr().err.count("\n") == 1


def test_a_full_disk_is_one_sentence(options: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (path,) = write_parts(tmp_path / "parts", ".")
    assert score(*options, path, "--output", "/dev/full") == 2
    err = capfd.readouterr().err
    assert "disk is full" in err
    assert err.count("\n") == 1


def test_a_bank_finds_its_own_bundle_and_without_either_the_newest_bank_is_used(
    models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = write_tiny_bundle(tmp_path / "newer", seed=5)
    remember("bundle", models / "bundle")
    (path,) = write_parts(tmp_path / "parts", "x")
    for arguments in (["--bank", models / "bank"], []):
        remember("bank", models / "bank")
        assert score(*arguments, path) == 0
        (line,) = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        assert line["bank"] is not None
        assert line["bundle"] == Bundle.open(models / "bundle").hash != bundle.hash


def test_a_bundle_alone_scores_without_a_bank(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", heads=True, objects=["bottle"])
    remember("bank", enrol_tiny(bundle, tmp_path / "bank").path)
    (path,) = write_parts(tmp_path / "parts", "x")
    assert score("--bundle", bundle.path, "--object", "bottle", path) == 0
    (line,) = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert (line["bank"], line["score"], line["anomalous"], line["calibration"]) == (None, None, None, "none")
    assert line["raw_score"] == line["text_score"]


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edgevand", "score", *map(str, arguments)]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_ctrl_c_leaves_whole_lines_and_whole_maps_and_resume_goes_on_from_there(
    options: list[str], tmp_path: Path
) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (128, 96))
    image = cv2.imread(str(write_parts(tmp_path / "parts", ".")[0]))
    assert image is not None
    for _ in range(3000):
        writer.write(image)
    writer.release()
    output, maps = tmp_path / "r.jsonl", tmp_path / "maps"
    command = _command(*options, tmp_path / "clip.avi", "-o", output, "--maps", maps)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=_environment())
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (output.exists() and output.stat().st_size > 5000):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "--resume goes on from there" in err
    found = list(read_results(output))
    assert [line["frame"] for line in found] == list(range(len(found)))
    assert 0 < len(found) < 3000
    assert all((maps / f"clip-{line['frame']:06d}.npy").stat().st_size > 4096 for line in found)
    assert not [path for path in maps.iterdir() if path.name.startswith(".")]


def test_a_reader_that_goes_away_ends_the_run_without_a_word(options: list[str], tmp_path: Path) -> None:
    write_parts(tmp_path / "parts", "." * 30)
    command = _command(*options, tmp_path / "parts", "-q")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment())
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["frame"] == 0
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(60) == 141
