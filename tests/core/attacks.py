"""Attacks on bundles and banks: each function spoils a copy of a valid directory in one way.

``sign`` makes the record agree with the spoiled file again, as somebody would who means harm; without it a
directory is spoiled as an accident would.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from edgevand.tensors import read_tensor_file, write_tensors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEN_GB = 10 * 2**30


def record_of(root: Path) -> Path:
    """The directory's own record file."""
    return next(root / name for name in ("manifest.json", "bank.json") if (root / name).exists())


def edit(root: Path, *keys: str | int, value: Any) -> None:
    """Set one value of the record."""
    path = record_of(root)
    document = json.loads(path.read_text())
    place = document
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(document))


def sign(root: Path, name: str) -> None:
    """Record a file's present size and hash."""
    data = (root / name).read_bytes()
    edit(root, "files", name, value={"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)})


def put(root: Path, name: str, data: bytes) -> None:
    """Replace a file and sign it."""
    (root / name).write_bytes(data)
    sign(root, name)


def add(root: Path, name: str, data: bytes) -> None:
    """Add a file that the record does not list."""
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(data)


def unlist(root: Path, name: str) -> None:
    """Remove a file and its entry in the record."""
    (root / name).unlink()
    path = record_of(root)
    document = json.loads(path.read_text())
    del document["files"][name]
    path.write_text(json.dumps(document))


def make_folder(root: Path, name: str) -> None:
    """Put a directory in the place of a file."""
    (root / name).unlink()
    (root / name).mkdir()


def tensor(root: Path, file: str, name: str, change: Callable[[Any], Any]) -> None:
    """Change one tensor of a file and sign it; a change to None removes the tensor."""
    tensors, metadata, _ = read_tensor_file(root / file)
    changed = {**tensors, name: change(tensors.get(name))}
    write_tensors(root / file, {key: value for key, value in changed.items() if value is not None}, metadata)
    sign(root, file)


def flip_a_bit(root: Path, name: str) -> None:
    """Change one bit and leave the size."""
    data = bytearray((root / name).read_bytes())
    data[len(data) // 2] ^= 1
    (root / name).write_bytes(data)


def list_outside(root: Path, name: str) -> None:
    """List a file that lies outside the directory and exists."""
    (root.parent / "outside").write_bytes(b"x")
    digest = hashlib.sha256(b"x").hexdigest()
    edit(root, "files", name, value={"sha256": digest, "size": 1})


def link_out(root: Path, name: str) -> None:
    """Move a file out and leave a symbolic link to it: hash and size agree."""
    (root / name).rename(root.parent / "moved")
    (root / name).symlink_to(root.parent / "moved")


def link_folder(root: Path, name: str) -> None:
    """Add a symbolic link to a directory."""
    (root / name).symlink_to(root.parent, target_is_directory=True)


def repeat_a_key(root: Path) -> None:
    """Give a key twice, the second time harmlessly."""
    path = record_of(root)
    text = path.read_text()
    path.write_text(text.replace('"generator"', '"generator": "evil", "generator"', 1))


def repeat_a_file(root: Path, name: str) -> None:
    """List a file twice, first with a wrong hash."""
    path = record_of(root)
    bad = json.dumps({"sha256": "0" * 64, "size": 1})
    path.write_text(path.read_text().replace('"files": {', f'"files": {{"{name}": {bad}, ', 1))


def graph_location(root: Path, location: str) -> None:
    """Let the graph read its largest weight from elsewhere."""
    model = onnx.load(root / "encoder.onnx")
    weight = max(model.graph.initializer, key=lambda initializer: len(initializer.raw_data))
    entry = onnx.StringStringEntryProto(key="location", value=location)
    weight.external_data.append(entry)
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.ClearField("raw_data")
    put(root, "encoder.onnx", model.SerializeToString())


def cut(root: Path, name: str, *, signed: bool) -> None:
    """Cut off the last bytes of a file."""
    (root / name).write_bytes((root / name).read_bytes()[:-5])
    if signed:
        sign(root, name)


def spoil(value: float) -> Callable[[Any], Any]:
    """Put one value into a tensor."""

    def change(array: Any) -> Any:
        result = np.array(array)
        result.flat[3] = value
        return result

    return change


PICKLE = b"\x80\x04\x95" + struct.pack("<Q", 28) + b"\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85R."
EYE = np.eye(2, 16, dtype=np.float32)
HUGE_HEADER = struct.pack("<Q", TEN_GB) + b"{}" + bytes(64)
HUGE_TENSOR = b'{"object":{"dtype":"F32","shape":[2,1342177280],"data_offsets":[0,10737418240]}}'

COMMON: dict[str, Callable[[Path], object]] = {
    "no record": lambda root: record_of(root).unlink(),
    "an empty record": lambda root: record_of(root).write_bytes(b""),
    "a record that is a list": lambda root: record_of(root).write_text("[]"),
    "a record that is not UTF-8": lambda root: record_of(root).write_bytes(b'{"\xff": 1}'),
    "a record nested 100000 deep": lambda root: record_of(root).write_text('{"a":' * 10**5),
    "a record of 17 MB": lambda root: record_of(root).write_bytes(b" " * (17 << 20)),
    "an unknown schema": lambda root: edit(root, "schema", value="edgevand.bundle/2"),
    "a schema that is no text": lambda root: edit(root, "schema", value=["edgevand.bundle/1"]),
    "an unknown field": lambda root: edit(root, "colour", value="red"),
    "a field of another type": lambda root: edit(root, "method", value=1),
    "a key twice": repeat_a_key,
    "a listed path to the parent": lambda root: list_outside(root, "../outside"),
    "a listed absolute path": lambda root: list_outside(root, str(root.parent / "outside")),
    "a listed path through the parent": lambda root: list_outside(root, "x/../../outside"),
    "a superfluous file": lambda root: (root / "run.sh").write_text("true"),
    "a superfluous hidden file": lambda root: (root / ".hidden").write_text("true"),
    "a superfluous pickle in a folder": lambda root: add(root, "sub/a.pkl", PICKLE),
    "a link to a directory": lambda root: link_folder(root, "sub"),
    "a named pipe": lambda root: os.mkfifo(root / "pipe"),
    "a record that is a link": lambda root: link_out(root, record_of(root).name),
}

ON_BUNDLES: dict[str, Callable[[Path], object]] = {
    **COMMON,
    "a wrong hash of the graph": lambda root: flip_a_bit(root, "encoder.onnx"),
    "a wrong hash of the text": lambda root: flip_a_bit(root, "text.safetensors"),
    "a wrong hash of the prompts": lambda root: flip_a_bit(root, "prompts.json"),
    "a file listed twice": lambda root: repeat_a_file(root, "encoder.onnx"),
    "a missing file": lambda root: (root / "prompts.json").unlink(),
    "a missing graph": lambda root: (root / "encoder.onnx").unlink(),
    "a link to a file": lambda root: link_out(root, "encoder.onnx"),
    "a graph that is a directory": lambda root: make_folder(root, "encoder.onnx"),
    "a graph outside": lambda root: edit(root, "graph", "file", value="../outside"),
    "a golden sample outside": lambda root: edit(root, "golden", value="/etc/passwd"),
    "text outside": lambda root: edit(root, "text", "file", value="../../outside"),
    "NaN in the mean": lambda root: edit(root, "image", "mean", value=[float("nan"), 0.0, 0.0]),
    "a standard deviation of nothing": lambda root: edit(root, "image", "std", value=[0.5, 0.0, 0.5]),
    "no prompts for the text": lambda root: unlist(root, "prompts.json"),
    "an image of a trillion pixels": lambda root: edit(root, "image", "height", value=10**6),
    "a negative size": lambda root: edit(root, "files", "encoder.onnx", "size", value=-1),
    "no stage": lambda root: edit(root, "stages", value=[]),
    "a stage twice": lambda root: edit(root, "stages", 1, "index", value=1),
    "a grid of nothing": lambda root: edit(root, "stages", 0, "grid", value=[0, 4]),
    "text cut off": lambda root: cut(root, "text.safetensors", signed=False),
    "text cut off and signed": lambda root: cut(root, "text.safetensors", signed=True),
    "a text header of 10 GB": lambda root: put(root, "text.safetensors", HUGE_HEADER),
    "a text tensor of 10 GB": lambda root: put(
        root, "text.safetensors", struct.pack("<Q", len(HUGE_TENSOR)) + HUGE_TENSOR + bytes(64)
    ),
    "a pickle for the text": lambda root: put(root, "text.safetensors", PICKLE),
    "NaN in the text": lambda root: tensor(root, "text.safetensors", "object", spoil(np.nan)),
    "text that is not of length one": lambda root: tensor(root, "text.safetensors", "object", lambda t: t * 3),
    "text of another object": lambda root: tensor(root, "text.safetensors", "other", lambda _: EYE),
    "text of another width": lambda root: tensor(root, "text.safetensors", "object", lambda _: EYE[:, :8].copy()),
    "text of another checkpoint": lambda root: edit(root, "model", "weights_sha256", value="0" * 64),
    "text of another activation": lambda root: edit(root, "model", "text_activation", value="quick-gelu"),
    "a golden header of 10 GB": lambda root: put(root, "golden.safetensors", HUGE_HEADER),
    "a golden sample cut off and signed": lambda root: cut(root, "golden.safetensors", signed=True),
    "a golden sample without an output": lambda root: tensor(root, "golden.safetensors", "embedding", lambda _: None),
    "a golden sample of another size": lambda root: tensor(
        root, "golden.safetensors", "image", lambda image: image[:, 1:].copy()
    ),
    "a graph that is none": lambda root: put(root, "encoder.onnx", b"\xff" * 100),
    "an empty graph": lambda root: put(root, "encoder.onnx", b""),
    "weights outside": lambda root: graph_location(root, "../outside"),
    "weights at an absolute path": lambda root: graph_location(root, "/etc/passwd"),
    "weights in an unlisted file": lambda root: graph_location(root, "encoder.onnx.data"),
}

ON_BANKS: dict[str, Callable[[Path], object]] = {
    **COMMON,
    "a wrong hash of the features": lambda root: flip_a_bit(root, "features.safetensors"),
    "a wrong hash of a thumbnail": lambda root: flip_a_bit(root, "frames/0001.jpg"),
    "a file listed twice": lambda root: repeat_a_file(root, "features.safetensors"),
    "a missing thumbnail": lambda root: (root / "frames" / "0002.jpg").unlink(),
    "missing features": lambda root: (root / "features.safetensors").unlink(),
    "a link to a thumbnail": lambda root: link_out(root, "frames/0002.jpg"),
    "a link for the features": lambda root: link_out(root, "features.safetensors"),
    "a superfluous file that is listed": lambda root: put(root, "x.sh", b"true"),
    "a bank of another bundle": lambda root: edit(root, "bundle", value="sha256:" + "0" * 64),
    "a bundle that is no hash": lambda root: edit(root, "bundle", value="sha256:xyz"),
    "a region outside the frame": lambda root: edit(root, "roi", value=[0, 0, 10**6, 1]),
    "a mask at a path": lambda root: edit(root, "roi", value="../outside"),
    "a mask that is not there": lambda root: edit(root, "roi", value="roi.png"),
    "a frame id of a path": lambda root: edit(root, "frames", 0, "id", value="../1"),
    "an infinite threshold": lambda root: edit(
        root, "calibration", "image", value={"mean": 0.0, "sd": 1.0, "threshold": float("inf")}
    ),
    "a scale of nothing": lambda root: edit(
        root, "calibration", "image", value={"mean": 0.0, "sd": 0.0, "threshold": 1.0}
    ),
    "features cut off": lambda root: cut(root, "features.safetensors", signed=False),
    "features cut off and signed": lambda root: cut(root, "features.safetensors", signed=True),
    "a features header of 10 GB": lambda root: put(root, "features.safetensors", HUGE_HEADER),
    "a pickle for the features": lambda root: put(root, "features.safetensors", PICKLE),
    "NaN features": lambda root: tensor(root, "features.safetensors", "tokens_1", spoil(np.nan)),
    "infinite features": lambda root: tensor(root, "features.safetensors", "tokens_2", spoil(np.inf)),
    "a NaN embedding": lambda root: tensor(root, "features.safetensors", "embedding", spoil(np.nan)),
    "features of another length": lambda root: tensor(root, "features.safetensors", "tokens_1", lambda t: t * 2),
    "features of fewer frames": lambda root: tensor(root, "features.safetensors", "tokens_1", lambda t: t[:1].copy()),
    "features of another grid": lambda root: tensor(
        root, "features.safetensors", "tokens_1", lambda t: t[:, :, :4].copy()
    ),
    "features of another stage": lambda root: tensor(root, "features.safetensors", "tokens_9", lambda _: EYE),
    "no features of a stage": lambda root: tensor(root, "features.safetensors", "tokens_2", lambda _: None),
    "a version of nothing": lambda root: edit(root, "version", value=0),
    "a previous version that is later": lambda root: edit(root, "previous", value=5),
}
