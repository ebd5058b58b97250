"""Folds, held-out maps, and what becomes of a training that is killed, stopped or runs away."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgevand.errors import BadInputError, GateError, OutputError
from edgevand.tensors import read_tensors
from edgevand_export.methods import folds
from edgevand_export.methods.folds import split
from edgevand_runtime.stop import Stop
from tests.export.methods.trainings import SETTINGS, run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

METHODS = list(SETTINGS)


class KilledError(Exception):
    """Stands for kill -9: nothing is tidied up."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, frames: Sequence[Any], resnet18: Path) -> dict[str, Path]:
    """A training of each method that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs")
    done = {method: run(method, frames, resnet18, folder / method) for method in METHODS}
    return {method: path for method, path in done.items() if path is not None}


def test_folds_are_blocks_of_neighbours() -> None:
    assert split(8, 4) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert split(5, 4) == [[0, 1], [2], [3], [4]]
    assert split(4, 20) == [[0], [1], [2], [3]]


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_training_goes_on_to_the_same_bytes(
    method: str,
    whole: dict[str, Path],
    frames: Sequence[Any],
    resnet18: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(folds, "CHECKPOINT_SECONDS", 0.0)
    steps = 0
    usual = folds._Progress._tell

    def killed(self: Any, *rest: Any) -> None:
        nonlocal steps
        steps += 1
        if steps % 9 == 0:
            raise KilledError
        usual(self, *rest)

    monkeypatch.setattr(folds._Progress, "_tell", killed)
    path, times = None, 0
    while path is None:
        times += 1
        try:
            path = run(method, frames, resnet18, tmp_path / "run", resume=times > 1)
        except KilledError:
            assert not (tmp_path / "run" / f"{method}.safetensors").exists()
    assert times > 2
    assert path.read_bytes() == whole[method].read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_a_training_that_is_asked_to_stop_leaves_what_it_goes_on_from(
    method: str, whole: dict[str, Path], frames: Sequence[Any], resnet18: Path, tmp_path: Path
) -> None:
    stop = Stop()

    def told(line: str) -> None:
        if line.startswith("fold 2 of 4"):
            stop.why = "interrupted"

    assert run(method, frames, resnet18, tmp_path / "run", report=told, stop=stop) is None
    assert sorted(each.name for each in (tmp_path / "run").iterdir()) == ["checkpoint.safetensors", "config.json"]
    lines: list[str] = []
    path = run(method, frames, resnet18, tmp_path / "run", report=lines.append, resume=True)
    assert any(line.startswith("goes on with fold 3 of 4 after step 1") for line in lines)
    assert path is not None
    assert path.read_bytes() == whole[method].read_bytes()


def test_cost_and_time_are_told_before_the_most_is_done(frames: Sequence[Any], resnet18: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    run("simplenet", frames, resnet18, tmp_path / "run", report=lines.append)
    told = next(number for number, line in enumerate(lines) if line.startswith("about "))
    # 2 passes over 3 or 4 frames, 2 a step, four times, and over 5; the first four steps lie behind
    assert " for 18 steps of " in lines[told]
    assert "4 fold models" in lines[told]
    assert told <= 2


def test_held_out_maps_are_those_of_a_model_without_the_frames(
    whole: dict[str, Path], frames: Sequence[Any], resnet18: Path, tmp_path: Path
) -> None:
    changed = list(frames)
    changed[2] = np.ascontiguousarray(frames[2][::-1])
    path = run("simplenet", changed, resnet18, tmp_path / "run", folds=5, passes=1)
    before = run("simplenet", frames, resnet18, tmp_path / "other", folds=5, passes=1)
    assert path is not None
    assert before is not None
    first, second = (read_tensors(each)["held.anomaly"] for each in (before, path))
    same = [np.array_equal(a, b) for a, b in zip(first, second, strict=True)]
    assert not any(
        same
    )  # each other fold's model was trained on the frame that changed, and it is another frame itself
    assert np.array_equal(read_tensors(before)["views"][[0, 1, 3, 4]], read_tensors(path)["views"][[0, 1, 3, 4]])
    # with the changed frame alone in its fold, that fold's model is the same: its map is of the frame, not of the model
    changed[2] = frames[2]
    third = run("simplenet", changed, resnet18, tmp_path / "third", folds=5, passes=1)
    assert third is not None
    np.testing.assert_array_equal(read_tensors(third)["held.anomaly"], first)


def test_the_record_names_every_frame_and_its_held_out_score(whole: dict[str, Path], frames: Sequence[Any]) -> None:
    for method, path in whole.items():
        record = json.loads(path.with_suffix(".json").read_text())
        assert len(set(record["run"]["frames"])) == len(record["scores"]) == len(frames)
        assert min(record["scores"]) > 0
        tensors = read_tensors(path)
        if method == "simplenet":
            wanted = np.log1p(np.exp(tensors["held.anomaly"].max(axis=(1, 2))))
        else:
            pairs = [(name, tensors[f"held.{name}"].astype(np.float64)) for name in ("local", "global")]
            for name, each in pairs:
                assert record["statistics"][f"{name} mean"] == pytest.approx(each.mean(), rel=1e-5)
            wanted = sum(each / each.std() for _, each in pairs).max(axis=(1, 2))
        np.testing.assert_allclose(record["scores"], wanted, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_that_is_not_finite_is_told_in_a_sentence_and_breaks_nothing(
    method: str, frames: Sequence[Any], resnet18: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folds, "CHECKPOINT_SECONDS", 0.0)
    usual = folds._Progress._tell

    def poisoned(self: Any, model: int, number: int, loss: float) -> None:
        usual(self, model, number, loss)
        if number == 2:
            next(iter(poisoned_nets[-1].module.parameters())).data.fill_(float("nan"))

    poisoned_nets: list[Any] = []
    restored = folds._Progress.train

    def watched(self: Any, model: int, trainee: Any, done: int, stop: Stop) -> bool:
        poisoned_nets.append(trainee)
        return restored(self, model, trainee, done, stop)

    monkeypatch.setattr(folds._Progress, "_tell", poisoned)
    monkeypatch.setattr(folds._Progress, "train", watched)
    with pytest.raises(GateError, match=r"expected (a finite loss in step 3|finite weights) of fold 1 of 4, found"):
        run(method, frames, resnet18, tmp_path / "run")
    assert sorted(each.name for each in (tmp_path / "run").iterdir()) == ["checkpoint.safetensors", "config.json"]


@pytest.mark.parametrize("method", METHODS)
def test_too_few_frames_are_refused_before_anything_is_made(
    method: str, frames: Sequence[Any], resnet18: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match=f"expected at least 4 frames of good parts to train {method}, found 3"):
        run(method, frames[:3], resnet18, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_resumed_only_as_what_it_was(whole: dict[str, Path], frames: Sequence[Any], resnet18: Path) -> None:
    folder = whole["simplenet"].parent
    with pytest.raises(BadInputError, match=r"with the option noise 0\.015, found 0\.02"):
        run("simplenet", frames, resnet18, folder, resume=True, noise=0.02)
    with pytest.raises(BadInputError, match="with the frames 5 with the hash"):
        run("simplenet", frames[:4], resnet18, folder, resume=True)
    with pytest.raises(BadInputError, match="with method simplenet, found gcad"):
        run("gcad", frames, resnet18, folder, resume=True)
    with pytest.raises(OutputError, match="add --resume"):
        run("simplenet", frames, resnet18, folder)


def test_a_finished_training_that_is_resumed_gives_the_same_bytes(
    whole: dict[str, Path], frames: Sequence[Any], resnet18: Path
) -> None:
    before = whole["gcad"].read_bytes()
    assert run("gcad", frames, resnet18, whole["gcad"].parent, resume=True) == whole["gcad"]
    assert whole["gcad"].read_bytes() == before


def test_a_checkpoint_of_another_run_is_refused(
    whole: dict[str, Path], frames: Sequence[Any], resnet18: Path, tmp_path: Path
) -> None:
    run("simplenet", frames, resnet18, tmp_path / "run", noise=0.02)
    (whole["simplenet"].parent / "checkpoint.safetensors").replace(tmp_path / "run" / "checkpoint.safetensors")
    with pytest.raises(BadInputError, match="expected the checkpoint of this training"):
        run("simplenet", frames, resnet18, tmp_path / "run", noise=0.02, resume=True)
