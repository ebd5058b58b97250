"""A bank that is larger than its memory: enrolled, opened, changed, explained, and refused where it was spoiled."""

from __future__ import annotations

import json
import mmap
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgevand.bank import Bank, undo_bank
from edgevand.cli import main
from edgevand.errors import FormatError, OutputError, UsageError
from edgevand.tensors import read_tensor_file, write_tensors
from edgevand_runtime.bank_writer import told_of_coreset
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import open_engine
from edgevand_runtime.enroll import EnrolOptions, append_frames, enroll, remove_frames
from edgevand_runtime.explain import Explainer
from edgevand_runtime.features import open_memory
from edgevand_runtime.memory import MemoryBank
from edgevand_runtime.sources import open_source
from edgevand_runtime.spool import Spool
from tests.core.attacks import edit, sign
from tests.runtime.test_explain import scored
from tests.tiny import draw_part, write_parts, write_tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgevand.bundle import Bundle

LIMIT = 4 / 1024
"""MB: 170 of the 384 patches of six frames, 12 channels in half precision each."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight good parts, six and two of them, a bundle, and a bank of the six."""
    path = tmp_path_factory.mktemp("compressed")
    paths = write_parts(path / "parts", "." * 8, start=1000)
    for name, some in (("six", paths[:6]), ("two", paths[6:])):
        (path / name).mkdir()
        for part in some:
            shutil.copy(part, path / name)
    bundle = write_tiny_bundle(path / "bundle")
    enrolled(bundle, path / "six", path / "bank")
    return path


@pytest.fixture
def bundle(folder: Path) -> Bundle:
    from edgevand.bundle import Bundle

    return Bundle.open(folder / "bundle")


@pytest.fixture
def bank(folder: Path, tmp_path: Path, bundle: Bundle) -> Bank:
    shutil.copytree(folder / "bank", tmp_path / "bank")
    return Bank.open(tmp_path / "bank", bundle)


def enrolled(bundle: Bundle, source: Path, target: Path, limit: float = LIMIT) -> Bank:
    engine = open_engine(bundle, backend="onnxruntime", device="cpu", threads=1)
    with open_source(source) as opened:
        done = enroll(opened, bundle, engine, target, EnrolOptions(shots=None, memory_mb=limit))
    engine.close()
    return done.bank


def appended(bank: Bank, bundle: Bundle, source: Path) -> Bank:
    engine = open_engine(bundle, backend="onnxruntime", device="cpu", threads=1)
    with open_source(source) as opened:
        done = append_frames(bank, opened, bundle, engine, EnrolOptions(shots=None))
    engine.close()
    return done.bank


def assert_same(one: Bank, other: Bank) -> None:
    """Features, coreset, calibration and what is told of them; not names, times and versions."""
    assert one.record.coreset == other.record.coreset
    assert one.record.calibration == other.record.calibration
    assert one.coreset is not None
    assert other.coreset is not None
    for tensors, others in ((one.features, other.features), (one.coreset, other.coreset)):
        assert set(tensors) == set(others)
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(tensor, others[name])


def test_a_bank_keeps_all_features_and_searches_what_its_memory_holds(bank: Bank, bundle: Bundle) -> None:
    coreset = bank.record.coreset
    assert coreset is not None
    assert bank.coreset is not None
    assert bank.features["tokens_1"].shape == (6, 1, 64, 12)
    assert (coreset.of, coreset.rows) == ((384,), (170,))
    assert bank.coreset["rows_1"].nbytes <= LIMIT * 2**20
    every = bank.features["tokens_1"].reshape(-1, 12)
    np.testing.assert_allclose(bank.coreset["rows_1"], every[bank.coreset["places_1"]], atol=2**-11)
    nearest = (every.astype(np.float64) @ bank.coreset["rows_1"].T.astype(np.float64)).max(axis=1)
    assert coreset.radius[0] == pytest.approx((1 - nearest).max(), abs=1e-5)
    queries = [np.stack([draw(12, 40), draw(12, 41)])]
    found = open_memory(bundle.manifest, bank).distances(queries)[0]
    similarity = queries[0].astype(np.float64) @ bank.coreset["rows_1"].T.astype(np.float64)
    np.testing.assert_allclose(found, 1 - similarity.max(axis=-1), atol=1e-5)


