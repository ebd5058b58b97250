"""Banks: what is written is what is opened; former versions are kept and come back."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import struct
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from edgevand import versions
from edgevand.bank import KEPT_VERSIONS, Bank, undo_bank, write_bank
from edgevand.errors import BadInputError, FormatError, OutputError, UsageError
from tests.core.builders import bank_features, bank_fields, make_bank, make_bundle, picture

if TYPE_CHECKING:
    from pathlib import Path

    from edgevand.bundle import Bundle


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing is tested with the staging; here it would only wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle that the banks belong to."""
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b")


@pytest.mark.parametrize("object_name", [None, "object"])
@pytest.mark.parametrize("half", [False, True])
def test_opening_gives_back_what_was_written(
    tmp_path: Path, bundle: Bundle, object_name: str | None, *, half: bool
) -> None:
    written = make_bank(tmp_path / "k", bundle, frames=4, copies=2, object_name=object_name, half=half)
    expected = bank_features(bundle, frames=4, copies=2, object_name=object_name, half=half)
    opened = Bank.open(tmp_path / "k", bundle)
    assert opened.record == written.record
    assert set(opened.features) == set(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(opened.features[name], tensor)
        assert opened.features[name].dtype == tensor.dtype
    assert opened.features["tokens_1"].shape == (4, 3, 16, 8)
    assert (opened.record.version, opened.record.previous) == (1, None)
    with Image.open(opened.thumbnail(3)) as thumbnail:
        assert thumbnail.size == (64, 48)


def test_the_hash_is_that_of_the_record_which_names_every_file(tmp_path: Path, bundle: Bundle) -> None:
    bank = make_bank(tmp_path / "k", bundle)
    data = (bank.path / "bank.json").read_bytes()
    assert bank.hash == "sha256:" + hashlib.sha256(data).hexdigest()
    listed = json.loads(data)["files"]
    assert sorted(listed) == [
        "contact-sheet.jpg",
        "features.safetensors",
        "frames/0001.jpg",
        "frames/0002.jpg",
        "frames/0003.jpg",
    ]
    for name, file in listed.items():
        assert file["sha256"] == hashlib.sha256((bank.path / name).read_bytes()).hexdigest()


def test_a_bank_of_another_bundle_is_refused(tmp_path: Path, bundle: Bundle) -> None:
    other = make_bundle(tmp_path / "other", seed=1)
    bank = make_bank(tmp_path / "k", other)
    assert Bank.open(bank.path).hash == bank.hash
    with pytest.raises(FormatError, match=r"expected a bank of the bundle .* give that bundle with --bundle"):
        Bank.open(bank.path, bundle)


def test_a_rectangle_becomes_a_mask(tmp_path: Path, bundle: Bundle) -> None:
    mask = make_bank(tmp_path / "k", bundle, roi=(2, 3, 10, 20)).roi_mask()
    assert mask is not None
    assert mask.shape == (48, 64)
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 22, 2, 11)
    assert set(np.unique(mask)) == {0, 255}
    assert np.count_nonzero(mask) == 200
    assert make_bank(tmp_path / "k2", bundle).roi_mask() is None


def test_a_mask_comes_back_as_it_was_drawn(tmp_path: Path, bundle: Bundle) -> None:
    drawn = np.where(np.random.default_rng(0).random((48, 64)) < 0.5, 255, 0).astype(np.uint8)
    make_bank(tmp_path / "k", bundle, mask=drawn)
    np.testing.assert_array_equal(Bank.open(tmp_path / "k").roi_mask(), drawn)


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n" + bytes(8) + struct.pack(">II", 64, 48),
        png(np.zeros((47, 64), np.uint8)),
        png(np.full((48, 64), 7, np.uint8)),
        png(np.zeros((48, 64, 3), np.uint8)),
        png(np.zeros((48, 64), np.uint16)),
        b"\x89PNG\r\n\x1a\n" + bytes(8) + struct.pack(">II", 100000, 100000) + bytes(9),
    ],
)
def test_a_mask_file_that_is_no_mask_of_the_frame_is_refused(tmp_path: Path, bundle: Bundle, data: bytes) -> None:
    fields = bank_fields(bundle, 1) | {"roi": "roi.png"}
    jpeg = picture(48, 64, 0, "JPEG")
    bank = write_bank(tmp_path / "k", fields, bank_features(bundle, frames=1), {1: jpeg}, data, jpeg)
    with pytest.raises(FormatError, match="PNG mask of 64x48"):
        bank.roi_mask()


