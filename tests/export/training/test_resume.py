"""A run that was killed or interrupted goes on and ends with the same bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgevand.errors import BadInputError, FormatError, OutputError
from edgevand.tensors import read_tensor_file, tensor_bytes
from edgevand_export.training import state as state_module
from edgevand_export.training.run import train
from edgevand_runtime.stop import Stop
from tests.export.training.workshop import Silent, Workshop, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgevand_export.training.run import TrainOptions

KILLS = 10
RESULTS = ("heads.safetensors", "log.csv", "checkpoint.safetensors")


class Runner:
    """The forking process of ``runner``."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", "from tests.export.training.runner import main; main()"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment | path()
        )

    def run(self, options: TrainOptions, delay: float | None = None) -> tuple[int, float]:
        """Train, and kill ``delay`` seconds after the first step began; exit code and seconds of the steps."""
        fields = {name: getattr(options, name) for name in ("model", "pretrained", "prompts", "settings", "resume")}
        line = json.dumps({**fields, "output": str(options.output), "data": str(options.data)})
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        pid = int(self.answer())
        answer = self.answer()
        began = time.monotonic()
        if answer == "begin":
            if delay is not None:
                time.sleep(delay)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            answer = self.answer()
        return int(answer.removeprefix("end ")), time.monotonic() - began

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def path() -> dict[str, str]:
    """Where the runner finds this repository's packages."""
    return {"PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}


@pytest.fixture
def runner() -> Iterator[Runner]:
    started = Runner()
    yield started
    assert started.process.stdin is not None
    started.process.stdin.close()
    started.process.wait(30)


def results(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in RESULTS]


def test_a_run_killed_ten_times_ends_with_the_bytes_of_one_that_was_not(
    runner: Runner, workshop: Workshop, tmp_path: Path
) -> None:
    settings = ("epochs=12", "mosaic=0.3", "checkpoint_every=3", "lr=0.01")
    code, seconds = runner.run(workshop.options(tmp_path / "whole", *settings))
    assert code == 0
    shutil.rmtree(tmp_path / "cache")
    dice = random.Random(8)  # noqa: S311 - not for secrets
    options = dataclasses.replace(workshop.options(tmp_path / "killed", *settings), resume=True)
    kills = ends = 0
    reached = set()
    while kills < KILLS or not ends:
        code, _ = runner.run(options, dice.uniform(0, seconds / 4) if kills < KILLS else None)
        kills += code == -signal.SIGKILL
        if code == 0:
            assert results(tmp_path / "killed") == results(tmp_path / "whole")
            ends += 1
            if kills < KILLS:  # faster than before: once more from the start
                shutil.rmtree(tmp_path / "killed")
        else:
            assert code == -signal.SIGKILL
            checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
            reached.add(int(read_tensor_file(checkpoint).tensors["step"][0]) if checkpoint.exists() else 0)
    assert len(reached) > 3  # the kills fell on different parts of the run
    leavings = {each.name for each in (tmp_path / "killed").iterdir()} - {*RESULTS, "config.json"}
    assert all(name.endswith(".partial") for name in leavings)


@pytest.mark.parametrize("pictures", [1, 6, 14, 15, 30])
def test_an_interrupted_run_writes_a_checkpoint_and_goes_on(pictures: int, workshop: Workshop, tmp_path: Path) -> None:
    run(workshop.options(tmp_path / "whole"))
    stop = Stop()
    stopped = train(workshop.options(tmp_path / "stopped"), Silent(stop, pictures), stop=stop)
    assert not stopped.finished
    assert stopped.steps[0] == pictures // 14 * 4 + pictures % 14 // 4
    assert not (tmp_path / "stopped" / "heads.safetensors").exists()
    done = run(workshop.options(tmp_path / "stopped", resume=True))
    assert done.finished
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")


def test_resuming_needs_nothing_but_the_directory(workshop: Workshop, tmp_path: Path) -> None:
    from edgevand_export.training.prepare import TrainOptions

    run(workshop.options(tmp_path / "whole"))
    stop = Stop()
    train(workshop.options(tmp_path / "stopped"), Silent(stop, 10), stop=stop)
    run(TrainOptions(output=tmp_path / "stopped", resume=True))
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")


def test_a_finished_run_is_left_as_it_is(workshop: Workshop, tmp_path: Path) -> None:
    run(workshop.options(tmp_path / "run"))
    before = results(tmp_path / "run")
    watcher = Silent()
    done = train(workshop.options(tmp_path / "run", resume=True), watcher)
    assert (done.finished, watcher.steps) == (True, [])
    assert results(tmp_path / "run") == before


def test_what_changes_nothing_of_the_result_may_change(workshop: Workshop, tmp_path: Path) -> None:
    run(workshop.options(tmp_path / "whole"))
    stop = Stop()
    train(workshop.options(tmp_path / "stopped"), Silent(stop, 10), stop=stop)
    options = workshop.options(tmp_path / "stopped", "cache=off", "workers=1", "checkpoint_every=1", resume=True)
    run(options)
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"settings": ("lr=0.5",)}, r"with config.lr 0.001, found 0.5; give the same options"),
        ({"settings": ("epochs=9",)}, r"with config.epochs 3, found 9"),
        ({"settings": ("stages=1,2",)}, r"with encoder.stages \[1, 2, 3, 4\], found \[1, 2\]"),
        ({"activation": "quick-gelu"}, r"with encoder.activation gelu, found quick-gelu"),
        ({"prompts": "april-gan"}, r"with encoder.prompts prompts, found april-gan"),
        ({"classes": ("disc",)}, r"with data.classes "),
        ({"kind": "resnet"}, r"with encoder.name vit, found resnet"),
    ],
)
def test_a_run_is_not_resumed_as_another_one(
    changes: dict[str, Any], sentence: str, workshop: Workshop, tmp_path: Path
) -> None:
    run(workshop.options(tmp_path / "run"))
    before = results(tmp_path / "run")
    with pytest.raises(BadInputError, match=sentence):
        run(workshop.options(tmp_path / "run", **{"resume": True, **changes}))
    assert results(tmp_path / "run") == before