def draw(width: int, seed: int) -> np.ndarray:
    """Unit vectors of one frame that was not enrolled: (64, C) float32."""
    rows = np.random.default_rng(seed).standard_normal((64, width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def test_the_measured_change_is_that_of_scores_against_every_row(folder: Path, bank: Bank, bundle: Bundle) -> None:
    """All rows are searched by the bank that was enrolled with memory enough, of the same frames."""
    exact = enrolled(bundle, folder / "six", bank.path.parent / "exact", limit=1.0)
    assert exact.coreset is None
    coreset, limit = bank.record.coreset, bank.record.calibration.image
    assert coreset is not None
    assert limit is not None
    held, every = np.array(bank.record.calibration.scores), np.array(exact.record.calibration.scores)
    assert coreset.frames == 6
    assert coreset.moved == pytest.approx(np.abs(held - every).max(), rel=1e-3)
    assert coreset.moved_sd == pytest.approx(np.abs(np.log(held / every)).max() / limit.sd, rel=1e-3)
    told = told_of_coreset(bank.record)
    assert told is not None
    assert "holds 170 of 384 patches" in told
    assert f"the 6 enrolled frames, left out, move by at most {coreset.moved:.3g}" in told
    assert told_of_coreset(exact.record) is None


def test_appending_to_a_compressed_bank_equals_enrolling_all_at_once_and_undo_goes_back(
    folder: Path, bank: Bank, bundle: Bundle
) -> None:
    longer = appended(bank, bundle, folder / "two")
    assert_same(longer, enrolled(bundle, folder / "parts", bank.path.parent / "whole"))
    assert longer.record.coreset is not None
    assert longer.record.coreset.of == (512,)
    back = undo_bank(bank.path)
    assert back.hash == bank.hash
    assert_same(back, bank)


def test_removing_frames_equals_never_having_enrolled_them(folder: Path, bank: Bank, bundle: Bundle) -> None:
    longer = appended(bank, bundle, folder / "two")
    assert_same(remove_frames(longer, bundle, [7, 8]).bank, bank)


def test_with_frames_taken_out_until_all_rows_fit_every_row_is_searched_again(bank: Bank, bundle: Bundle) -> None:
    """Two frames in half precision take 3 kB of the 4."""
    less = remove_frames(bank, bundle, [1, 2, 3, 5]).bank
    assert less.record.coreset is None
    assert not (less.path / "coreset.safetensors").exists()
    assert less.record.memory_mb == LIMIT
    queries = [draw(12, 42)[None]]
    expected = 1 - (queries[0].astype(np.float64) @ less.features["tokens_1"].reshape(-1, 12).T).max(axis=-1)
    np.testing.assert_allclose(open_memory(bundle.manifest, less).distances(queries)[0], expected, atol=2**-11)


def test_an_explanation_names_frame_and_patch_of_a_compressed_bank(bank: Bank, bundle: Bundle) -> None:
    with Detector(bundle, open_engine(bundle, backend="onnxruntime", device="cpu", threads=1), bank) as detector:
        item = scored(detector, draw_part(7, defective=True))
        assert item.result.anomalous
        (found,) = Explainer(detector).nearest(item, item.result.regions[0])
    frame = next(n for n, each in enumerate(bank.record.frames) if each.id == found.enrolled)
    named = bank.features["tokens_1"][frame, found.copy, found.at[0] * 8 + found.at[1]]
    query = item.outputs.tokens[0][1, found.found_at[0] * 8 + found.found_at[1]]
    assert found.distance == pytest.approx(1 - float(named @ query), abs=1e-3)


def test_features_that_are_larger_than_the_banks_memory_stay_on_the_disk(
    folder: Path, bank: Bank, bundle: Bundle
) -> None:
    """Six frames take 18 kB in single precision, and 9 kB in half, which a bank of 10 kB searches whole."""
    half = enrolled(bundle, folder / "six", bank.path.parent / "half", limit=10 / 1024)
    whole = enrolled(bundle, folder / "six", bank.path.parent / "whole", limit=1.0)
    assert half.coreset is None
    for opened, kind in ((bank, mmap.mmap), (half, mmap.mmap), (whole, bytes)):
        base: Any = opened.features["tokens_1"]
        while isinstance(base, np.ndarray):
            base = base.base
        assert isinstance(base.obj, kind)


def test_a_bank_from_before_there_were_limits_is_searched_whole(folder: Path, bank: Bank, bundle: Bundle) -> None:
    old = enrolled(bundle, folder / "six", bank.path.parent / "old", limit=1.0)
    edit(old.path, "memory_mb", value=LIMIT)
    document = json.loads((old.path / "bank.json").read_text())
    del document["coreset"]
    (old.path / "bank.json").write_text(json.dumps(document))
    opened = Bank.open(old.path, bundle)
    queries = [draw(12, 43)[None]]
    found = open_memory(bundle.manifest, opened).distances(queries)[0]
    expected = MemoryBank([opened.features["tokens_1"]]).distances(queries)[0]
    np.testing.assert_allclose(found, expected, atol=2**-11)


def spoil_coreset(root: Path, name: str, change: Callable[[Any], np.ndarray]) -> None:
    """Change a tensor of the coreset and sign it, as somebody would who means harm."""
    file = read_tensor_file(root / "coreset.safetensors")
    write_tensors(root / "coreset.safetensors", {**file.tensors, name: change(file.tensors.get(name))}, file.metadata)
    sign(root, "coreset.safetensors")


def cut_off(root: Path) -> None:
    path = root / "coreset.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def cut_off_and_signed(root: Path) -> None:
    cut_off(root)
    sign(root, "coreset.safetensors")


def of_other_features(root: Path) -> None:
    file = read_tensor_file(root / "coreset.safetensors")
    write_tensors(root / "coreset.safetensors", file.tensors, {"features": "0" * 64})
    sign(root, "coreset.safetensors")


def features_changed(root: Path) -> None:
    file = read_tensor_file(root / "features.safetensors")
    write_tensors(root / "features.safetensors", {**file.tensors, "embedding": -file.tensors["embedding"]})


def features_changed_and_signed(root: Path) -> None:
    features_changed(root)
    sign(root, "features.safetensors")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut_off, "expected .*coreset.safetensors to have .* bytes"),
        (cut_off_and_signed, "damaged"),
        (lambda root: (root / "coreset.safetensors").unlink(), "expected the file coreset.safetensors"),
        (of_other_features, "expected .* to be of the features beside it"),
        (features_changed, "features.safetensors to have the sha256"),
        (features_changed_and_signed, "expected .* to be of the features beside it"),
        (lambda root: spoil_coreset(root, "rows_1", lambda rows: rows[:-1]), "expected 170 rows of 12"),
        (lambda root: spoil_coreset(root, "rows_1", lambda rows: rows.astype(np.float32)), "half precision"),
        (lambda root: spoil_coreset(root, "rows_1", lambda rows: rows * np.float16(2)), "length 1"),
        (lambda root: spoil_coreset(root, "rows_1", lambda rows: rows * np.float16(np.nan)), "finite"),
        (lambda root: spoil_coreset(root, "places_1", lambda places: places[::-1].copy()), "expected the places"),
        (lambda root: spoil_coreset(root, "places_1", lambda places: places + 384), "expected the places"),
        (lambda root: spoil_coreset(root, "extra", lambda _: np.zeros(1, np.int64)), "expected rows and places"),
        (lambda root: edit(root, "coreset", "of", value=[385]), "tell of"),
        (lambda root: edit(root, "coreset", "radius", value=[]), "tell of"),
        (lambda root: edit(root, "coreset", value=None), "not to be listed"),
    ],
)
def test_a_spoiled_coreset_is_refused_with_a_sentence(
    bank: Bank, bundle: Bundle, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(bank.path)
    with pytest.raises(FormatError, match=said):
        Bank.open(bank.path, bundle)


def test_a_memory_without_room_for_a_patch_is_refused_and_nothing_is_written(
    folder: Path, bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"expected the bank's memory to hold a patch of each stage, .*--bank-memory"):
        enrolled(bundle, folder / "six", tmp_path / "bank", limit=1e-6)
    assert list(tmp_path.iterdir()) == []
    for limit in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="expected --bank-memory of more than 0 MB"):
            EnrolOptions(memory_mb=limit)


