"""``edgevand train`` as it is typed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from edgevand.cli import main
from edgevand_export.heads import read_heads
from tests.export.training.workshop import Workshop, draw_dataset

if TYPE_CHECKING:
    from pathlib import Path


def arguments(workshop: Workshop, output: Path, *more: str) -> list[str]:
    """A command line that takes a second."""
    model = ["--model", str(workshop.models / "vit.json"), "--pretrained", str(workshop.models / "vit.safetensors")]
    data = ["--data", str(workshop.data), "--prompts", str(workshop.prompts), "--set", "batch=8"]
    return ["train", *model, *data, "-o", str(output), *more]


def test_people_are_told_the_file_and_what_each_epoch_cost(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(workshop, tmp_path / "run")) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'run' / 'heads.safetensors'}\n"
    assert "epoch 3: mean loss" in captured.err
    assert "6 steps on 14 pictures of 2 classes" in captured.err


def test_machines_are_told_everything_in_one_document(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--json", "-q", "--image-size", "40", "--stages", "2,4", "--classes", "disc", "--set", "epochs=2"]
    assert main(arguments(workshop, tmp_path / "run", *more)) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert captured.err == ""
    assert document["schema"] == "edgevand.train/1"
    assert document["encoder"]["image_size"] == 40
    assert document["data"]["classes"] == {"disc": 7}
    assert (document["steps"], len(document["epochs"]), document["unreadable"]) == (2, 2, [])
    assert read_heads(tmp_path / "run" / "heads.safetensors").stages == (2, 4)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--set", "lrr=1"], "did you mean lr?"),
        (["--classes", "cable"], "found 'cable'"),
        (["--classes", ","], "expected --classes as names"),
        (["--stages", "2,x"], "expected stages (1-based; null: four equal groups)"),
        (["--image-size", "41"], "multiple of the tower's 8 px patches"),
        (["--device", "tpu"], "expected --device auto, cpu, cuda or cuda:N"),
        (["--model", "ViT-L"], "expected an open_clip model name"),
        (["--prompts", "clip"], "expected a prompt pack"),
        (["--dataset", "loco"], "expected"),
    ],
)
def test_wrong_usage_is_one_sentence_and_writes_nothing(
    more: list[str], sentence: str, workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(workshop, tmp_path / "run", *more)) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.out == ""
    assert not (tmp_path / "run").exists()


def test_a_picture_that_cannot_be_read_makes_the_exit_code_2_and_the_heads_are_there(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_dataset(tmp_path / "data")
    (tmp_path / "data" / "disc" / "test" / "good" / "000.png").write_bytes(b"GIF89a")
    assert main(arguments(workshop, tmp_path / "run", "--data", str(tmp_path / "data"))) == 2
    captured = capsys.readouterr()
    assert "1 could not be read and were not trained on" in captured.err
    assert (tmp_path / "run" / "heads.safetensors").is_file()


def test_interrupting_says_how_to_go_on(workshop: Workshop, tmp_path: Path) -> None:
    output = tmp_path / "run"
    command = [sys.executable, "-m", "edgevand", *arguments(workshop, output, "--set", "epochs=100000")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    log = output / "log.csv"
    while started.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") > 5):
        time.sleep(0.05)
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert f"go on with `edgevand train --resume -o {output}`" in err
    assert (output / "checkpoint.safetensors").is_file()
    assert not (output / "heads.safetensors").exists()


def test_the_package_that_is_missing_is_named(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(arguments(workshop, tmp_path / "run")) == 3
    assert "expected the package torch for training, found none" in capsys.readouterr().err


def test_resume_goes_on_from_the_command_line(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(workshop, tmp_path / "run", "-q")) == 0
    (tmp_path / "run" / "heads.safetensors").unlink()
    shutil.copytree(tmp_path / "run", tmp_path / "moved")
    assert main(["train", "--resume", "-o", str(tmp_path / "moved")]) == 0
    assert "goes on after step 6 of 6" in capsys.readouterr().err
    assert (tmp_path / "moved" / "heads.safetensors").is_file()
