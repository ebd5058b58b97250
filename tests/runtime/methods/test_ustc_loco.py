"""ustc-loco on the device's side, against the formulas written out and against april-gan given the same text."""

from __future__ import annotations

import json
import math
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgevand.bundle import Bundle, MethodRecord, extend_bundle
from edgevand.errors import FormatError, UsageError
from edgevand.tensors import write_tensors
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import open_engine
from edgevand_runtime.enroll import EnrolOptions, enroll
from edgevand_runtime.methods import kind_of, open_method
from edgevand_runtime.methods.choosing import seen_as
from edgevand_runtime.methods.texts import choose_text, known_objects
from edgevand_runtime.methods.ustc_loco import Table, pack_json
from edgevand_runtime.preprocess import load_image, to_tensor
from edgevand_runtime.sources import open_source
from edgevand_runtime.sources.base import new_frame
from tests.tiny import DIM, write_parts, write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

GROUPS = (("structural", ("damaged", "a flaw")), ("loss", ("incomplete", "a missing part", "a gap")))
OBJECTS = {"tin": "", "tray": "tray"}


def unit(random: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    rows = random.normal(size=(*shape, DIM))
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def texts() -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(24)  # with which the group loss fires on the parts
    tensors: dict[str, NDArray[Any]] = {}
    for name in OBJECTS:
        tensors[f"sides:{name}"] = unit(random, 3, 2)
        tensors[f"directions:{name}"] = unit(random, 5).astype(np.float16)
    return tensors


TABLE = Table(pack="loco", domain="auto", objects=OBJECTS, wordings=dict.fromkeys(OBJECTS.values(), GROUPS))


def write_bundle(folder: Path, tensors: dict[str, NDArray[Any]], table: Table | None = TABLE) -> Bundle:
    base = write_tiny_bundle(folder / "base", heads=True, objects=["tin"])
    words = {} if table is None else {"words": pack_json(table)}

    def prepare(staging: Path) -> MethodRecord:
        write_tensors(staging / "ustc-loco.safetensors", {**tensors, **words})
        return MethodRecord(name="ustc-loco", tensors="ustc-loco.safetensors")

    return extend_bundle(base, folder / "bundle", prepare)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("ustc"), texts())


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    write_parts(folder, "......")
    return folder


def embeddings(view: Bundle, parts: Path, text: NDArray[np.float32]) -> NDArray[np.float32]:
    images = np.stack([to_tensor(load_image(path), view.manifest.image) for path in sorted(parts.iterdir())])
    with closing(open_engine(view, threads=1)) as engine:
        return engine.run(images, text).embedding


def score(view: Bundle, parts: Path, name: str) -> list[Any]:
    frames = [new_frame(load_image(path), n, path.name) for n, path in enumerate(sorted(parts.iterdir()))]
    with Detector.open(view, object_name=name, threads=1) as detector:
        return detector.detect(frames)


def test_per_group_max_is_the_largest_of_the_groups_probabilities_and_says_which(bundle: Bundle, parts: Path) -> None:
    view = seen_as(bundle, "ustc-loco", pairs=["combine=per-group-max"])
    results = score(view, parts, "tray")
    sides, directions = texts()["sides:tray"].astype(np.float64), texts()["directions:tray"].astype(np.float64)
    for result, embedding in zip(results, embeddings(view, parts, texts()["sides:tray"][1]), strict=True):
        own = []
        for group in (1, 2):
            normal, abnormal = (math.exp(100 * float(embedding @ sides[group, side])) for side in (0, 1))
            own.append(abnormal / (normal + abnormal))
        assert result.text_score == pytest.approx(max(own), abs=1e-5)
        assert result.raw_score == pytest.approx(max(own), abs=1e-5)
        fired = int(np.argmax(own))
        name, states = GROUPS[fired]
        rows = directions[:2] if fired == 0 else directions[2:]
        state = states[int(np.argmax([float(embedding @ row) for row in rows]))]
        assert result.reason == f"{name}: {state!r} ({max(own):.2f})"
        assert result.to_json()["reason"] == result.reason


@pytest.mark.parametrize(("combine", "row"), [("append", 0), ("per-group-max", 1)])
def test_the_map_is_april_gan_s_with_the_text_of_all_states_or_of_the_plain_ones(
    combine: str, row: int, bundle: Bundle, parts: Path
) -> None:
    view = seen_as(bundle, "ustc-loco", pairs=[f"combine={combine}"])
    text = texts()["sides:tin"][row]
    plain = bundle.as_method("april-gan")
    images = [load_image(path) for path in sorted(parts.iterdir())]
    results = score(view, parts, "tin")
    with closing(open_engine(plain, threads=1)) as engine:
        outputs = engine.run(np.stack([to_tensor(each, plain.manifest.image) for each in images]), text)
    expected = open_method(plain.manifest, text, None).score(outputs)
    for result, raw in zip(results, expected, strict=True):
        assert raw.raw_map is not None
        assert np.array_equal(result.raw_map, raw.raw_map)
        if combine == "append":
            assert (result.text_score, result.raw_score, result.reason) == (raw.text_score, raw.raw_score, None)


