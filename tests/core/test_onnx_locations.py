"""Places of external weights, held against what the onnx package reads from the same graphs."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from edgevand.errors import BadInputError, FormatError
from edgevand.onnx_locations import external_locations
from tests.core.builders import make_bundle

if TYPE_CHECKING:
    from pathlib import Path


def outside(name: str, location: str) -> onnx.TensorProto:
    """A tensor whose data lie in another file."""
    tensor = numpy_helper.from_array(np.arange(6, dtype=np.float32), name)
    set_external_data(tensor, location, offset=4, length=24)
    tensor.ClearField("raw_data")
    return tensor


def branch(name: str, *tensors: onnx.TensorProto) -> onnx.GraphProto:
    """A graph inside a node."""
    value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [6])
    constant = helper.make_node("Constant", [], [name], value=outside("c", f"{name}.constant"))
    return helper.make_graph([constant], name, [], [value], list(tensors))


def test_a_graph_with_its_weights_inside_names_nothing(tmp_path: Path) -> None:
    assert external_locations(make_bundle(tmp_path / "b").graph_path) == set()


def test_the_file_that_onnx_writes_beside_a_graph_is_named(tmp_path: Path) -> None:
    assert external_locations(make_bundle(tmp_path / "b", external=True).graph_path) == {"encoder.onnx.data"}


def test_locations_are_found_wherever_a_graph_can_hold_a_tensor(tmp_path: Path) -> None:
    """Initialisers, constants, branches, functions, sparse tensors and lists of tensors."""
    sparse = onnx.SparseTensorProto(values=outside("s", "sparse.values"), indices=outside("i", "sparse.indices"))
    choose = helper.make_node(
        "If", ["x"], ["y"], then_branch=branch("then", outside("t", "then.weight")), else_branch=branch("else")
    )
    many = helper.make_node("Custom", [], ["z"], tensors=[outside("m", "many.1"), outside("n", "../many.2")])
    lone = helper.make_node("Custom", [], ["v"], sparse_value=sparse)
    graph = helper.make_graph([choose, many, lone], "g", [], [], [outside("w", "weights"), outside("ü", "gewichte ü")])
    graph.sparse_initializer.append(
        onnx.SparseTensorProto(values=outside("p", "/absolute"), indices=outside("q", "sparse.more"))
    )
    body = helper.make_node("Constant", [], ["o"], value=outside("f", "function.constant"))
    function = helper.make_function("local", "F", [], ["o"], [body], [helper.make_opsetid("", 17)])
    model = helper.make_model(graph, functions=[function])
    path = tmp_path / "x.onnx"
    path.write_bytes(model.SerializeToString())
    assert external_locations(path) == {
        "weights",
        "gewichte ü",
        "then.constant",
        "then.weight",
        "else.constant",
        "many.1",
        "../many.2",
        "sparse.values",
        "sparse.indices",
        "sparse.more",
        "/absolute",
        "function.constant",
    }


def test_a_text_that_looks_like_a_location_is_none(tmp_path: Path) -> None:
    model = onnx.load(make_bundle(tmp_path / "b").graph_path)
    model.metadata_props.append(onnx.StringStringEntryProto(key="location", value="../outside"))
    model.doc_string = "location"
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    assert external_locations(tmp_path / "x.onnx") == set()


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x0f", b"\x3a\x05ab", b"\x08", b"\x80" * 20, b"\x09abc", b"{}"])
def test_what_is_no_protocol_buffer_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(FormatError, match="to be an ONNX graph"):
        external_locations(tmp_path / "x")


def test_graphs_nested_without_end_are_refused(tmp_path: Path) -> None:
    """Each level is a graph in an attribute of a node; the lengths grow from the inside out."""
    data = b""
    for _ in range(200):
        for field in (6, 5, 1):
            data = bytes([field << 3 | 2]) + varint(len(data)) + data
    (tmp_path / "x").write_bytes(bytes([7 << 3 | 2]) + varint(len(data)) + data)
    with pytest.raises(FormatError):
        external_locations(tmp_path / "x")


def varint(value: int) -> bytes:
    groups = []
    while True:
        groups.append(value & 127)
        value >>= 7
        if not value:
            return bytes([group | 128 for group in groups[:-1]] + groups[-1:])


def test_damage_ends_in_a_sentence_or_in_locations(tmp_path: Path) -> None:
    whole = make_bundle(tmp_path / "b", external=True).graph_path.read_bytes()
    chance = random.Random(0)  # noqa: S311 - damage, no secret
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 5)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "x").write_bytes(data[: chance.randint(1, len(data))])
        try:
            found = external_locations(tmp_path / "x")
        except FormatError:
            continue
        assert all(isinstance(location, str) for location in found)


def test_a_graph_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="No such file"):
        external_locations(tmp_path / "none")
