"""vvv from weights to results: the bundle, its text, the tiles of an enrolment, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import pytest

pytest.importorskip("transformers", reason="exporting vvv needs the extra edgevand[export]")

import torch
from onnx import TensorProto, helper
from open_clip.tokenizer import SimpleTokenizer

from edgevand.cli import main
from edgevand.errors import BadInputError, FormatError, UsageError
from edgevand.prompts import compile_prompts, load_pack
from edgevand_export.methods import vvv as exporter
from edgevand_export.methods.preparing import prepare_bundle
from edgevand_runtime.methods import foreground
from edgevand_runtime.methods.foreground import ForegroundRule, graphs, segmented
from edgevand_runtime.methods.foreground.everything import EverythingRule
from edgevand_runtime.methods.foreground.graphs import FOREGROUND_FILE, FOREGROUND_SCHEMA
from tests.export.segmenters.tiny_models import clipseg_model, sam_model, save_model
from tests.tiny import write_parts, write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from edgevand.bundle import Bundle

SIDE = 32


@pytest.fixture(scope="module")
def model() -> Any:
    return clipseg_model(refined=False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, model: Any) -> Path:
    return save_model(model, tmp_path_factory.mktemp("weights") / "clipseg")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Bundle:
    place = tmp_path_factory.mktemp("vvv")
    base = write_tiny_bundle(place / "base")
    pairs = [f"side={SIDE}", "objects=metal nut,part"]
    return prepare_bundle(base, "vvv", pairs, [weights], place / "bundle")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    write_parts(folder, "......")
    return folder


def typed(*words: object) -> int:
    return main([str(word) for word in words])


@torch.no_grad()
def test_a_tiles_product_with_the_text_is_the_mean_of_its_similarities_to_every_sentence(
    prepared: Bundle, model: Any
) -> None:
    tile = np.random.default_rng(1).normal(size=20).astype(np.float32)
    tile /= np.linalg.norm(tile)
    text = prepared.own_tensors()["text_metal nut"]
    for row, sentences in zip(text, compile_prompts(load_pack("vvv"), "metal nut"), strict=True):
        embedded = model.clip.get_text_features(SimpleTokenizer(context_length=77)(list(sentences))).pooler_output
        similarities = torch.nn.functional.cosine_similarity(embedded, torch.from_numpy(tile)[None], dim=-1)
        assert len(similarities) in {418, 506}
        assert float(tile @ row) == pytest.approx(float(similarities.mean()), abs=1e-5)


def test_the_localising_prompts_are_the_reports_eighteen() -> None:
    assert len(set(exporter.PROMPTS)) == len(exporter.PROMPTS) == 18


@torch.no_grad()
def test_the_graph_gives_what_transformers_gives_for_the_golden_pictures(prepared: Bundle, model: Any) -> None:
    golden = prepared.golden()
    mean, std = (np.array(each) for each in (prepared.manifest.image.mean, prepared.manifest.image.std))
    image = torch.from_numpy((golden["image"] / 255 - mean) / std).permute(0, 3, 1, 2).float()
    ids = SimpleTokenizer(context_length=77)(list(exporter.PROMPTS))
    conditions = model.clip.get_text_features(ids).pooler_output
    inverse = sum(
        1 / model(pixel_values=image, conditional_embeddings=each.expand(2, -1)).logits.sigmoid().clamp_min(1e-6)
        for each in conditions
    )
    np.testing.assert_allclose(golden["map_damage"], (18 / inverse).numpy(), atol=1e-5)
    embedding = torch.nn.functional.normalize(model.clip.get_image_features(image).pooler_output, dim=-1)
    np.testing.assert_allclose(golden["embedding"], embedding.numpy(), atol=1e-5)


def test_it_is_enrolled_scored_and_verified_by_the_usual_commands(
    prepared: Bundle, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bank, results = tmp_path / "bank", tmp_path / "results.jsonl"
    roi = ("--roi", "10,20,100,40", "--object", "part")
    assert typed("enroll", "--bundle", prepared.path, "--source", parts, "-k", 5, *roi, "-o", bank) == 0
    assert "2 tiles in 1 component, cut in the region of interest" in " ".join(capsys.readouterr().err.split())
    settings = json.loads((bank / "bank.json").read_text())["settings"]
    assert settings["found"] == "roi"
    assert settings["frame"] == [128, 96]
    assert settings["tiles"] == [[0, 10, 0, 96], [0, 14, 0, 96]]  # 100 px wide, in tiles that the height caps at 96

    def never(path: Path) -> None:
        raise AssertionError(f"{path} was loaded in the stream")

    monkeypatch.setattr(graphs.SideGraph, "__init__", lambda _, path: never(path))
    assert typed("score", "--bundle", prepared.path, "--bank", bank, parts, "--output", results) == 0
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(lines) == 6
    assert all(line["method"] == "vvv" and line["score"] is not None for line in lines)
    assert all(line["text_score"] == line["raw_score"] for line in lines)
    assert typed("verify", prepared.path) == 0
    capsys.readouterr()
    write_parts(tmp_path / "more", ".", start=40)
    appended = ("--append", "--source", tmp_path / "more", "-k", 1)
    assert typed("enroll", "--bundle", prepared.path, *appended) == 0
    record = json.loads((bank / "bank.json").read_text())
    assert (len(record["frames"]), record["settings"]) == (6, settings)


def test_a_picture_smaller_than_a_tile_is_enrolled_in_one_tile_of_its_shorter_side(
    prepared: Bundle, tmp_path: Path
) -> None:
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        (tmp_path / "small").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "small" / f"{number}.png"), noise)
    bank = tmp_path / "bank"
    enrolled = ("--source", tmp_path / "small", "-k", 3, "--roi", "2,2,8,8", "--object", "part", "-o", bank)
    assert typed("enroll", "--bundle", prepared.path, *enrolled) == 0
    assert json.loads((bank / "bank.json").read_text())["settings"]["tiles"] == [[0, 0, 0, 20]]


@pytest.mark.parametrize("given", [[], ["sam"], ["clipseg", "sam"], ["clipseg", "clipseg"], ["other", "clipseg"]])
def test_weights_that_do_not_go_together_are_refused_in_one_sentence(
    prepared: Bundle, weights: Path, tmp_path: Path, given: list[str]
) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pt")
    known = {
        "clipseg": weights,
        "other": tmp_path / "other.pt",
        "sam": save_model(sam_model(), tmp_path / "sam") if "sam" in given else tmp_path,
    }
    with pytest.raises(UsageError, match=r"expected --weights of CLIPSeg, .*found .*; (give|bring)"):
        prepare_bundle(prepared, "vvv", (), [known[name] for name in given], tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_side_that_patches_do_not_fill_and_absent_weights_are_refused(
    prepared: Bundle, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="multiple of CLIPSeg's 8 px patches, found 35; take 32"):
        prepare_bundle(prepared, "vvv", ["side=35"], [weights], tmp_path / "bundle")
    with pytest.raises(BadInputError, match="found no such file; correct --weights"):
        prepare_bundle(prepared, "vvv", (), [tmp_path / "absent.bin"], tmp_path / "bundle")


# DIS and SAM, each stood in for by a graph of a few operators that sees brightness.


def graph(path: Path, nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], constants: list[Any]) -> None:
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in each.items()]
        for each in (inputs, outputs)
    ]
    made = helper.make_graph(nodes, "side", values[0], values[1], constants)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def constant(name: str, values: Any, kind: int = TensorProto.FLOAT) -> Any:
    array = np.array(values)
    return helper.make_tensor(name, kind, array.shape, array.ravel().tolist())


def write_side_graphs(bundle: Bundle, side: int) -> None:
    """DIS says how bright a pixel is; SAM has, for every point, one mask of what is bright, and trusts it."""
    nodes = [helper.make_node("ReduceMean", ["image"], ["mask"], axes=[1], keepdims=0)]
    graph(bundle.path / "dis.onnx", nodes, {"image": [1, 3, side, side]}, {"mask": [1, side, side]}, [])
    nodes = [helper.make_node("ReduceMean", ["image"], ["embedding"], axes=[1], keepdims=1)]
    sizes = {"image": [1, 3, side, side]}, {"embedding": [1, 1, side, side]}
    graph(bundle.path / "encoder-sam.onnx", nodes, *sizes, [])
    nodes = [
        helper.make_node("Shape", ["points"], ["both"]),
        helper.make_node("Slice", ["both", "zero", "one"], ["count"]),
        helper.make_node("Concat", ["count", "masks"], ["three"], axis=0),
        helper.make_node("ConstantOfShape", ["three"], ["iou"], value=constant("trust", [0.9])),
        helper.make_node("Concat", ["three", "sides"], ["shape"], axis=0),
        helper.make_node("Mul", ["embedding", "sharp"], ["logit"]),
        helper.make_node("Expand", ["logit", "shape"], ["logits"]),
    ]
    whole = TensorProto.INT64
    constants = [
        constant("zero", [0], whole),
        constant("one", [1], whole),
        constant("masks", [3], whole),
        constant("sides", [side, side], whole),
        constant("sharp", [100.0]),
    ]
    inputs = {"embedding": [1, 1, side, side], "points": ["p", 2]}
    outputs = {"logits": ["p", 3, side, side], "iou": ["p", 3]}
    graph(bundle.path / "decoder-sam.onnx", nodes, inputs, outputs, constants)
    proof = {"reference": "none", "engine": "none", "outputs": []}
    record = {
        "schema": FOREGROUND_SCHEMA,
        "created": "2026-01-01T00:00:00.000Z",
        "generator": "a test",
        "dis": {"side": side, "graph": {"file": "dis.onnx", **proof}},
        "sam": {
            "side": side,
            "encoder": {"file": "encoder-sam.onnx", **proof},
            "decoder": {"file": "decoder-sam.onnx", **proof},
        },
    }
    (bundle.path / FOREGROUND_FILE).write_text(json.dumps(record))


@pytest.fixture
def with_sides(tmp_path: Path) -> Bundle:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    write_side_graphs(bundle, 64)
    names = (FOREGROUND_FILE, "dis.onnx", "encoder-sam.onnx", "decoder-sam.onnx")
    files = {**bundle.whole.files, **{name: next(iter(bundle.whole.files.values())) for name in names}}
    bundle.whole = bundle.whole.model_copy(update={"files": files})
    return bundle


def test_the_graphs_of_dis_and_sam_find_the_foreground_at_enrolment(with_sides: Bundle) -> None:
    image = np.full((128, 128, 3), 20, np.uint8)
    image[32:64, 40:90] = 240
    found = segmented(with_sides, image, ForegroundRule(everything=EverythingRule(points=3)))
    assert found is not None
    mask, annotations = found
    assert len(annotations) == 1  # all points have the same box, of which one is left
    wanted = np.zeros((128, 128), bool)
    wanted[32:64, 40:90] = True
    assert (mask & wanted).sum() / (mask | wanted).sum() > 0.9
    tiles = foreground.tiles_of(mask, annotations, ForegroundRule(), foreground.TileRule(side=16))
    assert len(tiles) == 1
    assert abs(tiles[0].x + tiles[0].side / 2 - 65) <= 2
    assert abs(tiles[0].y + tiles[0].side / 2 - 48) <= 2


def test_a_bundle_without_them_has_no_foreground(tmp_path: Path) -> None:
    assert segmented(write_tiny_bundle(tmp_path / "bundle"), np.zeros((8, 8, 3), np.uint8), ForegroundRule()) is None


def test_a_graph_that_the_manifest_does_not_list_is_not_loaded(with_sides: Bundle) -> None:
    files = {name: each for name, each in with_sides.whole.files.items() if name != "decoder-sam.onnx"}
    with_sides.whole = with_sides.whole.model_copy(update={"files": files})
    with pytest.raises(FormatError, match=r"expected 'decoder-sam\.onnx', which .* needs, in manifest\.json"):
        segmented(with_sides, np.zeros((8, 8, 3), np.uint8), ForegroundRule())