def test_a_bank_keeps_the_text_of_its_object_alone_and_scores_by_it(
    bundle: Bundle, parts: Path, tmp_path: Path
) -> None:
    view = seen_as(bundle, "ustc-loco", pairs=["combine=per-group-max"])
    with open_source(parts) as source, closing(open_engine(view, threads=1)) as engine:
        bank = enroll(source, view, engine, tmp_path / "bank", EnrolOptions(shots=None, object_name="tray")).bank
    own = {name for name in bank.features if name.startswith("own_")}
    assert own == {"own_sides", "own_directions", "own_words"}
    assert np.array_equal(bank.features["own_sides"], texts()["sides:tray"])
    assert np.array_equal(bank.features["text"], texts()["sides:tray"][1])
    assert bank.record.settings["combine"] == "per-group-max"
    frames = [new_frame(load_image(path), n, path.name) for n, path in enumerate(sorted(parts.iterdir()))]
    with Detector.open(bundle, bank, threads=1) as detector:
        found = detector.detect(frames)
    zero_shot = score(view, parts, "tray")
    for one, other in zip(found, zero_shot, strict=True):
        assert (one.text_score, one.reason) == (other.text_score, other.reason)


def test_turned_copies_are_not_enrolled_unasked(bundle: Bundle) -> None:
    assert not kind_of(seen_as(bundle, "ustc-loco").manifest).poses


def test_objects_are_those_of_the_table_and_one_that_is_not_there_is_told(bundle: Bundle) -> None:
    view = seen_as(bundle, "ustc-loco")
    assert known_objects(view) == ("tin", "tray")
    assert choose_text(view, "tray", None).object_name == "tray"
    for name in ("can", None):
        with pytest.raises(UsageError, match=r"text of ustc-loco for \('tin', 'tray'\), found '(can|object)'"):
            choose_text(view, name, None)


def test_a_text_file_cannot_replace_groups(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match=r"expected no --text with ustc-loco"):
        choose_text(seen_as(bundle, "ustc-loco"), "tin", bundle.path / "text.safetensors")


def test_options_of_the_export_cannot_be_changed_afterwards(bundle: Bundle) -> None:
    for pair in ("domain=none", "pack=mine"):
        with pytest.raises(UsageError, match=r"which the bundle's text was made with, found (none|mine)"):
            choose_text(seen_as(bundle, "ustc-loco", pairs=[pair]), "tin", None)


def test_a_bundle_that_was_not_prepared_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="edgevand export --method ustc-loco"):
        seen_as(write_tiny_bundle(tmp_path / "base", objects=["tin"]), "ustc-loco")


def test_tensors_that_are_no_text_of_groups_are_one_sentence(tmp_path: Path, parts: Path) -> None:
    sentence = "expected the text of ustc-loco in bundle or bank, found other tensors"
    lost = {name: each for name, each in texts().items() if name != "sides:tray"}
    stranger = TABLE.model_copy(update={"wordings": {}})
    for number, (tensors, table) in enumerate([(lost, TABLE), (texts(), None), (texts(), stranger)]):
        with pytest.raises(FormatError, match=sentence):
            choose_text(seen_as(write_bundle(tmp_path / str(number), tensors, table), "ustc-loco"), "tin", None)
    short = write_bundle(tmp_path / "short", {**texts(), "directions:tin": texts()["directions:tin"][:3]})
    with pytest.raises(FormatError, match=sentence):
        score(seen_as(short, "ustc-loco", pairs=["combine=per-group-max"]), parts, "tin")


def test_a_bundle_may_be_prepared_and_go_on_scoring_as_before(bundle: Bundle, tmp_path: Path) -> None:
    base = bundle.as_method("april-gan")

    def prepare(staging: Path) -> MethodRecord:
        write_tensors(staging / "more.safetensors", {**texts(), "words": pack_json(TABLE)})
        return MethodRecord(name="ustc-loco", tensors="more.safetensors")

    again = extend_bundle(write_tiny_bundle(tmp_path / "base", objects=["tin"]), tmp_path / "x", prepare, chosen=False)
    assert again.manifest.method == base.manifest.method == "april-gan"
    assert known_objects(seen_as(again, "ustc-loco")) == ("tin", "tray")


def test_words_are_json_of_utf_8() -> None:
    table = replace_word("größer")
    assert json.loads(pack_json(table).tobytes().decode())["wordings"][""][0][1] == ["größer"]
    assert Table.model_validate_json(pack_json(table).tobytes()) == table


def replace_word(word: str) -> Table:
    return TABLE.model_copy(update={"wordings": {"": (("structural", (word,)),)}})


def test_a_fusion_is_scaled_by_the_method_s_own_text_score(bundle: Bundle, parts: Path, tmp_path: Path) -> None:
    view = seen_as(bundle, "ustc-loco", pairs=["combine=per-group-max", "fusion=mean"])
    with open_source(parts) as source, closing(open_engine(view, threads=1)) as engine:
        bank = enroll(source, view, engine, tmp_path / "bank", EnrolOptions(shots=None, object_name="tray")).bank
    scores = [result.text_score for result in score(view, parts, "tray")]
    logits = [math.log(each / (1 - each)) for each in scores]
    assert bank.record.settings["scales"]["text"][0] == pytest.approx(np.mean(logits), abs=1e-3)
    sides = texts()["sides:tray"]
    alone = [100 * float(one @ (sides[1, 1] - sides[1, 0])) for one in embeddings(view, parts, sides[1])]
    assert np.mean(alone) != pytest.approx(np.mean(logits), abs=0.1)  # the plain states are not all there is
