"""Methods with a graph of their own: exported, certified, enrolled, verified; and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from edgevand.bundle import Bundle, ImageRecord, MapRecord, MethodRecord
from edgevand.cli import main
from edgevand.errors import FormatError, GateError, OutputError, UsageError
from edgevand.tensors import write_tensors
from edgevand_export.methods import EXPORTERS
from edgevand_export.methods.own_graph import write_own_graph
from edgevand_export.methods.preparing import prepare_bundle
from edgevand_export.parity import run_graph
from edgevand_runtime.methods import METHODS
from edgevand_runtime.methods.base import Method, MethodKind, RawScore, Settings
from tests.tiny import write_tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edgevand_runtime.engines import EncoderOutput

SIDE = 16
IMAGE = ImageRecord(height=SIDE, width=SIDE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


class Brightness(nn.Module):
    """Mean of the channels in cells of 4 x 4 pixels."""

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(image.mean(dim=1, keepdim=True), 4).squeeze(1)


class BrightSettings(Settings):
    """Options."""

    offset: float = Field(default=2.0, gt=0, description="added to every value")


class Bright(Method):
    """The brightest cell."""

    def score(self, outputs: EncoderOutput) -> list[RawScore]:
        offset = self.opening.settings.offset + float(self.opening.own["extra"][0])
        maps = [np.repeat(np.repeat(found, 4, axis=0), 4, axis=1) + offset for found in outputs.maps["bright"]]
        return [RawScore(None, each.astype(np.float32), float(each.max()), float(each.max())) for each in maps]

    def leave_out(self, groups: Sequence[int]) -> list[RawScore]:
        del groups  # nothing of a frame is in what scores it
        features = self.opening.features or {}
        from edgevand_runtime.engines import EncoderOutput

        kept = np.stack([np.asarray(each) for each in features["map_bright"]])
        return self.score(EncoderOutput(np.empty((len(kept), 0), np.float32), (), (), {"bright": kept}))


def bright_exporter(
    base: Bundle, settings: dict[str, Any], weights: tuple[Path, ...], folder: Path, report: Callable[[str], None]
) -> MethodRecord:
    del base, weights
    report("a graph that sees brightness")
    graph = write_own_graph(Brightness(), folder, "bright", IMAGE, maps=[MapRecord(name="bright", grid=(4, 4))])
    write_tensors(folder / "bright.safetensors", {"extra": np.array([0.5], np.float32)})
    return MethodRecord(name="bright", settings=settings, graph=graph, tensors="bright.safetensors")


@pytest.fixture(autouse=True)
def bright(monkeypatch: pytest.MonkeyPatch) -> MethodKind:
    kind = MethodKind("bright", "sees brightness", BrightSettings, Bright, prepared=True)
    monkeypatch.setitem(METHODS, "bright", kind)
    monkeypatch.setitem(EXPORTERS, "bright", bright_exporter)
    return kind


@pytest.fixture
def base(tmp_path: Path) -> Bundle:
    return write_tiny_bundle(tmp_path / "base")


def test_a_prepared_bundle_keeps_the_encoder_and_shows_each_method_its_own_graph(base: Bundle, tmp_path: Path) -> None:
    bundle = prepare_bundle(base, "bright", ["offset=3"], output=tmp_path / "new")
    assert bundle.whole.method == "bright"
    assert bundle.whole.graph == base.whole.graph
    assert bundle.manifest.graph.file == "bright.onnx"
    assert (bundle.manifest.stages, bundle.manifest.embedding_dim) == ((), 0)
    assert bundle.manifest.settings == {"offset": 3.0}
    other = bundle.as_method("april-gan")
    assert (other.hash, other.manifest.graph.file, other.manifest.stages) == (
        bundle.hash,
        "encoder.onnx",
        base.manifest.stages,
    )
    own = bundle.prepared_for("bright")
    assert own is not None
    assert own.graph is not None
    assert own.graph.parity.batches == (1, 2, 4)
    assert own.graph.parity.map_max_abs < 1e-5
    assert not list(tmp_path.glob(".*staging*"))
    Bundle.open(bundle.path)  # every hash


def test_enrol_score_and_verify_run_the_own_graph(
    base: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    bundle = prepare_bundle(base, "bright", output=tmp_path / "new")
    good = tmp_path / "good"
    good.mkdir()
    for number, level in enumerate((90, 100, 110, 120, 130)):
        pixels = np.random.default_rng(number).integers(level - 30, level + 30, (64, 64, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(good / f"{number}.png")
    bank = tmp_path / "bank"
    assert main(["enroll", "--bundle", str(bundle.path), "--source", str(good), "-k", "5", "-o", str(bank)]) == 0
    capsys.readouterr()
    assert main(["score", "--bank", str(bank), "--bundle", str(bundle.path), str(good / "4.png")]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    shown = torch.from_numpy(np.array(Image.open(good / "4.png").resize((SIDE, SIDE), Image.Resampling.BICUBIC)))
    cells = nn.functional.avg_pool2d(((shown.float() / 255 - 0.5) / 0.25).mean(dim=2)[None], 4)
    assert json.loads(line)["raw_score"] == pytest.approx(float(cells.max()) + 2.5, abs=1e-5)
    assert main(["verify", str(bundle.path), "--json"]) == 0
    engines = json.loads(capsys.readouterr().out)["engines"]
    assert [each["graph"] for each in engines] == ["encoder.onnx", "bright.onnx"]
    assert [check["name"] for check in engines[1]["checks"]] == ["map_bright"]


def test_a_graph_that_does_not_compute_what_torch_computes_is_refused_and_nothing_stays(
    base: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = run_graph

    def off(path: Path, images: Any, text: Any) -> Any:
        return {
            batch: {name: each + 0.1 for name, each in found.items()}
            for batch, found in true(path, images, text).items()
        }

    monkeypatch.setattr("edgevand_export.methods.own_graph.run_graph", off)
    with pytest.raises(GateError, match="output map_bright"):
        prepare_bundle(base, "bright", output=tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base"]


def test_what_does_not_fit_is_told_in_one_sentence(base: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected --set offset of bright"):
        prepare_bundle(base, "bright", ["offset=-1"], output=tmp_path / "new")
    with pytest.raises(UsageError, match="needs the encoder alone"):
        prepare_bundle(base, "april-gan", weights=[tmp_path / "w"], output=tmp_path / "new")
    prepare_bundle(base, "bright", output=tmp_path / "new")
    with pytest.raises(OutputError, match="already there"):
        prepare_bundle(base, "bright", output=tmp_path / "new")
    with pytest.raises(FormatError, match=r"file bright\.onnx in files"):
        _without(Bundle.open(tmp_path / "new"), "bright.onnx")


def test_a_bundle_that_was_not_prepared_is_refused_before_the_source_is_opened(
    base: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["enroll", "--bundle", str(base.path), "--method", "bright", "--source", "/nowhere"]) == 2
    assert "expected a bundle prepared for bright" in capsys.readouterr().err


def test_frames_are_required_where_a_method_is_trained_on_them(
    base: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "-o", str(tmp_path / "run"), "--bundle", str(base.path), "--method"]
    assert main([*train, "bright"]) == 2
    assert "expected --source of good frames or --bank, found neither" in capsys.readouterr().err
    assert main([*train, "bright", "--source", "test://conveyor", "-k", "2"]) == 2
    assert "which is not trained so" in capsys.readouterr().err


def _without(bundle: Bundle, name: str) -> None:
    """The manifest without one of its files."""
    path = bundle.path / "manifest.json"
    document = json.loads(path.read_text())
    del document["files"][name]
    path.write_text(json.dumps(document))
    Bundle.open(bundle.path)
