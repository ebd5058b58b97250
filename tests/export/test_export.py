from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from edgevand.bundle import Bundle
from edgevand.cli import main
from edgevand.errors import BadInputError
from edgevand.home import home, newest_bundle, weights_dir
from edgevand.text_files import read_text_file
from edgevand_export import bundle_writer, storage
from edgevand_export.heads import Heads, write_heads
from tests.export.models import random_heads, save_weights, tiny_config, tiny_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``tiny.json``, ``w.safetensors`` and ``heads.safetensors`` (trained with gelu)."""
    folder = tmp_path_factory.mktemp("files")
    config = tiny_config("vit")
    (folder / "tiny.json").write_text(json.dumps(config))
    save_weights(tiny_model(config), folder / "w.safetensors")
    write_heads(folder / "heads.safetensors", random_heads((32, 32), (2, 4)))
    return folder


def arguments(files: Path, *more: str | Path) -> list[str]:
    return [
        "export", "--model", str(files / "tiny.json"), "--pretrained", str(files / "w.safetensors"), "-q",
        *map(str, more),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def bundle(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle that the command line makes of the files, with heads, for the object ``part``."""
    target = tmp_path_factory.mktemp("bundles") / "b"
    heads: list[str | Path] = ["--heads", files / "heads.safetensors", "--object", "part"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEVAND_HOME", str(target.parent / "home"))
        assert main(arguments(files, *heads, "-o", target)) == 0
    return Bundle.open(target)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    """Leaves the translation to ONNX out: the graph of ``bundle`` is taken."""

    def copy(graph: Any, folder: Path, *others: Any) -> None:
        shutil.copy(bundle.graph_path, folder / "encoder.onnx")

    monkeypatch.setattr(bundle_writer, "_write_graph", copy)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_manifest_records_what_was_exported(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert (manifest.model.name, manifest.model.pretrained) == ("tiny", "w.safetensors")
    assert (manifest.model.image_activation, manifest.model.text_activation) == ("gelu", "gelu")
    assert manifest.model.config == tiny_config("vit")
    assert [(stage.index, stage.head) for stage in manifest.stages] == [(2, True), (4, True)]
    assert (manifest.image.height, manifest.image.width) == (32, 32)
    assert manifest.score.terms == ("text", "zero-shot-map", "memory-map")
    assert manifest.parity.batches == (1, 2, 4)
    assert bundle.objects == ("part",)


@pytest.mark.usefixtures("quick")
def test_the_default_output_is_named_after_the_model_and_becomes_the_newest(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(arguments(files, "--heads", files / "heads.safetensors", "--object", "part", "--json"))
    assert code == 0
    target = home() / "bundles" / "tiny-32-fp32"
    document = json.loads(capsys.readouterr().out)
    assert document["bundle"] == str(target)
    assert document["hash"] == Bundle.open(target).hash
    assert document["zero_shot_map"] is True
    assert newest_bundle() == target


@pytest.mark.usefixtures("quick")
def test_an_output_that_is_already_there_is_refused_and_left_alone(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").write_text("mine")
    assert main(arguments(files, "-o", tmp_path / "b")) == 2
    assert "is already there; remove it or give -o" in capsys.readouterr().err
    assert left_in(tmp_path / "b") == ["mine"]


@pytest.mark.usefixtures("quick")
def test_a_graph_that_computes_something_else_fails_the_gate_and_leaves_nothing(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save_weights(tiny_model(tiny_config("vit"), seed=5), tmp_path / "other.safetensors")
    command = arguments(files, "--pretrained", other, "--heads", files / "heads.safetensors", "-o", tmp_path / "b")
    assert main(command) == 1
    assert "of the graph to agree with torch" in capsys.readouterr().err
    assert left_in(tmp_path) == ["other.safetensors"]


@pytest.mark.parametrize("step", ["to_onnx", "_prove", "write_text_file", "save_graph"])
def test_ctrl_c_leaves_nothing(step: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*others: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    if step != "to_onnx":
        monkeypatch.setattr(bundle_writer, "to_onnx", lambda *others: None)
    if step == "_prove":
        monkeypatch.setattr(bundle_writer, "save_graph", lambda model, folder: None)
    monkeypatch.setattr(bundle_writer, step, interrupt)
    assert main(arguments(files, "-o", tmp_path / "b")) == 130
    assert left_in(tmp_path) == []


def refused(command: list[str], capsys: pytest.CaptureFixture[str], target: Path, code: int = 2) -> str:
    """Run a command that must end in one sentence and write nothing; the sentence."""
    assert main(command) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert not target.exists()
    return lines[0]


def test_nan_in_weights_is_refused(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_model(tiny_config("vit"))
    model.visual.transformer.resblocks[2].mlp.c_fc.bias.data[3] = float("nan")
    bad = save_weights(model, tmp_path / "bad.safetensors")
    sentence = refused(arguments(files, "--pretrained", bad, "-o", tmp_path / "b"), capsys, tmp_path / "b")
    assert "found NaN or infinity in visual.transformer.resblocks.2.mlp.c_fc.bias" in sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--activation", "quick-gelu"], "expected --activation gelu, which the heads were trained with"),
        (["--stages", "1,2"], "expected heads of the stages 1,2, found heads of 2,4"),
        (["--stages", "1;2"], "expected --stages as numbers such as 6,12,18,24"),
        (["--image-size", "50"], "take --image-size 48"),
        (["--prompts", "nobody"], "expected a prompt pack"),
        (["--object", " "], "expected the name of an object"),
        (["--heads", "none.pth"], "found nothing at none.pth"),
        (["--bundle", "b"], "expected --bundle only together with --text-only"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(
    options: list[str], sentence: str, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heads: list[str | Path] = ["--heads", files / "heads.safetensors"] if "--heads" not in options else []
    command = arguments(files, *heads, *options, "-o", tmp_path / "b")
    assert sentence in refused(command, capsys, tmp_path / "b")


def test_heads_of_the_wrong_width_are_refused(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_heads(tmp_path / "h.safetensors", random_heads((32, 31), (2, 4)))
    command = arguments(files, "--heads", tmp_path / "h.safetensors", "-o", tmp_path / "b")
    assert "expected a head 32 -> 24 for stage 4, found 31 -> 24" in refused(command, capsys, tmp_path / "b")


def test_heads_for_a_tower_of_another_activation_are_refused_by_the_writer(bundle: Bundle) -> None:
    heads = Heads(random_heads((32,)).layers, (2,), "quick-gelu")
    with pytest.raises(BadInputError, match=r"activation gelu that tiny runs with, found .*quick-gelu"):
        bundle_writer._check_activation(heads, bundle.manifest.model)


def test_without_heads_there_is_no_zero_shot_map_and_large_weights_lie_beside_the_graph(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "INLINE_LIMIT", 1000)
    assert main(arguments(files, "--stages", "2,4", "--activation", "quick-gelu", "-o", tmp_path / "b")) == 0
    assert "no zero-shot map" in capsys.readouterr().out
    bundle = Bundle.open(tmp_path / "b")
    assert not bundle.manifest.has_heads
    assert bundle.manifest.score.terms == ("text", "memory-map")
    assert bundle.manifest.model.image_activation == bundle.manifest.model.text_activation == "quick-gelu"
    assert [value.name for value in onnx.load(bundle.graph_path).graph.input] == ["image"]
    assert bundle.objects == ("object",)
    sizes = {name: record.size for name, record in bundle.manifest.files.items()}
    assert sizes["encoder.onnx"] < 40_000 < sizes["encoder.onnx.data"]


def test_text_only_writes_what_the_export_would_have_written(
    bundle: Bundle, files: Path, tmp_path: Path, tokenizer: Any
) -> None:
    command = [
        "export", "--text-only", "--bundle", str(bundle.path), "--object", "cable", "--object", "part",
        "--pretrained", str(files / "w.safetensors"), "-o", str(tmp_path / "more.text"), "-q",
    ]  # fmt: skip
    assert main(command) == 0
    text = read_text_file(tmp_path / "more.text")
    assert set(text.objects) == {"cable", "part"}
    np.testing.assert_allclose(text.objects["part"], bundle.text("part")[1], atol=1e-6)
    assert bundle.text("cable", file=tmp_path / "more.text")[0] == "cable"


def test_text_only_finds_weights_that_were_placed(bundle: Bundle, files: Path, tmp_path: Path) -> None:
    place = weights_dir() / "tiny" / "w.safetensors"
    place.parent.mkdir(parents=True)
    shutil.copy(files / "w.safetensors", place)
    command = ["export", "--text-only", "--bundle", str(bundle.path), "--object", "x", "-o", str(tmp_path / "t"), "-q"]
    assert main(command) == 0


def test_text_only_refuses_other_weights(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = save_weights(tiny_model(tiny_config("vit"), seed=9), tmp_path / "other.safetensors")
    command = [
        "export", "--text-only", "--bundle", str(bundle.path), "--object", "x", "-q",
        "--pretrained", str(other), "-o", str(tmp_path / "t"),
    ]  # fmt: skip
    sentence = refused(command, capsys, tmp_path / "t")
    assert "expected the weights that the bundle" in sentence


@pytest.mark.parametrize("missing", ["--bundle", "--object", "-o"])
def test_text_only_says_which_option_is_missing(
    missing: str, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"--bundle": str(bundle.path), "--object": "x", "-o": str(tmp_path / "t")}
    command = ["export", "--text-only", "-q"]
    for option, value in given.items():
        command += [] if option == missing else [option, value]
    assert f"found no {missing}; give it" in refused(command, capsys, tmp_path / "t")


def test_a_workstation_without_torch_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    sentence = refused(["export", "-o", str(tmp_path / "b")], capsys, tmp_path / "b", 3)
    assert "pip install 'edgevand[export]'" in sentence
