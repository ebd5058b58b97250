"""The demo's figures are those that the truth gives, counted again here by other means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from edgevand_runtime import demo
from edgevand_runtime.demo import run_demo
from edgevand_runtime.drawn.conveyor import ConveyorScene
from edgevand_runtime.engines import open_engine
from tests.tiny import write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from edgevand_runtime.results import Result

FRAMES = 40


def test_every_figure_is_what_results_and_truth_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The results are taken from the recorder; image and pixel AUROC are scikit-learn's, the counts plain loops."""
    recorders: list[demo._Recorder] = []
    original = demo._Recorder.__init__

    def remember(self: demo._Recorder, *arguments: object, **named: object) -> None:
        original(self, *arguments, **named)  # type: ignore[arg-type]
        recorders.append(self)

    monkeypatch.setattr(demo._Recorder, "__init__", remember)
    bundle = write_tiny_bundle(tmp_path / "bundle")
    told: list[int] = []
    report = run_demo(bundle, open_engine(bundle, threads=1), tmp_path / "demo", frames=FRAMES, told=told.append)
    results = recorders[0].results
    assert told == list(range(1, FRAMES + 1))
    assert [one.frame for one in results] == list(range(20, 20 + FRAMES))

    scene = ConveyorScene(seed=0)
    truths = {index: scene.frame(index)[1] for index in range(20, 20 + FRAMES)}
    labels = [truths[one.frame] is not None for one in results]
    assert report["defective"] == sum(labels) > 0
    assert report["image_auroc"] == pytest.approx(roc_auc_score(labels, [one.raw_score for one in results]), abs=1e-4)
    assert report["pixel_auroc"] == pytest.approx(_pixel_auroc(results, truths), abs=0.01)

    caught = sum(label and bool(one.anomalous) for label, one in zip(labels, results, strict=True))
    assert (report["caught"], report["missed"]) == (caught, sum(labels) - caught)
    assert sum(kind["caught"] for kind in report["kinds"].values()) == caught
    assert sum(kind["of"] for kind in report["kinds"].values()) == sum(labels)
    runs = _runs([bool(one.anomalous) for one in results])
    assert report["events"] == len(runs)
    assert report["false_alarms"] == sum(not any(labels[i] for i in run) for run in runs)


def test_the_picture_is_written_and_holds_six_frames(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    report = run_demo(bundle, open_engine(bundle, threads=1), tmp_path / "demo", frames=10, seed=3)
    picture = cv2.imread(report["picture"])
    assert picture is not None
    assert picture.shape[0] > 700
    assert picture.shape[1] > 1200
    again = run_demo(bundle, open_engine(bundle, threads=1), tmp_path / "demo", frames=1, seed=3)
    assert again["image_auroc"] is None, "one part is of one class: the area is not defined and not guessed"


def _pixel_auroc(results: list[Result], truths: dict[int, np.ndarray | None]) -> float:
    """Over every fourth pixel of maps enlarged to the frame, which needs no rule for shrinking the truth."""
    labels, values = [], []
    for one in results:
        truth = truths[one.frame]
        assert one.raw_map is not None
        enlarged = cv2.resize(one.raw_map, (640, 480), interpolation=cv2.INTER_LINEAR)
        values.append(enlarged[::4, ::4].ravel())
        labels.append((np.zeros((480, 640)) if truth is None else truth)[::4, ::4].ravel() > 0)
    return float(roc_auc_score(np.concatenate(labels), np.concatenate(values)))


def _runs(over: list[bool]) -> list[list[int]]:
    runs: list[list[int]] = []
    for index, value in enumerate(over):
        if value and (index == 0 or not over[index - 1]):
            runs.append([])
        if value:
            runs[-1].append(index)
    return runs
