"""int8 and fp16 beside the float32 graph: what the graph holds, and what the command line makes of bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgevand.bundle import Bundle
from edgevand.cli import main
from edgevand.errors import FormatError, GateError
from edgevand_export import variants
from edgevand_export.frames import Frames, take_frames
from edgevand_export.quantize import WEIGHT_PEAK, quantise
from edgevand_export.ranges import Histogram
from edgevand_export.smooth import smooth_norms
from edgevand_export.variants import add_variant
from tests.export.models import save_weights, tiny_config, tiny_model
from tests.tiny import draw_part, write_parts

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ten good parts."""
    folder = tmp_path_factory.mktemp("parts")
    write_parts(folder, "." * 10)
    return folder


@pytest.fixture(scope="module")
def int8(
    exported: Callable[[str], tuple[Any, Bundle]], parts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """A tiny ViT's bundle with an int8 variant."""
    target = tmp_path_factory.mktemp("int8") / "b"
    return add_variant(exported("vit")[1], "int8", take_frames(str(parts)), target)


def feeds(bundle: Bundle, count: int = 2) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    shape = (1, 3, bundle.manifest.image.height, bundle.manifest.image.width)
    text = {"text": bundle.text("part")[1]} if bundle.manifest.has_heads else {}
    return [{"image": random.normal(size=shape).astype(np.float32), **text} for _ in range(count)]


def test_the_bundle_holds_both_graphs_with_their_proofs(int8: Bundle) -> None:
    assert int8.precisions == ("fp32", "int8")
    (variant,) = Bundle.open(int8.path).manifest.variants
    assert variant.gate.passed
    assert variant.gate.frames == 5, "every second of ten frames judges"
    tokens = [row.cosine for row in variant.parity.outputs if row.output.startswith("tokens")]
    assert 0.95 < min(tokens) < 0.999999
    assert int8.graph_in("int8").name == "encoder.int8.onnx"


def test_products_between_the_first_and_the_last_are_int8_and_all_else_is_float(int8: Bundle) -> None:
    graph = onnx.load(int8.graph_in("int8")).graph
    makers = {name: node for node in graph.node for name in node.output}
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    quantised = 0
    for node in graph.node:
        sources = [makers[name].op_type for name in node.input if name in makers]
        if node.op_type == "MatMul" and sources == ["DequantizeLinear"] * 2:
            quantised += 1
            weight = constants[makers[node.input[1]].input[0]]
            assert weight.dtype == np.int8
            assert np.abs(weight.astype(int)).max() == WEIGHT_PEAK
            scale = constants[makers[node.input[1]].input[1]]
            assert scale.shape == (weight.shape[1],), "one scale for each output channel"
            assert makers[makers[node.input[0]].input[0]].op_type == "QuantizeLinear"
        else:
            assert "DequantizeLinear" not in sources, node.op_type
    assert quantised == 4 * 6, "query, key, value, out and the two of the MLP, in each of four blocks"
    zeros = [constants[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert not np.any(zeros), "TensorRT takes no zero points"
    wanted = onnx.load(int8.graph_path).graph
    for found, other in zip((*graph.input, *graph.output), (*wanted.input, *wanted.output), strict=True):
        assert found.name == other.name
        assert found.type.tensor_type.elem_type == TensorProto.FLOAT


@pytest.mark.parametrize("kind", ["resnet", "timm"])
def test_convolutions_but_the_first_are_int8(exported: Callable[[str], tuple[Any, Bundle]], kind: str) -> None:
    bundle = exported(kind)[1]
    model = quantise(bundle.graph_path, feeds(bundle))
    convolutions = [node for node in model.graph if node.op_type == "Conv"]
    kinds = [node.inputs[1].producer() is not None for node in convolutions]
    assert kinds.count(False) == 1
    assert not kinds[0], "the first, on the image"
    axes = {node.inputs[1].producer().attributes["axis"].as_int() for node in convolutions[1:]}
    assert axes == {0}


def test_a_product_in_int8_is_the_product_of_the_rounded_numbers(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    weights = [random.normal(size=(6, 6)).astype(np.float32) for _ in range(3)]
    nodes = [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(3)]
    inputs = [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [1, 6])]
    outputs = [helper.make_tensor_value_info("x3", TensorProto.FLOAT, [1, 6])]
    constants = [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)]
    graph = helper.make_graph(nodes, "chain", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "g.onnx")
    x = random.normal(size=(1, 6)).astype(np.float32)
    model = quantise(tmp_path / "g.onnx", [{"x0": x}])
    (step,) = [node.inputs[1].const_value.numpy() for node in model.graph if node.op_type == "QuantizeLinear"]
    ir.save(model, tmp_path / "q.onnx")
    import onnxruntime

    found = onnxruntime.InferenceSession(tmp_path / "q.onnx").run(None, {"x0": x})[0]
    middle = np.clip(np.rint(x @ weights[0] / step), -128, 127) * step
    scale = np.abs(weights[1]).max(axis=0) / WEIGHT_PEAK
    wanted = middle @ (np.rint(weights[1] / scale) * scale) @ weights[2]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_scale_is_the_one_that_a_search_over_the_values_themselves_finds() -> None:
    values = np.random.default_rng(2).standard_t(3, 200_000).astype(np.float32)
    histogram = Histogram(float(np.abs(values).max()))
    histogram.add(values)

    def error(scale: float) -> float:
        return float(np.mean((np.clip(np.rint(values / scale), -127, 127) * scale - values) ** 2))

    searched = min(error(limit / 127) for limit in np.linspace(0.05, 1, 400) * np.abs(values).max())
    whole = error(float(np.abs(values).max()) / 127)
    assert error(float(histogram.scale())) < min(1.1 * searched, 0.8 * whole)


def test_smoothing_changes_nothing_but_helps_where_a_channel_outlies(
    exported: Callable[[str], tuple[Any, Bundle]], tmp_path: Path
) -> None:
    from edgevand_export import quantize
    from edgevand_export.parity import run_graph

    bundle = exported("vit")[1]
    model: Any = ir.load(bundle.graph_path)
    for norm in [node for node in model.graph if node.op_type == "LayerNormalization"][1:]:
        outlying = np.array(norm.inputs[1].const_value.numpy())
        outlying[3] *= 60
        norm.inputs[1].const_value = ir.tensor(outlying, name=norm.inputs[1].name)
    ir.save(model, tmp_path / "spiky.onnx")
    image, text = feeds(bundle)[0]["image"], bundle.text("part")[1]
    wanted = run_graph(tmp_path / "spiky.onnx", image, text)[1]

    def smallest(model: Any, name: str) -> float:
        ir.save(model, tmp_path / name)
        found = run_graph(tmp_path / name, image, text)[1]
        return float(min((found[key] * wanted[key]).sum(-1).min() for key in wanted if key.startswith("tokens")))

    smoothed: Any = ir.load(tmp_path / "spiky.onnx")
    products = quantize.products_of(smoothed.graph)
    peaks = {node.inputs[0]: np.full(node.inputs[1].shape[0], 7, np.float32) for node in products}
    assert smooth_norms(smoothed.graph, products, peaks) == 8, "two norms in each of four blocks"
    assert smallest(smoothed, "smoothed.onnx") > 0.99999
    helped = smallest(quantise(tmp_path / "spiky.onnx", feeds(bundle)), "helped.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantize, "smooth_norms", lambda *others: 0)
        alone = smallest(quantise(tmp_path / "spiky.onnx", feeds(bundle)), "alone.onnx")
    assert 1 - helped < 0.7 * (1 - alone)


def test_a_gate_that_fails_writes_nothing_and_tells_what_moved(
    exported: Callable[[str], tuple[Any, Bundle]], parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgevand_runtime.gate.MOVED_LIMIT", 1e-6)
    with pytest.raises(GateError) as failure:
        add_variant(exported("vit")[1], "int8", take_frames(str(parts)), tmp_path / "b")
    lines = str(failure.value).splitlines()
    assert lines[0].startswith("expected int8 to move no score by more than 1e-06 deviations")
    assert len(lines) == 2 + 5
    assert list(tmp_path.iterdir()) == []


def test_frames_are_shared_out_in_turn(parts: Path) -> None:
    frames = take_frames(str(parts))
    np.testing.assert_array_equal(frames.scaling[1], draw_part(2))
    np.testing.assert_array_equal(frames.judging[1], draw_part(3))


def test_a_variant_s_file_that_is_missing_or_changed_is_refused(int8: Bundle, tmp_path: Path) -> None:
    missing, changed = (Path(shutil.copytree(int8.path, tmp_path / name)) for name in ("missing", "changed"))
    (missing / "encoder.int8.onnx").unlink()
    data = (changed / "encoder.int8.onnx").read_bytes()
    (changed / "encoder.int8.onnx").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    for place in (missing, changed):
        with pytest.raises(FormatError, match=r"encoder\.int8\.onnx"):
            Bundle.open(place)


def test_bundles_from_before_variants_and_of_fp16_alone_open(
    exported: Callable[[str], tuple[Any, Bundle]], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(exported("vit")[1].path, tmp_path / "old"))
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["variants"]
    manifest["graph"]["precision"] = "fp16"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    opened = Bundle.open(copy)
    assert opened.precisions == ("fp16",)
    assert opened.graph_in("fp16") == opened.graph_path


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """``edgevand export`` of a tiny ViT from a weights file."""
    folder = tmp_path_factory.mktemp("files")
    config = tiny_config("vit")
    (folder / "tiny.json").write_text(json.dumps(config))
    weights = save_weights(tiny_model(config), folder / "w.safetensors")
    return ["export", "--model", str(folder / "tiny.json"), "--pretrained", str(weights)]


def test_export_writes_int8_beside_fp32_and_prints_its_certificate_and_gate(
    command: list[str], parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [*command, "--precision", "int8", "--calibrate", str(parts), "-o", str(tmp_path / "b")]
    assert main(made) == 0
    out, err = capsys.readouterr()
    assert "quantise: scales from 5 frames" in err
    assert "parity of int8 with torch on the golden sample: map" in out
    assert "gate of int8 on 5 frames: scores moved by at most" in out
    assert Bundle.open(tmp_path / "b").precisions == ("fp32", "int8")
    assert main(["info", str(tmp_path / "b")]) == 0
    assert "int8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "frames", "sentence"),
    [
        (["--precision", "int8"], 0, "expected --calibrate SOURCE with --precision int8, found none"),
        (["--calibrate", "FOLDER"], 10, "expected --calibrate only with --precision int8 or fp16"),
        (["--precision", "int8", "--calibrate", "FOLDER"], 3, "expected at least 8 different frames in"),
        (["--precision", "int8", "--calibrate", "FOLDER"], 7, "found 7"),
        (["--precision", "int8", "--calibrate", "FOLDER"], 0, "FOLDER"),
    ],
)
def test_calibration_that_is_missing_or_too_small_is_one_sentence(
    command: list[str],
    options: list[str],
    frames: int,
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "FOLDER"
    folder.mkdir()
    for number in range(frames):
        cv2.imwrite(str(folder / f"{number}.png"), draw_part(number))
    given = [str(folder) if option == "FOLDER" else option for option in options]
    assert main([*command, *given, "-o", str(tmp_path / "b"), "-q"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert sentence in lines[0]
    assert not (tmp_path / "b").exists()


def test_a_failed_gate_is_exit_code_one(
    command: list[str], parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*others: Any) -> None:
        raise GateError("expected int8 to move nothing, found 3.00 deviations; nothing was written\nframe  reference")

    monkeypatch.setattr(variants, "_judge", failing)
    made = [*command, "--precision", "int8", "--calibrate", str(parts), "-o", str(tmp_path / "b"), "-q"]
    assert main(made) == 1
    assert "frame  reference" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_near_copies_do_not_calibrate(tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "same").mkdir()
    for number in range(12):
        cv2.imwrite(str(tmp_path / "same" / f"{number:02d}.png"), draw_part(0))
    options = ["--precision", "int8", "--calibrate", str(tmp_path / "same"), "-o", str(tmp_path / "b"), "-q"]
    assert main([*command, *options]) == 2
    assert "expected at least 8 different frames" in capsys.readouterr().err


def test_frames_hold_as_many_groups_as_judging_pictures(parts: Path) -> None:
    frames = take_frames(str(parts))
    assert isinstance(frames, Frames)
    assert len(frames.groups) == len(frames.judging) == len(set(frames.groups))
