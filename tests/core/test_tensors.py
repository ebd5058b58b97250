"""The safetensors files that edgevand writes and reads, held against the safetensors library and literal bytes."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevand.errors import BadInputError, FormatError
from edgevand.tensors import read_tensor_file, read_tensors, tensor_bytes, write_tensors

if TYPE_CHECKING:
    from pathlib import Path

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda name: name != "__metadata__")
arrays = st.builds(
    lambda dtype, shape, seed: np.random.default_rng(seed).integers(0, 200, shape).astype(dtype),
    st.sampled_from(["u1", "f2", "f4", "i8"]),
    st.lists(st.integers(1, 5), max_size=4),
    st.integers(0, 99),
)


ONE = b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'


def file_of(header: object, data: bytes = b"") -> bytes:
    """A file with this JSON header, whatever it claims."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(begin: int, end: int, shape: list[Any], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_the_bytes_of_a_file_are_these() -> None:
    tensors: dict[str, np.ndarray] = {"b": np.array([[1.0, -2.0]], np.float32), "a": np.array([7], np.uint8)}
    header = (
        b'{"__metadata__":{"k":"v"},'
        b'"b":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},'
        b'"a":{"dtype":"U8","shape":[1],"data_offsets":[8,9]}}'
    )
    header += b" " * (-len(header) % 8)
    expected = struct.pack("<Q", len(header)) + header + b"\x00\x00\x80\x3f\x00\x00\x00\xc0" + b"\x07"
    assert tensor_bytes(tensors, {"k": "v"}) == expected


@FUZZ
@given(st.dictionaries(names, arrays, min_size=1, max_size=5))
def test_the_library_writes_the_same_bytes_and_reads_the_same_tensors(
    tmp_path: Path, tensors: dict[str, np.ndarray]
) -> None:
    data = tensor_bytes(tensors)
    loaded = safetensors.numpy.load(data)
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.numpy.save(tensors))
    own, metadata, sha256 = read_tensor_file(path)
    assert metadata == {}
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert set(own) == set(loaded) == set(tensors)
    assert all(np.array_equal(loaded[name], tensors[name]) for name in tensors)
    assert all(np.array_equal(own[name], tensors[name]) and own[name].dtype == tensors[name].dtype for name in tensors)
    if all(json.dumps(name, ensure_ascii=False).isprintable() for name in tensors):
        assert data == path.read_bytes()


def test_the_order_of_the_arguments_does_not_change_the_bytes() -> None:
    one, other = np.zeros((2, 3), np.float32), np.ones(4, np.float16)
    assert tensor_bytes({"a": one, "b": other}) == tensor_bytes({"b": other, "a": one})


def test_a_big_endian_or_strided_array_is_written_in_order(tmp_path: Path) -> None:
    array = np.arange(12, dtype=">f4").reshape(3, 4)[::2, ::-1]
    write_tensors(tmp_path / "x", {"a": array})
    assert read_tensors(tmp_path / "x")["a"].tolist() == array.tolist()


def test_tensors_are_read_only(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x", {"a": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match="read-only"):
        read_tensors(tmp_path / "x")["a"][0] = 1


def test_a_dtype_that_the_format_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="float64"):
        tensor_bytes({"a": np.zeros(3)})


BROKEN = {
    "an empty file": b"",
    "seven bytes": b"1234567",
    "a header of 10 GB": struct.pack("<Q", 10 * 2**30) + b"{}",
    "a header of 2^64-1 bytes": b"\xff" * 8 + b"{}",
    "a header longer than the file": struct.pack("<Q", 1000) + b"{}",
    "a header that is no JSON": struct.pack("<Q", 8) + b"notjson!",
    "a header that is a list": file_of([]),
    "a header that is not UTF-8": struct.pack("<Q", 4) + b'{"\xff"',
    "a header nested 100000 deep": struct.pack("<Q", 200000) + b"[" * 200000,
    "a name twice": struct.pack("<Q", 2 * len(ONE) + 3) + b"{" + ONE + b"," + ONE + b"}x",
    "a gap before the first tensor": file_of({"a": entry(4, 8, [1])}, bytes(8)),
    "a gap between tensors": file_of({"a": entry(0, 4, [1]), "b": entry(8, 12, [1])}, bytes(12)),
    "overlapping tensors": file_of({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, bytes(12)),
    "the same bytes for two tensors": file_of({"a": entry(0, 4, [1]), "b": entry(0, 4, [1])}, bytes(4)),
    "truncated tensors": file_of({"a": entry(0, 8, [2])}, bytes(7)),
    "bytes behind the last tensor": file_of({"a": entry(0, 8, [2])}, bytes(9)),
    "bytes and no tensor": file_of({}, b"x"),
    "a shape that does not fit its bytes": file_of({"a": entry(0, 8, [3])}, bytes(8)),
    "a shape of 10 GB": file_of({"a": entry(0, 8, [10 * 2**30])}, bytes(8)),
    "a shape that overflows 64 bits to fit": file_of({"a": entry(0, 8, [2**62, 4, 2**62, 2])}, bytes(8)),
    "an empty tensor": file_of({"a": entry(0, 0, [0])}),
    "a negative side": file_of({"a": entry(0, 8, [-1, -2])}, bytes(8)),
    "a fractional side": file_of({"a": entry(0, 8, [2.0])}, bytes(8)),
    "a boolean side": file_of({"a": entry(0, 4, [True])}, bytes(4)),
    "a text as shape": file_of({"a": entry(0, 8, "2")}, bytes(8)),  # type: ignore[arg-type]
    "three offsets": file_of({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 4]}}, bytes(4)),
    "offsets backwards": file_of({"a": entry(4, 0, [1])}, bytes(4)),
    "nine dimensions": file_of({"a": entry(0, 4, [1] * 9)}, bytes(4)),
    "an unknown dtype": file_of({"a": entry(0, 8, [1], "F64")}, bytes(8)),
    "a dtype that is a list": file_of({"a": {"dtype": [], "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "an unknown key": file_of({"a": {**entry(0, 4, [1]), "pickle": "x"}}, bytes(4)),
    "an entry that is a number": file_of({"a": 5}),
    "metadata of numbers": file_of({"__metadata__": {"a": 5}}),
    "metadata that is a list": file_of({"__metadata__": []}),
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(BROKEN[name])
    with pytest.raises(FormatError) as caught:
        read_tensors(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 400


def test_the_limit_on_the_header_is_the_callers(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_tensors(path, {"a" * 100: np.zeros(1, np.float32)})
    read_tensors(path, max_header=200)
    with pytest.raises(FormatError, match="at most 100 bytes"):
        read_tensors(path, max_header=100)


@FUZZ
@given(st.data())
def test_damage_anywhere_is_refused_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever happens to the bytes, reading ends in tensors or in a FormatError, never in another exception."""
    whole = bytearray(tensor_bytes({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(2, np.uint8)}))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(whole) - 1))
        whole[position] = data.draw(st.integers(0, 255))
    path = tmp_path / "x"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        tensors = read_tensors(path)
    except FormatError:
        return
    assert sum(tensor.nbytes for tensor in tensors.values()) <= len(whole)


def test_a_file_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="No such file"):
        read_tensors(tmp_path / "none")
    with pytest.raises(BadInputError, match="directory"):
        read_tensors(tmp_path)
