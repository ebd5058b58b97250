"""docs/adding-a-method.md, followed word for word."""

from __future__ import annotations

import importlib.util
import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from edgevand.bank import Bank
from edgevand.cli import main
from edgevand_runtime.methods import METHODS, MethodKind
from edgevand_runtime.preprocess import load_image, to_tensor
from tests.tiny import GRID, SIZE, write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand.bundle import Bundle

MOST_LINES = 60


@pytest.fixture
def kind(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MethodKind:
    """The page's module, imported, and its line in the table."""
    page = (repository / "docs" / "adding-a-method.md").read_text(encoding="utf-8")
    source = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    assert len(source.splitlines()) < MOST_LINES
    path = tmp_path / "place_mean.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("place_mean", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.PLACE_MEAN
    assert isinstance(found, MethodKind)
    monkeypatch.setitem(METHODS, found.name, found)
    return found


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A dataset of the layout ``folder``: six good parts to train, two good ones and two with a dark corner to test."""
    random = np.random.default_rng(5)
    root = tmp_path / "parts"
    for name, count, bad in (("train/good", 6, False), ("test/good", 2, False), ("test/dark", 2, True)):
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture = np.full((SIZE, SIZE, 3), 140.0) + 40 * np.sin(np.arange(SIZE) / 3)[:, None, None]
            picture += random.normal(0, 4, picture.shape)
            if bad:
                picture[-8:, -8:] = 20
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(root / name / f"{number}.png")
    return root


def tokens_of(bundle: Bundle, picture: Path) -> NDArray[np.float64]:
    """Patch tokens by ONNX Runtime alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(bundle.graph_path)
    tensor = to_tensor(load_image(picture), bundle.manifest.image)[None]
    found: NDArray[np.float64] = session.run(["tokens_1"], {"image": tensor})[0][0].astype(np.float64)
    return found


def test_the_five_commands_of_the_page_work_and_the_score_is_the_formula_of_its_first_line(
    kind: MethodKind, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    bank, results = tmp_path / "bank", tmp_path / "results.jsonl"
    assert main(["methods", "show", kind.name]) == 0
    assert "--set stage=0" in capsys.readouterr().out
    enrol = ["enroll", "--method", kind.name, "--source", str(parts / "train/good"), "--shots", "6"]
    assert main([*enrol, "--bundle", str(bundle.path), "-o", str(bank)]) == 0
    record = Bank.open(bank, bundle).record
    assert (record.method, record.settings) == (kind.name, {"stage": 0})
    files = sorted((parts / "test").rglob("*.png"))
    assert main(["score", "--bundle", str(bundle.path), "--bank", str(bank), *map(str, files), "-o", str(results)]) == 0
    found = [json.loads(line) for line in results.read_text().splitlines()]
    mean = np.mean([tokens_of(bundle, path) for path in sorted((parts / "train/good").glob("*.png"))], axis=0)
    for line, path in zip(found, files, strict=True):
        distances = torch.from_numpy(np.linalg.norm(tokens_of(bundle, path) - mean, axis=1)).reshape(1, 1, GRID, GRID)
        enlarged = functional.interpolate(distances, (SIZE, SIZE), mode="bilinear", align_corners=True)
        assert line["raw_score"] == pytest.approx(float(enlarged.max()), abs=1e-5)
        assert line["anomalous"] == ("dark" in str(path))
        assert line["method"] == kind.name
    watched = ["monitor", "--bundle", str(bundle.path), "--bank", str(bank), "--source", str(parts / "train/good")]
    assert main([*watched, "--max-frames", "3"]) == 0
    judged = ["evaluate", "--method", kind.name, "--bundle", str(bundle.path), "--data", str(parts), "--shots", "4"]
    assert main([*judged, "--dataset", "folder", "--seeds", "0", "--no-html", "-o", str(tmp_path / "report")]) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["method"] == kind.name
    assert report["rows"][0]["metrics"]["image_auroc"] == 1.0


def test_too_few_frames_and_a_wrong_option_are_told_in_one_sentence(
    kind: MethodKind, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    enrol = ["enroll", "--bundle", str(bundle.path), "--method", kind.name, "--source", str(parts / "train/good")]
    assert main([*enrol, "--shots", "1"]) == 2
    assert "expected at least 2 independent frames to enrol with place-mean, found 1" in capsys.readouterr().err
    assert main([*enrol, "--set", "stage=-1"]) == 2
    assert "expected --set stage of place-mean" in capsys.readouterr().err
    assert main([*enrol, "--set", "depth=1"]) == 2
    assert "an option of place-mean (stage), found 'depth=1'" in capsys.readouterr().err