@pytest.mark.parametrize(
    "fields",
    [
        {"roi": (0, 0, 65, 48)},
        {"roi": (-1, 0, 5, 5)},
        {"roi": (0, 0, 0, 5)},
        {"roi": "roi.png"},
        {"frame_size": (0, 48)},
        {"frame_size": (64.5, 48)},
        {"bundle": "sha256:1"},
        {"object": "object"},
        {"interval": float("nan")},
        {"colour": 1},
        {"calibration": {"kind": "guess"}},
    ],
)
def test_a_bank_whose_fields_contradict_each_other_is_not_written(
    tmp_path: Path, bundle: Bundle, fields: dict[str, Any]
) -> None:
    with pytest.raises(FormatError):
        make_bank(tmp_path / "k", bundle, **fields)
    assert list(tmp_path.iterdir()) == []


def test_a_bank_of_no_frame_or_of_one_frame_twice_is_not_written(tmp_path: Path, bundle: Bundle) -> None:
    jpeg = picture(48, 64, 0, "JPEG")
    for numbers in ((), (1, 1), (0,), (10000,)):
        fields = bank_fields(bundle, 1)
        fields["frames"] = [fields["frames"][0] | {"id": number} for number in numbers]
        thumbnails = dict.fromkeys(numbers, jpeg)
        with pytest.raises(FormatError, match="frames"):
            write_bank(tmp_path / "k", fields, bank_features(bundle, frames=2), thumbnails, None, jpeg)
    assert list(tmp_path.iterdir()) == []


def altered(features: dict[str, np.ndarray], name: str, value: np.ndarray | None) -> dict[str, np.ndarray]:
    result = {**features, name: value}
    return {key: tensor for key, tensor in result.items() if tensor is not None}


def spoiled(tensor: np.ndarray, value: float) -> np.ndarray:
    result = tensor.copy()
    result.flat[7] = value
    return result


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("embedding", lambda t: None, "expected the tensors"),
        ("tokens_1", lambda t: None, "logits_1"),
        ("text", lambda t: None, "expected the tensors"),
        ("extra", lambda t: np.zeros(3, np.float32), "expected the tensors"),
        ("tokens_1", lambda t: t[:2], "4 dimensions for 3 frames"),
        ("tokens_1", lambda t: t[:, 0], "4 dimensions"),
        ("tokens_1", lambda t: np.repeat(t, 2, 1), "as many augmented copies"),
        ("tokens_1", lambda t: t.astype(np.float32).view(np.uint8), "uint8"),
        ("embedding", lambda t: t.astype(np.float16), "float16"),
        ("tokens_1", lambda t: spoiled(t, np.nan), "finite vectors of length 1"),
        ("tokens_2", lambda t: spoiled(t, np.inf), "finite vectors of length 1"),
        ("tokens_2", lambda t: t * 1.1, "length 1"),
        ("embedding", lambda t: t * 0.9, "length 1"),
        ("logits_1", lambda t: spoiled(t, np.nan), "finite values"),
        ("text", lambda t: t * 2, "length 1"),
    ],
)
def test_features_that_do_not_fit_are_not_written(
    tmp_path: Path, bundle: Bundle, name: str, change: Any, said: str
) -> None:
    features = bank_features(bundle, object_name="object")
    features = altered(features, name, change(features.get(name)))
    jpeg = picture(48, 64, 0, "JPEG")
    fields = bank_fields(bundle, 3) | {"object": "object"}
    with pytest.raises(FormatError, match=said):
        write_bank(tmp_path / "k", fields, features, dict.fromkeys((1, 2, 3), jpeg), None, jpeg)
    assert list(tmp_path.iterdir()) == []


def test_a_patch_that_the_network_left_at_zero_is_allowed(tmp_path: Path, bundle: Bundle) -> None:
    features = bank_features(bundle)
    features["tokens_1"][0, 0, 3] = 0.0
    jpeg = picture(48, 64, 0, "JPEG")
    write_bank(tmp_path / "k", bank_fields(bundle, 3), features, dict.fromkeys((1, 2, 3), jpeg), None, jpeg)
    assert not Bank.open(tmp_path / "k", bundle).features["tokens_1"][0, 0, 3].any()


@pytest.mark.parametrize("change", [{"grid": 2}, {"width": 4}, {"dim": 8}, {"stages": (1,)}, {"stages": (1, 3)}])
def test_features_of_another_shape_than_the_bundle_says_are_refused(
    tmp_path: Path, bundle: Bundle, change: dict[str, Any]
) -> None:
    other = make_bundle(tmp_path / "other", **change)
    bank = make_bank(tmp_path / "k", other, bundle=bundle.hash)
    with pytest.raises(FormatError, match=r"as the bundle says|expected the tensors"):
        Bank.open(bank.path, bundle)


