"""Bundles: what is written is what is opened, runs, and is named by its hash."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest

from edgevand.bundle import Bundle, read_text_file, write_bundle, write_text_file
from edgevand.errors import BadInputError, FormatError, OutputError, UsageError
from edgevand.files import read_tensors, write_tensors
from tests.core.builders import MEAN, STD, WEIGHTS_SHA256, make_bundle, unit

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing is tested with the staging; here it would only wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of two objects."""
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b", objects=("bottle", "metal nut"))


def write_text(path: Path, **changes: Any) -> Path:
    """A text file that fits the bundles of these tests."""
    embeddings = changes.pop("embeddings", {"screw": unit(np.random.default_rng(1), 2, 16)})
    fields = {"pack": "april-gan", "weights_sha256": WEIGHTS_SHA256, "activation": "gelu"} | changes
    write_text_file(path, embeddings, **fields)
    return path


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("heads", [False, True])
def test_onnx_runtime_runs_the_graph_and_computes_the_golden_outputs(
    tmp_path: Path, *, external: bool, heads: bool
) -> None:
    made = make_bundle(tmp_path / "b", external=external, heads=heads)
    golden = made.golden()
    pixels = ((golden["image"] / 255.0 - MEAN) / STD).astype(np.float32).transpose(0, 3, 1, 2)
    session = onnxruntime.InferenceSession(str(made.graph_path), providers=["CPUExecutionProvider"])
    feeds = {"image": np.ascontiguousarray(pixels)} | ({"text": golden["text"]} if heads else {})
    names = [output.name for output in session.get_outputs()]
    assert set(names) == set(golden) - {"image", "text"}
    for name, value in zip(names, session.run(names, feeds), strict=True):
        np.testing.assert_allclose(value, golden[name], atol=1e-4)


def test_the_hash_is_that_of_the_manifest_which_names_every_file(bundle: Bundle) -> None:
    data = (bundle.path / "manifest.json").read_bytes()
    assert bundle.hash == "sha256:" + hashlib.sha256(data).hexdigest()
    listed = json.loads(data)["files"]
    found = {path.name: path for path in bundle.path.iterdir() if path.name != "manifest.json"}
    assert set(listed) == set(found)
    for name, path in found.items():
        assert listed[name] == {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size": path.stat().st_size,
        }


def test_opening_gives_back_what_was_written(bundle: Bundle) -> None:
    opened = Bundle.open(bundle.path)
    assert opened.hash == bundle.hash
    assert opened.manifest == bundle.manifest
    assert opened.manifest.has_heads
    assert opened.graph_path == bundle.path / "encoder.onnx"
    assert opened.manifest.generator.startswith("edgevand ")


def test_the_same_files_have_the_same_bytes_and_another_seed_another_hash(tmp_path: Path) -> None:
    one, same, other = (make_bundle(tmp_path / name, seed=seed) for name, seed in (("1", 0), ("2", 0), ("3", 1)))
    assert one.manifest.files == same.manifest.files
    assert one.hash != other.hash


def test_text_is_found_by_object(bundle: Bundle) -> None:
    stored = read_tensors(bundle.path / "text.safetensors")
    assert bundle.objects == ("bottle", "metal nut")
    assert list(bundle.texts()) == ["bottle", "metal nut"]
    name, rows = bundle.text("metal nut")
    assert name == "metal nut"
    np.testing.assert_array_equal(rows, stored["metal nut"])


def test_an_unknown_object_names_those_that_there_are(bundle: Bundle) -> None:
    for wanted in ("cable", None):
        with pytest.raises(UsageError, match=r"'bottle', 'metal nut'.*'(cable|object)'"):
            bundle.text(wanted)


def test_without_a_name_the_only_object_or_the_one_called_object_is_taken(tmp_path: Path) -> None:
    assert make_bundle(tmp_path / "1", objects=("cable",)).text()[0] == "cable"
    assert make_bundle(tmp_path / "2", objects=("cable", "object")).text()[0] == "object"


def test_a_bundle_without_text_says_so(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "b", objects=(), heads=False)
    assert made.objects == ()
    assert made.texts() == {}
    with pytest.raises(UsageError, match="holds no text embeddings"):
        made.text("bottle")


