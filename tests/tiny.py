"""A real bundle, small enough to be made for each test, and a bank of drawn parts for it.

The image tower is one strided convolution, run by ONNX Runtime; the golden sample is computed by torch, so that parity
means what it means for an exported bundle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

from edgevand.bundle import Bundle, write_bundle
from edgevand.files import write_tensors
from edgevand.text_files import write_text_file
from edgevand_runtime.engines import open_engine
from edgevand_runtime.enroll import EnrolOptions, enroll
from edgevand_runtime.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand.bank import Bank

SIZE, PATCH, WIDTH, DIM = 32, 4, 12, 6
GRID = SIZE // PATCH
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.3, 0.35)


def write_tiny_bundle(
    target: Path, *, heads: bool = False, objects: Sequence[str] = (), precision: str = "fp32", seed: int = 0
) -> Bundle:
    """Write a bundle with one stage; with heads it needs objects as well."""
    random = np.random.default_rng(seed)
    weights = {
        "kernel": random.normal(size=(WIDTH, 3, PATCH, PATCH)).astype(np.float32),
        "bias": random.normal(size=WIDTH).astype(np.float32),
        "projection": random.normal(size=(WIDTH, DIM)).astype(np.float32),
        "head": random.normal(size=(WIDTH, DIM)).astype(np.float32),
    }
    texts = {name: _unit(random.normal(size=(2, DIM))) for name in objects}
    images = random.integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    golden: dict[str, NDArray[Any]] = {"image": images}
    text = None
    if heads:
        text = golden["text"] = texts[objects[0]]
    golden |= reference(weights, images, text)
    stages = [{"index": 1, "width": WIDTH, "grid": (GRID, GRID), "head": heads}]
    text_record = {"file": "text.safetensors", "pack": "april-gan", "objects": tuple(objects)} if objects else None

    def fill(staging: Path) -> None:
        (staging / "encoder.onnx").write_bytes(_graph(weights, heads=heads).SerializeToString())
        write_tensors(staging / "golden.safetensors", golden)
        if objects:
            (staging / "prompts.json").write_text("{}")
            write_text_file(
                staging / "text.safetensors", texts, pack="april-gan", weights_sha256="0" * 64, activation="gelu"
            )

    rows = [{"output": name, "max_abs": 0.0, "cosine": 1.0, "limit": "none"} for name in golden if name != "image"]
    fields: dict[str, object] = {
        "method": "april-gan",
        "model": {
            "name": "tiny",
            "pretrained": "random",
            "architecture": "vit",
            "image_activation": "gelu",
            "text_activation": "gelu",
            "weights_sha256": "0" * 64,
            "config": {},
        },
        "image": {"height": SIZE, "width": SIZE, "mean": MEAN, "std": STD},
        "embedding_dim": DIM,
        "stages": tuple(stages),
        "graph": {"opset": 17, "precision": precision},
        "score": {"terms": ("text", "zero-shot-map", "memory-map"), "image": "max"},
        "text": text_record,
        "parity": {
            "reference": "torch",
            "engine": "onnxruntime",
            "batches": (1, 2, 4),
            "outputs": tuple(rows),
            "map_max_abs": 0.0,
            "score_max_abs": 0.0,
        },
    }
    return write_bundle(target, fields, fill)


DEFECT = (70, 40, 15, 17)
"""Where a defective part has its defect: x, y, w, h in pixels of a 128 x 96 picture."""


def draw_part(number: int, *, defective: bool = False) -> NDArray[np.uint8]:
    """A picture (96, 128, 3) uint8 BGR: a pattern with noise of its own, and a bright square where it is defective."""
    y, x = np.mgrid[0:96, 0:128]
    pattern = np.dstack([100 + 40 * np.sin(x / 9), 120 + 30 * np.cos(y / 7), np.full_like(x, 90, float)])
    image = (pattern + np.random.default_rng(number).normal(0, 6, pattern.shape)).clip(0, 255).astype(np.uint8)
    if defective:
        left, top, width, height = DEFECT
        cv2.rectangle(image, (left, top), (left + width - 1, top + height - 1), (250, 250, 20), -1)
    return image


def write_parts(folder: Path, kinds: str, start: int = 0) -> list[Path]:
    """Write ``000.png`` and so on: a good part for ``.``, a defective one for ``x``, garbage for ``?``."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}.png" for number in range(len(kinds))]
    for number, (path, kind) in enumerate(zip(paths, kinds, strict=True)):
        if kind == "?":
            path.write_bytes(b"no image")
        else:
            cv2.imwrite(str(path), draw_part(start + number, defective=kind == "x"))
    return paths


