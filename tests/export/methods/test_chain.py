"""The whole chain as a person types it: train, export, enrol, score, monitor, evaluate; and what is refused."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch

from edgevand.bank import Bank
from edgevand.bundle import Bundle
from edgevand.cli import main
from edgevand.tensors import read_tensors
from edgevand_export.methods import folds
from edgevand_export.methods.backbones import Backbone
from edgevand_export.methods.frames import View, pictures
from edgevand_export.methods.simplenet import STRIDES, Aggregation, Trained
from edgevand_runtime.preprocess import load_image
from tests.export.methods.trainings import SETTINGS
from tests.tiny import draw_part, write_tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

METHODS = list(SETTINGS)


def typed(*words: object) -> int:
    return main([str(word) for word in words])


def options(method: str) -> list[str]:
    return [word for key, value in SETTINGS[method].items() for word in ("--set", f"{key}={json.dumps(value)}")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("base") / "bundle")


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, base: Bundle, folder: Path, resnet18: Path
) -> dict[str, tuple[Path, Path, Path]]:
    """By method: what the training wrote, the bundle, and a bank of the frames that it saw and of two that are new."""
    done: dict[str, tuple[Path, Path, Path]] = {}
    for method in METHODS:
        place = tmp_path_factory.mktemp(method)
        trained, bundle, bank = place / "run" / f"{method}.safetensors", place / "bundle", place / "bank"
        source = ("--source", folder, "-k", 5)
        under = done["simplenet"][1] if method == "gcad" else base.path  # a bundle may hold several methods
        train = ("train", "--method", method, "--bundle", base.path, *source, "--weights", resnet18, *options(method))
        assert typed(*train, "-o", place / "run") == 0
        assert typed("export", "--method", method, "--bundle", under, "--weights", trained, "-o", bundle) == 0
        assert typed("enroll", "--bundle", bundle, "--source", folder, "--all", "-o", bank) == 0
        done[method] = (trained, bundle, bank)
    return done


@pytest.mark.parametrize("method", METHODS)
def test_calibration_takes_held_out_scores_of_trained_frames_and_own_scores_of_new_ones(
    method: str, made: dict[str, tuple[Path, Path, Path]]
) -> None:
    trained, bundle, bank = made[method]
    record = json.loads(trained.with_suffix(".json").read_text())
    opened = Bank.open(bank, Bundle.open(bundle))
    scores = opened.record.calibration.scores
    assert len(scores) == 7
    np.testing.assert_allclose(scores[:5], record["scores"], rtol=1e-4)
    maps = {name.removeprefix("map_"): each for name, each in opened.features.items() if name.startswith("map_")}
    if method == "simplenet":
        own = np.log1p(np.exp(maps["anomaly"].max(axis=(1, 2))))
    else:
        deviations = opened.features["own_statistics"][:, 1]
        own = (maps["local"] / deviations[0] + maps["global"] / deviations[1]).max(axis=(1, 2))
    np.testing.assert_allclose(scores[5:], own[5:], rtol=1e-4)
    assert not np.allclose(scores[:5], own[:5], rtol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_defect_is_scored_monitored_and_the_graph_is_proved(
    method: str, made: dict[str, tuple[Path, Path, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, bundle, bank = made[method]
    for number in range(3):
        cv2.imwrite(
            str(tmp_path / f"{number}.png"), draw_part(60 + number, defective=number == 2) + np.uint8(4 * number)
        )
    capsys.readouterr()
    assert typed("score", "--bundle", bundle, "--bank", bank, tmp_path) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["method"] for line in lines] == [method] * 3
    assert lines[2]["raw_score"] > max(line["raw_score"] for line in lines[:2]) > 0
    assert (lines[2]["reason"] is None) == (method == "simplenet")
    monitor = ("monitor", "--bundle", bundle, "--bank", bank, "--source", tmp_path, "--max-frames", 3, "-q")
    assert typed(*monitor) == 0
    assert typed("verify", bundle) == 0


def test_the_exported_graph_of_simplenet_computes_what_the_trained_modules_compute(
    made: dict[str, tuple[Path, Path, Path]], folder: Path
) -> None:
    trained, path, _ = made["simplenet"]
    bundle = Bundle.open(path)
    state = {
        name.removeprefix("model."): torch.from_numpy(np.array(each)) for name, each in read_tensors(trained).items()
    }

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): each for name, each in state.items() if name.startswith(prefix)}

    backbone, network = Backbone("resnet18", STRIDES), Trained(12, 8).eval()
    backbone.load_state_dict(part("backbone."))
    network.load_state_dict(part("trained."))
    image = pictures([load_image(folder / "005.png")], bundle.manifest.image)
    with torch.no_grad():
        rows = Aggregation(backbone.widths, 12)(backbone(image)).flatten(2)[0].T
        wanted = -network.discriminator(network.adaptor(rows)).reshape(8, 8)
        view = View(bundle.manifest.image)(image)[0]
    import onnxruntime

    session = onnxruntime.InferenceSession(bundle.path / "simplenet.onnx", providers=["CPUExecutionProvider"])
    anomaly, seen = session.run(["map_anomaly", "map_view"], {"image": image.numpy()})
    np.testing.assert_allclose(anomaly[0], wanted, atol=1e-5)
    np.testing.assert_allclose(seen[0], view, atol=1e-5)
    grey = load_image(folder / "005.png").mean() / 255
    assert float(view.mean()) == pytest.approx(grey, abs=0.01)


def test_evaluation_knows_trained_methods(
    made: dict[str, tuple[Path, Path, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, numbers, defective in (("train/good", range(5), False), ("test/good", range(60, 63), False)):
        _write(tmp_path / "data" / name, numbers, defective=defective)
    _write(tmp_path / "data" / "test" / "square", range(70, 73), defective=True)
    words = ("evaluate", "--method", "simplenet", "--bundle", made["simplenet"][1], "--data", tmp_path / "data")
    assert typed(*words, "--shots", 5, "--seeds", 0, "--no-html", "-o", tmp_path / "report") == 0
    capsys.readouterr()
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert "simplenet" in json.dumps(report)


def _write(folder: Path, numbers: Sequence[int], *, defective: bool) -> None:
    folder.mkdir(parents=True)
    for number in numbers:
        cv2.imwrite(str(folder / f"{number:03d}.png"), draw_part(number, defective=defective))


def test_a_bank_of_another_method_is_refused_in_a_sentence(
    made: dict[str, tuple[Path, Path, Path]], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, bundle, _ = made["gcad"]
    _, _, bank = made["simplenet"]
    assert typed("score", "--bundle", bundle, "--bank", bank, folder) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "bundle" in line
    assert "found" in line


def test_weights_of_another_method_or_none_are_refused(
    made: dict[str, tuple[Path, Path, Path]],
    base: Bundle,
    resnet18: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for weights, found in (
        ((made["gcad-self"][0],), "found one of gcad-self; give the gcad.safetensors that edgevand train"),
        ((resnet18,), "found something else"),
        ((), "expected one file with --weights to export gcad, found 0"),
    ):
        capsys.readouterr()
        given = [word for each in weights for word in ("--weights", each)]
        assert typed("export", "--method", "gcad", "--bundle", base.path, *given, "-o", tmp_path / "new") == 2
        assert found in capsys.readouterr().err
        assert not (tmp_path / "new").exists()


def test_a_bundle_holds_several_trained_methods_over_one_tower(made: dict[str, tuple[Path, Path, Path]]) -> None:
    both = Bundle.open(made["gcad"][1])
    assert [record.name for record in both.whole.methods] == ["simplenet", "gcad"]
    assert [both.as_method(name).manifest.graph.file for name in ("april-gan", "simplenet", "gcad")] == [
        "encoder.onnx",
        "simplenet.onnx",
        "gcad.onnx",
    ]


def test_ctrl_c_ends_a_training_that_the_same_command_goes_on_with(
    base: Bundle,
    made: dict[str, tuple[Path, Path, Path]],
    folder: Path,
    resnet18: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    usual: Any = folds._Progress._tell

    def interrupted(self: Any, model: int, number: int, loss: float) -> None:
        usual(self, model, number, loss)
        if model == 2:
            os.kill(os.getpid(), signal.SIGINT)

    given = ("--bundle", base.path, "--source", folder, "-k", 5, "--weights", resnet18, *options("gcad"))
    words = ("train", "--method", "gcad", *given, "-o", tmp_path / "run")
    monkeypatch.setattr(folds._Progress, "_tell", interrupted)
    assert typed(*words) == 130
    assert "the same command with --resume goes on" in capsys.readouterr().err
    monkeypatch.setattr(folds._Progress, "_tell", usual)
    assert typed(*words, "--resume") == 0
    assert (tmp_path / "run" / "gcad.safetensors").read_bytes() == made["gcad"][0].read_bytes()
