"""Safetensors files, read from memory after every claim of the header has been checked (docs/formats.md).

The file is read once; its bytes are hashed, checked and viewed in place, so that what was verified is what is used.
A file that may be larger than memory is mapped instead, and hashed as a stream.
Format: 8 bytes little-endian header length, a JSON header, the tensors' bytes without gaps.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from edgevand.errors import BadInputError, FormatError
from edgevand.records import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "MAX_HEADER",
    "TensorFile",
    "map_tensor_file",
    "read_tensor_file",
    "read_tensors",
    "tensor_bytes",
    "write_tensors",
]

MAX_HEADER = 1 << 20
_PREFIX = 8
_CHUNK = 1 << 20
_MAX_DIMENSIONS = 8
_DTYPES = {name: np.dtype(code) for name, code in {"U8": "u1", "F16": "<f2", "F32": "<f4", "I64": "<i8"}.items()}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class TensorFile(NamedTuple):
    """A file's content.

    Attributes:
        tensors: read-only arrays by name.
        metadata: the header's ``__metadata__``; empty where there is none.
        sha256: hex digest of the whole file.
    """

    tensors: dict[str, NDArray[Any]]
    metadata: dict[str, str]
    sha256: str


def read_tensors(path: Path, *, max_header: int = MAX_HEADER) -> dict[str, NDArray[Any]]:
    """Tensors of a safetensors file as read-only arrays: uint8, float16, float32 or int64, none empty.

    Raises:
        FormatError: the file is cut off or its header claims what is not there.
        BadInputError: it cannot be read.
    """
    return read_tensor_file(path, max_header=max_header).tensors


def read_tensor_file(path: Path, *, max_header: int = MAX_HEADER) -> TensorFile:
    """Like ``read_tensors``, with the metadata and the hash of the bytes that were read."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            header_size = _header_size(path, file, max_header)
            rest = file.read()
    except OSError as error:
        raise _unreadable(path, error) from error
    digest = hashlib.sha256(struct.pack("<Q", header_size))
    digest.update(rest)
    return _parsed(path, header_size, memoryview(rest), digest.hexdigest())


def map_tensor_file(path: Path, *, max_header: int = MAX_HEADER) -> TensorFile:
    """Like ``read_tensor_file``, but the tensors stay on the disk and are read as they are looked at.

    The hash is that of the file as it was when it was mapped. Whoever changes the bytes of a file in place afterwards
    changes the tensors; directories of edgevand are only ever replaced by renaming, which leaves a mapped file alone.
    """
    path = Path(path)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            header_size = _header_size(path, file, max_header)
            file.seek(0)
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
            whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise _unreadable(path, error) from error
    return _parsed(path, header_size, memoryview(whole)[_PREFIX:], digest.hexdigest())


def tensor_bytes(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None) -> bytes:
    """The one safetensors file that holds these tensors: the same tensors always give the same bytes.

    Tensors stand in order of falling item size, then of name, so that each is aligned; the header is padded with
    spaces to a multiple of eight bytes.

    Raises:
        TypeError: a dtype other than uint8, float16, float32 and int64.
    """
    return b"".join(_blocks(tensors, metadata))