def test_a_text_file_brings_further_objects(bundle: Bundle, tmp_path: Path) -> None:
    path = write_text(tmp_path / "screw.safetensors")
    name, rows = bundle.text(None, file=path)
    assert name == "screw"
    np.testing.assert_array_equal(rows, unit(np.random.default_rng(1), 2, 16))
    with pytest.raises(UsageError, match="'screw'"):
        bundle.text("bottle", file=path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights_sha256": "cd" * 32}, "weights"),
        ({"activation": "quick-gelu"}, "activation gelu .* found quick-gelu"),
        ({"embeddings": {"screw": unit(np.random.default_rng(0), 2, 8)}}, "width 16 .* found 8"),
    ],
)
def test_text_of_another_model_is_refused(bundle: Bundle, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = write_text(tmp_path / "t", **changes)
    with pytest.raises(FormatError, match=said):
        bundle.texts(path)


def test_the_bytes_of_a_text_file_are_these(tmp_path: Path) -> None:
    rows = np.array([[1, 0], [0, -1]], np.float32)
    path = write_text(tmp_path / "t", embeddings={"nut": rows})
    header = (
        '{"__metadata__":{"activation":"gelu","pack":"april-gan","schema":"edgevand.text/1",'
        f'"weights_sha256":"{WEIGHTS_SHA256}"}},"nut":{{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}}}'
    ).encode()
    header += b" " * (-len(header) % 8)
    assert path.read_bytes() == struct.pack("<Q", len(header)) + header + struct.pack("<4f", 1, 0, 0, -1)
    read = read_text_file(path)
    assert (read.pack, read.activation, read.weights_sha256) == ("april-gan", "gelu", WEIGHTS_SHA256)
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "embeddings",
    [
        {"": unit(np.random.default_rng(0), 2, 16)},
        {" nut": unit(np.random.default_rng(0), 2, 16)},
        {"__metadata__": unit(np.random.default_rng(0), 2, 16)},
        {"n\nut": unit(np.random.default_rng(0), 2, 16)},
        {"n" * 201: unit(np.random.default_rng(0), 2, 16)},
        {"nut": unit(np.random.default_rng(0), 3, 16)},
        {"nut": unit(np.random.default_rng(0), 2, 16).astype(np.float16)},
        {"nut": 1.01 * unit(np.random.default_rng(0), 2, 16)},
        {"nut": np.full((2, 16), np.nan, np.float32)},
        {"nut": np.zeros((2, 0), np.float32)},
    ],
)
def test_embeddings_that_are_no_pairs_of_unit_vectors_are_not_written(
    tmp_path: Path, embeddings: dict[str, np.ndarray]
) -> None:
    with pytest.raises(FormatError):
        write_text(tmp_path / "t", embeddings=embeddings)
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("metadata", [None, {"schema": "edgevand.text/2"}, {"schema": "edgevand.text/1"}])
def test_a_tensor_file_that_is_no_text_file_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    write_tensors(tmp_path / "t", {"nut": unit(np.random.default_rng(0), 2, 16)}, metadata)
    with pytest.raises(FormatError, match=r"edgevand\.text/1"):
        read_text_file(tmp_path / "t")


def test_a_bundle_is_not_written_over_another_unless_asked(tmp_path: Path) -> None:
    first = make_bundle(tmp_path / "b")
    with pytest.raises(OutputError, match="something is already there"):
        make_bundle(tmp_path / "b", seed=1)
    assert Bundle.open(tmp_path / "b").hash == first.hash


def test_only_a_bundle_is_ever_replaced(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "b")
    fields = made.manifest.model_dump(exclude={"schema_", "created", "generator", "files"})

    def copy(folder: Path) -> None:
        for name in made.manifest.files:
            (folder / name).write_bytes((made.path / name).read_bytes())

    again = write_bundle(tmp_path / "b2", fields, copy, replace=True)
    assert write_bundle(tmp_path / "b2", fields, copy, replace=True).manifest.files == again.manifest.files
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_text("x")
    with pytest.raises(OutputError, match="no bundle"):
        write_bundle(tmp_path / "photos", fields, copy, replace=True)
    assert (tmp_path / "photos" / "holiday.jpg").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"embedding_dim": 17},
        {"embedding_dim": 0},
        {"golden": "other.safetensors"},
        {"stages": []},
        {"logit_scale": float("nan")},
        {"colour": "red"},
        {"text": {"pack": "april-gan", "objects": ["another"]}},
        {"text": {"pack": "april-gan", "objects": ["object", "object"]}},
    ],
)
def test_a_bundle_whose_fields_do_not_fit_its_files_is_not_written(tmp_path: Path, fields: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        make_bundle(tmp_path / "b", **fields)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_export_leaves_nothing(tmp_path: Path, bundle: Bundle) -> None:
    def fail(folder: Path) -> None:
        (folder / "encoder.onnx").write_bytes(b"x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_bundle(tmp_path / "b", {}, fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["none", "file", "empty"])
def test_where_no_bundle_is_the_sentence_says_how_to_make_one(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match=r"expected a bundle .* make one with edgevand export") as caught:
        Bundle.open(tmp_path / place)
    assert caught.value.exit_code == 2