def test_a_bank_is_not_written_over_another_unless_asked(tmp_path: Path, bundle: Bundle) -> None:
    first = make_bank(tmp_path / "k", bundle)
    with pytest.raises(OutputError, match="something is already there"):
        make_bank(tmp_path / "k", bundle, seed=1)
    assert Bank.open(tmp_path / "k").hash == first.hash
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


def test_only_a_bank_is_ever_replaced(tmp_path: Path, bundle: Bundle) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_text("x")
    with pytest.raises(OutputError, match="expected a bank there"):
        make_bank(tmp_path / "photos", bundle, replace=True)
    assert (tmp_path / "photos" / "holiday.jpg").read_text() == "x"


def test_undo_goes_back_to_the_version_that_was_replaced(tmp_path: Path, bundle: Bundle) -> None:
    path = tmp_path / "k"
    banks = [make_bank(path, bundle, seed=number, replace=True) for number in range(3)]
    hashes = {bank.record.version: bank.hash for bank in banks}
    assert sorted(hashes) == [1, 2, 3]
    assert undo_bank(path).hash == hashes[2]
    assert undo_bank(path).hash == hashes[1]
    with pytest.raises(UsageError, match=r"at version 1: expected a former version to go back to, found 2, 3"):
        undo_bank(path)
    assert undo_bank(path, 3).hash == hashes[3]
    assert Bank.open(path, bundle).hash == hashes[3]


def test_after_an_undo_and_a_new_enrolment_undo_skips_what_was_undone(tmp_path: Path, bundle: Bundle) -> None:
    path = tmp_path / "k"
    first = make_bank(path, bundle)
    make_bank(path, bundle, seed=1, replace=True)
    undo_bank(path)
    third = make_bank(path, bundle, seed=2, replace=True)
    assert (third.record.version, third.record.previous) == (3, 1)
    assert undo_bank(path).hash == first.hash


def test_there_is_nothing_to_undo_in_a_first_bank(tmp_path: Path, bundle: Bundle) -> None:
    bank = make_bank(tmp_path / "k", bundle)
    with pytest.raises(UsageError, match="expected a former version to go back to, found none"):
        undo_bank(bank.path)
    with pytest.raises(UsageError, match="expected version 7 to be kept"):
        undo_bank(bank.path, 7)
    with pytest.raises(BadInputError, match="expected a bank"):
        undo_bank(tmp_path / "none")


def test_a_damaged_former_version_does_not_come_back(tmp_path: Path, bundle: Bundle) -> None:
    path = tmp_path / "k"
    make_bank(path, bundle)
    second = make_bank(path, bundle, seed=1, replace=True)
    kept = tmp_path / ".k.versions" / "1" / "features.safetensors"
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(FormatError):
        undo_bank(path)
    assert Bank.open(path).hash == second.hash


def test_only_so_many_versions_are_kept(tmp_path: Path, bundle: Bundle) -> None:
    for number in range(KEPT_VERSIONS + 3):
        bank = make_bank(tmp_path / "k", bundle, frames=1, seed=number, replace=True)
    assert list(versions.kept(bank.path)) == list(range(3, KEPT_VERSIONS + 3))


def test_a_failing_replacement_leaves_the_present_bank(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_bank(tmp_path / "k", bundle)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        make_bank(tmp_path / "k", bundle, seed=1, replace=True)
    with pytest.raises(UsageError, match="former version"):
        undo_bank(tmp_path / "k")
    assert Bank.open(tmp_path / "k").hash == first.hash
    assert not list(tmp_path.glob(".*.partial"))


def test_versions_are_kept_where_the_file_system_has_no_links(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    first = make_bank(tmp_path / "k", bundle)
    make_bank(tmp_path / "k", bundle, seed=1, replace=True)
    assert undo_bank(tmp_path / "k").hash == first.hash


def test_a_bank_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "k"
    make_bank(path, bundle)
    other = make_bank(tmp_path / "other", bundle, seed=2, frames=2)
    read = Bank._open_once

    def replace_first(*arguments: Any) -> Bank:
        if other.path.exists():
            shutil.rmtree(path)
            other.path.rename(path)
        return read(*arguments)

    monkeypatch.setattr(Bank, "_open_once", replace_first)
    assert Bank.open(path, bundle).hash == other.hash


def test_readers_never_see_half_a_bank_and_writers_take_turns(tmp_path: Path, bundle: Bundle) -> None:
    path = tmp_path / "k"
    make_bank(path, bundle)
    errors: list[BaseException] = []

    def write(seed: int) -> None:
        try:
            for number in range(4):
                make_bank(path, bundle, seed=10 * seed + number, replace=True)
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)

    writers = [threading.Thread(target=write, args=(seed,)) for seed in (1, 2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        Bank.open(path, bundle)
    for writer in writers:
        writer.join()
    assert errors == []
    assert Bank.open(path).record.version == 9
