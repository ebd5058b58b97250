"""The text of ustc-loco as the exporter writes it, against open_clip's tower sentence by sentence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from edgevand.bundle import Bundle
from edgevand.cli import main
from edgevand.errors import BadInputError, UsageError
from edgevand_export.export import ExportOptions, export_bundle
from edgevand_export.methods.preparing import prepare_bundle
from edgevand_runtime.methods.choosing import seen_as
from edgevand_runtime.methods.texts import choose_text
from tests.export.models import save_weights, tiny_config, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PACK = {
    "normal_states": ["{}", "flawless {}"],
    "abnormal_states": ["broken {}", "{} with a flaw"],
    "templates": ["a photo of a {}."],
    "logical": {
        "generic": {"loss": [{"normal": "complete {}", "abnormal": "incomplete {}"}]},
        "categories": {
            "tray": {"object_name": "tea tray", "loss": [{"normal": "full {}", "abnormal": "{} with a gap"}]}
        },
    },
}


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model(tiny_config("vit"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: Any) -> Path:
    folder = tmp_path_factory.mktemp("ustc")
    (folder / "tiny.json").write_text(json.dumps(tiny_config("vit")))
    (folder / "mine.json").write_text(json.dumps(PACK))
    save_weights(model, folder / "tiny.safetensors")
    options = ExportOptions(
        model=str(folder / "tiny.json"),
        pretrained=str(folder / "tiny.safetensors"),
        image_size=32,
        objects=("tin",),
        output=folder / "base",
    )
    export_bundle(options)
    return folder


@pytest.fixture(scope="module")
def prepared(folder: Path) -> Bundle:
    pairs = [f"pack={folder / 'mine.json'}", "domain=none", "combine=per-group-max"]
    weights = [folder / "tiny.safetensors"]
    return prepare_bundle(Bundle.open(folder / "base"), "ustc-loco", pairs, weights, folder / "prepared")


def pooled(model: Any, phrases: list[str]) -> NDArray[np.float64]:
    """Each sentence through the tower by itself, normalised, averaged, normalised."""
    tokenizer = SimpleTokenizer(context_length=77)
    with torch.no_grad():
        rows = [model.encode_text(tokenizer([f"a photo of a {phrase}."]))[0].double().numpy() for phrase in phrases]
    mean = np.mean([row / np.linalg.norm(row) for row in rows], axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def test_every_object_has_all_states_and_each_group(prepared: Bundle, model: Any) -> None:
    view = seen_as(prepared)
    assert view.manifest.method == "ustc-loco"
    name, text, own = choose_text(view, "tray", None)
    assert text is not None
    normal, abnormal = (["tea tray", "flawless tea tray"], ["broken tea tray", "tea tray with a flaw"])
    pairs = (["complete tea tray", "full tea tray"], ["incomplete tea tray", "tea tray with a gap"])
    expected = [
        [pooled(model, normal + pairs[0]), pooled(model, abnormal + pairs[1])],
        [pooled(model, normal), pooled(model, abnormal)],
        [pooled(model, pairs[0]), pooled(model, pairs[1])],
    ]
    assert name == "tray"
    assert own["own_sides"] == pytest.approx(np.array(expected), abs=1e-5)
    assert text == pytest.approx(np.array(expected[1]), abs=1e-5)
    directions = [pooled(model, [phrase]) - expected[1][0] for phrase in abnormal]
    directions += [pooled(model, [bad]) - pooled(model, [good]) for good, bad in zip(*pairs, strict=True)]
    assert own["own_directions"] == pytest.approx(np.array(directions), abs=1e-3)  # half precision
    words = json.loads(own["own_words"].tobytes())
    assert words["wordings"]["tray"] == [
        ["structural", ["broken", "a flaw"]],
        ["loss", ["incomplete", "a gap"]],
    ]


def test_an_object_without_pairs_of_its_own_has_the_generic_ones_and_the_export_says_so(
    prepared: Bundle, model: Any, folder: Path, tmp_path: Path
) -> None:
    own = choose_text(seen_as(prepared), "tin", None).own
    assert own["own_sides"][2, 1] == pytest.approx(pooled(model, ["incomplete tin"]), abs=1e-5)
    told: list[str] = []
    base, weights = Bundle.open(folder / "base"), [folder / "tiny.safetensors"]
    prepare_bundle(
        base, "ustc-loco", [f"pack={folder / 'mine.json'}", "domain=none"], weights, tmp_path / "again", told.append
    )
    assert "the pack has no pairs of their own for tin: the generic ones are used" in told


def test_the_settings_say_what_the_text_was_made_of(prepared: Bundle) -> None:
    assert seen_as(prepared).manifest.settings["pack"] == "mine"
    assert seen_as(prepared).manifest.settings["combine"] == "per-group-max"


def refused(folder: Path, error: type[Exception], sentence: str, pairs: list[str], weights: list[str]) -> None:
    with pytest.raises(error, match=sentence):
        prepare_bundle(
            Bundle.open(folder / "base"), "ustc-loco", pairs, [folder / name for name in weights], folder / "never"
        )
    assert not (folder / "never").exists()


def test_what_cannot_be_prepared_leaves_nothing(folder: Path) -> None:
    save_weights(tiny_model(tiny_config("vit"), seed=5), folder / "other.safetensors")
    (folder / "half.json").write_text(
        json.dumps({**PACK, "logical": {"generic": {"loss": [{"normal": "complete {}"}]}}})
    )
    own = ["tiny.safetensors"]
    refused(folder, BadInputError, "expected the weights that the bundle", [], ["other.safetensors"])
    refused(folder, UsageError, "expected the one checkpoint .*found 2", [], own * 2)
    refused(folder, UsageError, "expected a pack with groups", ["pack=april-gan"], own)
    refused(folder, BadInputError, "found only normal ones", [f"pack={folder / 'half.json'}"], own)
    refused(folder, UsageError, "expected a prompt pack", ["pack=nowhere.json"], own)


def test_the_command_prepares_and_scores(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(random.integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path / f"{number}.png")
    options = ["--set", f"pack={folder / 'mine.json'}", "--set", "combine=per-group-max", "--set", "domain=none"]
    out = tmp_path / "bundle"
    weights = folder / "tiny.safetensors"
    asked = ["--method", "ustc-loco", "--bundle", folder / "base", "--weights", weights, *options, "-o", out]
    assert main(["export", *map(str, asked)]) == 0
    results = tmp_path / "results.jsonl"
    shown = ["score", "--bundle", out, "--object", "tray", tmp_path / "0.png", tmp_path / "1.png", "--output", results]
    assert main(list(map(str, shown))) == 0
    capsys.readouterr()
    for line in results.read_text().splitlines():
        result = json.loads(line)
        assert result["method"] == "ustc-loco"
        assert result["reason"].split(":")[0] in {"structural", "loss"}
