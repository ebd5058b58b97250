"""Which files an ONNX graph reads its weights from, found without the onnx package and without loading a weight.

An ONNX file is a protocol buffer (onnx.proto): messages of numbered fields, the nested ones preceded by their length.
A tensor whose data lie outside names their place in ``TensorProto.external_data`` under the key ``location``. The
walk below follows only the fields that can lead to a tensor and jumps over everything else, weights included.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from edgevand.errors import BadInputError, FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["external_locations"]

_BYTES = 2
_FIXED = {1: 8, 5: 4}
_MAX_DEPTH = 64
_PATHS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
"""Field numbers of onnx.proto that lead from one kind of message to the next."""


def external_locations(path: Path) -> set[str]:
    """Places of external weights that the graph names, as they stand in the file.

    Raises:
        FormatError: the file is no protocol buffer.
        BadInputError: it cannot be read.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return set(_locations(data, 0, len(data), "model", 0))
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}; check its permissions"
        raise BadInputError(msg) from error
    except (ValueError, IndexError) as error:
        msg = f"expected {path} to be an ONNX graph, found something else; copy the bundle again or export it again"
        raise FormatError(msg) from error


def _locations(data: mmap.mmap, begin: int, end: int, kind: str, depth: int) -> Iterator[str]:
    """Locations in the message of this kind between two offsets."""
    if depth > _MAX_DEPTH:
        raise ValueError(depth)
    for field, start, stop in _fields(data, begin, end):
        child = _PATHS[kind].get(field)
        if child == "entry":
            texts = {number: data[a:b] for number, a, b in _fields(data, start, stop)}
            if texts.get(1) == b"location":
                yield texts.get(2, b"").decode()
        elif child is not None:
            yield from _locations(data, start, stop, child, depth + 1)


def _fields(data: mmap.mmap, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of every length-delimited field of a message; the other fields are jumped over."""
    position = begin
    while position < end:
        key, position = _varint(data, position)
        wire = key & 7
        if wire == _BYTES:
            length, position = _varint(data, position)
            if position + length > end:
                raise ValueError(length)
            yield key >> 3, position, position + length
            position += length
        elif wire in _FIXED:
            position += _FIXED[wire]
        elif wire == 0:
            _, position = _varint(data, position)
        else:
            raise ValueError(wire)
    if position != end:
        raise ValueError(position)


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    """A variable-length number and the offset behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:  # noqa: PLR2004 - the high bit says that more follows
            return value, position
    raise ValueError(position)