def test_the_commands_say_what_is_held(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--bundle", str(folder / "bundle"), "-o", str(tmp_path / "bank"), "--backend", "onnxruntime"]
    assert main(["enroll", "--source", str(folder / "six"), "--all", "--bank-memory", str(LIMIT), *place]) == 0
    assert "holds 170 of 384 patches" in " ".join(capsys.readouterr().err.split())
    assert main(["info", str(tmp_path / "bank")]) == 0
    assert "170 of 384" in " ".join(capsys.readouterr().out.split())
    given = ["--source", str(folder / "two"), "--append", "--bank", str(tmp_path / "bank"), "--bank-memory", "1"]
    assert main(["enroll", *given]) == 2
    assert "--append to keep the bank's own settings, found --bank-memory" in " ".join(capsys.readouterr().err.split())


def test_a_spool_gives_back_what_it_took_leaves_no_file_and_says_why_it_cannot_write(tmp_path: Path) -> None:
    arrays = [np.random.default_rng(seed).random((2, 3)).astype(np.float16) for seed in range(5)]
    spool = Spool(tmp_path / "new", arrays[0])
    assert [spool.add(array) for array in arrays[:3]] == [0, 1, 2]
    np.testing.assert_array_equal(spool.arrays(), np.stack(arrays[:3]))
    assert [spool.add(array) for array in arrays[3:]] == [3, 4]
    np.testing.assert_array_equal(spool.arrays(), np.stack(arrays))
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        Spool(tmp_path / "file", arrays[0])