def enrol_tiny(bundle: Bundle, target: Path, shots: int = 6, augment: tuple[str, ...] = ()) -> Bank:
    """Enrol good parts into a bank; their pictures stay beside it."""
    write_parts(target.parent / f"{target.name}-parts", "." * shots, start=1000)
    engine = open_engine(bundle, threads=1)
    try:
        with open_source(target.parent / f"{target.name}-parts") as source:
            return enroll(source, bundle, engine, target, EnrolOptions(shots=shots, augment=augment)).bank
    finally:
        engine.close()


def reference(
    weights: dict[str, NDArray[np.float32]], images: NDArray[np.uint8], text: NDArray[np.float32] | None
) -> dict[str, NDArray[np.float32]]:
    """What torch computes for (N, S, S, 3) uint8 RGB pictures."""
    pixels = (torch.from_numpy(images).float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    features = functional.conv2d(
        pixels.permute(0, 3, 1, 2), torch.from_numpy(weights["kernel"]), torch.from_numpy(weights["bias"]), stride=PATCH
    )
    tokens = features.flatten(2).transpose(1, 2)
    embedding = functional.normalize(tokens.mean(1) @ torch.from_numpy(weights["projection"]), dim=-1)
    found = {"embedding": embedding, "tokens_1": functional.normalize(tokens, dim=-1)}
    if text is not None:
        projected = functional.normalize(tokens @ torch.from_numpy(weights["head"]), dim=-1)
        logits = 100 * projected @ torch.from_numpy(text).T
        found["logits_1"] = (logits[..., 1] - logits[..., 0]).reshape(-1, GRID, GRID)
    return {name: tensor.contiguous().numpy() for name, tensor in found.items()}


def _graph(weights: dict[str, NDArray[np.float32]], *, heads: bool) -> onnx.ModelProto:
    """The same in ONNX."""
    names = ["kernel", "bias", "projection", *(["head"] if heads else [])]
    constants = [numpy_helper.from_array(weights[name], name) for name in names]
    constants.append(numpy_helper.from_array(np.array([0, WIDTH, -1], np.int64), "flat"))
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "bias"], ["features"], strides=[PATCH, PATCH]),
        helper.make_node("Reshape", ["features", "flat"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["tokens"], perm=[0, 2, 1]),
        helper.make_node("LpNormalization", ["tokens"], ["tokens_1"], axis=-1, p=2),
        helper.make_node("ReduceMean", ["tokens"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "projection"], ["class"]),
        helper.make_node("LpNormalization", ["class"], ["embedding"], axis=-1, p=2),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])]
    outputs = [
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", DIM]),
        helper.make_tensor_value_info("tokens_1", TensorProto.FLOAT, ["n", GRID * GRID, WIDTH]),
    ]
    if heads:
        constants += [
            numpy_helper.from_array(np.array([[-100.0], [100.0]], np.float32), "difference"),
            numpy_helper.from_array(np.array([-1, GRID, GRID], np.int64), "grid"),
        ]
        nodes += [
            helper.make_node("MatMul", ["tokens", "head"], ["projected"]),
            helper.make_node("LpNormalization", ["projected"], ["directions"], axis=-1, p=2),
            helper.make_node("Transpose", ["text"], ["columns_of_text"], perm=[1, 0]),
            helper.make_node("MatMul", ["directions", "columns_of_text"], ["cosines"]),
            helper.make_node("MatMul", ["cosines", "difference"], ["pairs"]),
            helper.make_node("Reshape", ["pairs", "grid"], ["logits_1"]),
        ]
        inputs.append(helper.make_tensor_value_info("text", TensorProto.FLOAT, [2, DIM]))
        outputs.append(helper.make_tensor_value_info("logits_1", TensorProto.FLOAT, ["n", GRID, GRID]))
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return unit