def test_a_checkpoint_of_another_architecture_is_told(workshop: Workshop, tmp_path: Path) -> None:
    run(workshop.options(tmp_path / "vit"))
    run(workshop.options(tmp_path / "resnet", kind="resnet"))
    shutil.copy(tmp_path / "resnet" / "checkpoint.safetensors", tmp_path / "vit" / "checkpoint.safetensors")
    sentence = r"heads \(1: 32 -> 24, 2: 32 -> 24.* found one of heads \(1: 32 -> 24, 2: 64 -> 24"
    with pytest.raises(BadInputError, match=sentence):
        run(workshop.options(tmp_path / "vit", resume=True))


def test_a_checkpoint_of_another_run_is_told(workshop: Workshop, tmp_path: Path) -> None:
    run(workshop.options(tmp_path / "one"))
    run(workshop.options(tmp_path / "other", "lr=0.5"))
    shutil.copy(tmp_path / "other" / "checkpoint.safetensors", tmp_path / "one" / "checkpoint.safetensors")
    with pytest.raises(BadInputError, match=r"expected the checkpoint of this training in .*, found that of another"):
        run(workshop.options(tmp_path / "one", resume=True))


def test_a_damaged_checkpoint_or_record_is_told(workshop: Workshop, tmp_path: Path) -> None:
    run(workshop.options(tmp_path / "run"))
    checkpoint, record = tmp_path / "run" / "checkpoint.safetensors", tmp_path / "run" / "config.json"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:-7])
    with pytest.raises(FormatError, match="is damaged"):
        run(workshop.options(tmp_path / "run", resume=True))
    tensors, metadata, _ = read_tensor_file(tmp_path / "run" / "heads.safetensors")
    checkpoint.write_bytes(tensor_bytes(tensors, metadata))
    with pytest.raises(BadInputError, match=r"of schema edgevand.training/1 in .*, found 'edgevand.heads/1'"):
        run(workshop.options(tmp_path / "run", resume=True))
    record.write_text("{}")
    with pytest.raises(FormatError, match=r"schema 'edgevand.run/1', found None; give another -o"):
        run(workshop.options(tmp_path / "run", resume=True))


def test_a_directory_that_is_there_is_left_alone(workshop: Workshop, tmp_path: Path) -> None:
    run(workshop.options(tmp_path / "run"))
    with pytest.raises(OutputError, match="found that something is there already; add --resume to go on with it"):
        run(workshop.options(tmp_path / "run"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "photo.png").write_bytes(b"")
    with pytest.raises(OutputError, match=r"found a directory without config.json; give another -o"):
        run(workshop.options(tmp_path / "other", resume=True))


def test_resuming_where_there_is_nothing_starts(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert run(workshop.options(tmp_path / "run", resume=True)).finished


def test_a_disk_that_fills_leaves_the_last_checkpoint_and_nothing_half_written(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(workshop.options(tmp_path / "whole", "cache=off"))
    written: list[int] = []
    original = os.fsync

    def full(descriptor: int) -> None:
        if b"training/1" in Path(f"/proc/self/fd/{descriptor}").read_bytes()[:9000]:
            written.append(1)
            if len(written) > 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: full(descriptor) if is_file(descriptor) else original(descriptor))
        with pytest.raises(OutputError, match=r"cannot write .*checkpoint.safetensors: the disk is full; free some"):
            run(workshop.options(tmp_path / "full", "cache=off"))
    assert {each.name for each in (tmp_path / "full").iterdir()} == {"config.json", "log.csv", "checkpoint.safetensors"}
    tensors, _, _ = read_tensor_file(tmp_path / "full" / "checkpoint.safetensors")
    np.testing.assert_array_equal(tensors["step"], [4, 4])
    run(workshop.options(tmp_path / "full", "cache=off", resume=True))
    assert results(tmp_path / "full") == results(tmp_path / "whole")
    assert state_module.CHECKPOINT_SCHEMA == "edgevand.training/1"


def is_file(descriptor: int) -> bool:
    return Path(f"/proc/self/fd/{descriptor}").is_file()