def write_tensors(
    path: Path,
    tensors: Mapping[str, NDArray[Any] | Sequence[NDArray[Any]]],
    metadata: Mapping[str, str] | None = None,
) -> str:
    """Write ``tensor_bytes`` to a file inside a staging directory (it is not written atomically by itself).

    Args:
        path: the file.
        tensors: by name; a sequence of arrays of one shape and dtype, such as one for each frame, is the tensor that
            stacks them, and is never in memory as a whole.
        metadata: texts by name.

    Returns:
        Hex digest of the file's sha256.

    Raises:
        OSError: it cannot be written; ``staged_directory`` turns that into a sentence.
    """
    digest = hashlib.sha256()
    with Path(path).open("wb") as file:
        for block in _blocks(tensors, metadata):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _blocks(
    tensors: Mapping[str, NDArray[Any] | Sequence[NDArray[Any]]], metadata: Mapping[str, str] | None
) -> Iterator[bytes]:
    """The bytes of a file, one piece after the other: header, then each tensor or the parts that it is stacked of."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    parts = {name: [each] if isinstance(each, np.ndarray) else each for name, each in tensors.items()}
    names = sorted(tensors, key=lambda name: (-parts[name][0].dtype.itemsize, name))
    offset = 0
    for name in names:
        first = parts[name][0]
        dtype = first.dtype.newbyteorder("<")
        if dtype not in _NAMES:
            msg = f"tensor {name!r} has the dtype {first.dtype}; expected one of {', '.join(map(str, _NAMES))}"
            raise TypeError(msg)
        stacked = [] if isinstance(tensors[name], np.ndarray) else [len(parts[name])]
        end = offset + len(parts[name]) * first.nbytes
        header[name] = {"dtype": _NAMES[dtype], "shape": [*stacked, *first.shape], "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for name in names:
        for part in parts[name]:
            yield part.astype(part.dtype.newbyteorder("<"), copy=False).tobytes()


def _header_size(path: Path, file: BinaryIO, max_header: int) -> int:
    """The length of the header that a file begins with, before anything is allocated for it."""
    prefix = file.read(_PREFIX)
    size: int = struct.unpack("<Q", prefix)[0] if len(prefix) == _PREFIX else 0
    if not len("{}") <= size <= max_header:
        raise _broken(path, f"a header of at most {max_header} bytes", f"one of {size} bytes")
    return size


def _parsed(path: Path, header_size: int, rest: memoryview, sha256: str) -> TensorFile:
    """Header and tensors of a file, given what follows its first eight bytes."""
    if len(rest) < header_size:
        raise _broken(path, f"a header of {header_size} bytes", f"{len(rest)} bytes")
    header = parse_json(bytes(rest[:header_size]).rstrip(b" "), path)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _broken(path, "metadata of strings", "something else")
    return TensorFile(_views(path, header, rest[header_size:]), metadata, sha256)


def _unreadable(path: Path, error: OSError) -> BadInputError:
    """The sentence for a file that cannot be read."""
    return BadInputError(f"cannot read {path}: {error.strerror}; check the path and its permissions")


def _views(path: Path, header: dict[str, Any], data: memoryview) -> dict[str, NDArray[Any]]:
    """Arrays over ``data``, once the entries are known to cover it from end to end without gap or overlap."""
    entries = {name: _entry(path, name, entry) for name, entry in header.items()}
    position = 0
    for name, (dtype, shape, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        size = dtype.itemsize
        for side in shape:
            size *= side
        if begin != position or end - begin != size or size == 0:
            wanted = f"tensor {name!r} at the bytes {position} to {position + size}"
            raise _broken(path, wanted, f"{begin} to {end}")
        position = end
    if position != len(data):
        raise _broken(path, f"{position} bytes of tensors", f"{len(data)}")
    return {
        name: np.frombuffer(data[begin:end], dtype).reshape(shape)
        for name, (dtype, shape, begin, end) in entries.items()
    }


def _entry(path: Path, name: str, entry: object) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    """Dtype, shape, begin and end of one header entry, each checked by itself."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _broken(path, f"dtype, shape and data_offsets of tensor {name!r}", "other keys")
    shape, offsets, dtype = entry["shape"], entry["data_offsets"], entry["dtype"]
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [None]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise _broken(path, f"whole numbers in shape and data_offsets of tensor {name!r}", f"{shape} and {offsets}")
    if len(offsets) != 2 or len(shape) > _MAX_DIMENSIONS:  # noqa: PLR2004 - begin and end
        raise _broken(path, f"two offsets and at most {_MAX_DIMENSIONS} dimensions of {name!r}", f"{offsets}, {shape}")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise _broken(path, f"a dtype among {', '.join(_DTYPES)} for tensor {name!r}", repr(dtype))
    return _DTYPES[dtype], tuple(shape), offsets[0], offsets[1]


def _broken(path: Path, expected: str, found: str) -> FormatError:
    """The sentence for a file that is not what it claims to be."""
    return FormatError(f"{path} is damaged: expected {expected}, found {found}; copy it again or make it again")
