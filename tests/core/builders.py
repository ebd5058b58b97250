"""Tiny but valid bundles and banks for tests: a real graph that ONNX Runtime runs, and golden outputs by NumPy.

The encoder cuts the image into patches, multiplies each by one random matrix per stage and normalises; the
embedding is the mean patch times another matrix; the logits are 100 x projected token x (abnormal - normal).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edgevand.bank import Bank, write_bank
from edgevand.bundle import Bundle, write_bundle, write_text_file
from edgevand.files import write_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
WEIGHTS_SHA256 = "ab" * 32


def make_bundle(
    path: Path,
    *,
    size: int = 32,
    grid: int = 4,
    width: int = 8,
    dim: int = 16,
    stages: tuple[int, ...] = (1, 2),
    heads: bool = True,
    objects: tuple[str, ...] = ("object",),
    external: bool = False,
    seed: int = 0,
    **fields: Any,
) -> Bundle:
    """Write a bundle with a working graph.

    Args:
        path: its directory.
        size: side of the square image.
        grid: patches a side, a divisor of ``size``.
        width: channels of a patch token.
        dim: width of the embedding.
        stages: their 1-based indices.
        heads: whether there is a zero-shot map.
        objects: names with random text embeddings; none for a bundle without text.
        external: keep the graph's weights in ``encoder.onnx.data``.
        seed: of everything random.
        fields: manifest fields that replace the usual ones.
    """
    weights = _weights(np.random.default_rng(seed), size, grid, width, dim, stages, heads=heads)
    texts = {name: unit(np.random.default_rng([seed, number]), 2, dim) for number, name in enumerate(objects)}

    def fill(folder: Path) -> None:
        model = _graph(weights, size, grid, dim, stages, heads=heads)
        onnx.save(model, folder / "encoder.onnx", **_external_options(external=external))
        if objects:
            write_text_file(
                folder / "text.safetensors", texts, pack="april-gan", weights_sha256=WEIGHTS_SHA256, activation="gelu"
            )
        write_tensors(folder / "golden.safetensors", _golden(weights, size, grid, dim, stages, heads=heads, seed=seed))
        (folder / "prompts.json").write_text('{"normal_states": ["{}"], "abnormal_states": ["damaged {}"]}\n')

    manifest: dict[str, Any] = {
        "model": {
            "name": "tiny",
            "pretrained": "none",
            "architecture": "vit",
            "image_activation": "gelu",
            "text_activation": "gelu",
            "weights_sha256": WEIGHTS_SHA256,
            "config": {"embed_dim": dim},
        },
        "image": {"height": size, "width": size, "mean": MEAN, "std": STD},
        "embedding_dim": dim,
        "stages": [{"index": index, "width": width, "grid": (grid, grid), "head": heads} for index in stages],
        "graph": {"opset": 17, "precision": "fp32"},
        "score": {"terms": ["text", "zero-shot-map", "memory-map"] if heads else ["memory-map"]},
        "text": {"pack": "april-gan", "objects": objects} if objects else None,
        "parity": {
            "reference": "numpy",
            "engine": "onnxruntime",
            "batches": [1],
            "outputs": [],
            "map_max_abs": 0.0,
            "score_max_abs": 0.0,
        },
    }
    return write_bundle(path, manifest | fields, fill)


def make_bank(
    path: Path,
    bundle: Bundle,
    /,
    *,
    frames: int = 3,
    copies: int = 0,
    object_name: str | None = None,
    half: bool = False,
    roi: tuple[int, int, int, int] | None = None,
    mask: NDArray[np.uint8] | None = None,
    replace: bool = False,
    seed: int = 0,
    **fields: Any,
) -> Bank:
    """Write a bank of random unit features.

    Args:
        path: its directory.
        bundle: the bundle it belongs to.
        frames: enrolled frames, each a group of its own.
        copies: augmented copies of each.
        object_name: an object of the bundle; None for a bank without text.
        half: tokens in float16.
        roi: rectangle x, y, w, h inside the frame of 64 x 48 pixels.
        mask: instead of a rectangle, [48, 64] uint8.
        replace: replace a bank that is there.
        seed: of everything random.
        fields: record fields that replace the usual ones.
    """
    fields = {"roi": roi if mask is None else "roi.png", "object": object_name} | fields
    features = bank_features(bundle, frames=frames, copies=copies, object_name=object_name, half=half, seed=seed)
    jpeg = picture(48, 64, seed, "JPEG")
    thumbnails = dict.fromkeys(range(1, frames + 1), jpeg)
    png = None if mask is None else _encode(mask, "PNG")
    return write_bank(path, bank_fields(bundle, frames) | fields, features, thumbnails, png, jpeg, replace=replace)


def bank_fields(bundle: Bundle, frames: int) -> dict[str, Any]:
    """Record fields of a bank of ``frames`` frames, uncalibrated."""
    time = "2026-01-02T03:04:05.678Z"
    return {
        "bundle": bundle.hash,
        "method": bundle.manifest.method,
        "object": None,
        "source": "test://conveyor",
        "frame_size": (64, 48),
        "roi": None,
        "augment": [],
        "interval": 0.0,
        "frames": [
            {"id": n, "source": "test://conveyor", "frame": n - 1, "time": time, "media_time": None, "group": n - 1}
            for n in range(1, frames + 1)
        ],
        "calibration": {
            "kind": "none",
            "false_alarm_rate": 0.01,
            "n": 0,
            "scores": [],
            "image": None,
            "map": None,
        },
    }


def bank_features(
    bundle: Bundle,
    *,
    frames: int = 3,
    copies: int = 0,
    object_name: str | None = None,
    half: bool = False,
    seed: int = 0,
) -> dict[str, NDArray[Any]]:
    """Random features that fit the bundle."""
    rng = np.random.default_rng(seed)
    manifest = bundle.manifest
    features: dict[str, NDArray[Any]] = {"embedding": unit(rng, frames, manifest.embedding_dim)}
    for stage in manifest.stages:
        tokens = unit(rng, frames, 1 + copies, stage.grid[0] * stage.grid[1], stage.width)
        features[f"tokens_{stage.index}"] = tokens.astype(np.float16) if half else tokens
        if stage.head and object_name is not None:
            features[f"logits_{stage.index}"] = rng.normal(size=(frames, *stage.grid)).astype(np.float32)
    if object_name is not None:
        features["text"] = bundle.text(object_name)[1]
    return features


def unit(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Random float32 vectors of length one along the last axis."""
    values = rng.normal(size=shape)
    return np.asarray(values / np.linalg.norm(values, axis=-1, keepdims=True), np.float32)


def picture(height: int, width: int, seed: int, kind: str) -> bytes:
    """A random RGB picture as JPEG or PNG bytes."""
    return _encode(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8), kind)


def _encode(image: NDArray[np.uint8], kind: str) -> bytes:
    """Picture bytes of an array."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


def _weights(
    rng: np.random.Generator, size: int, grid: int, width: int, dim: int, stages: tuple[int, ...], *, heads: bool
) -> dict[str, NDArray[np.float32]]:
    """Random matrices of the encoder."""
    inputs = 3 * (size // grid) ** 2
    shapes: dict[str, tuple[int, int]] = {"embed": (inputs, dim)}
    for index in stages:
        shapes[f"patch_{index}"] = (inputs, width)
        if heads:
            shapes[f"head_{index}"] = (width, dim)
    return {name: (rng.normal(size=s) / np.sqrt(s[0])).astype(np.float32) for name, s in shapes.items()}


def _graph(
    weights: dict[str, NDArray[np.float32]], size: int, grid: int, dim: int, stages: tuple[int, ...], *, heads: bool
) -> onnx.ModelProto:
    """The encoder as ONNX."""
    side = size // grid
    constants = {
        "cut": np.array([0, 3, grid, side, grid, side]),
        "flat": np.array([0, grid * grid, 3 * side * side]),
        "cells": np.array([0, grid, grid]),
        "hundred": np.array(100.0, np.float32),
        "zero": np.array([0]),
        "one": np.array([1]),
        "two": np.array([2]),
    }
    node = helper.make_node
    nodes = [
        node("Reshape", ["image", "cut"], ["cells6"]),
        node("Transpose", ["cells6"], ["patches6"], perm=[0, 2, 4, 1, 3, 5]),
        node("Reshape", ["patches6", "flat"], ["patches"]),
        node("ReduceMean", ["patches"], ["mean"], axes=[1], keepdims=0),
        node("MatMul", ["mean", "embed"], ["projected"]),
        node("LpNormalization", ["projected"], ["embedding"], axis=-1, p=2),
    ]
    value = helper.make_tensor_value_info
    inputs = [value("image", TensorProto.FLOAT, ["N", 3, size, size])]
    outputs = [value("embedding", TensorProto.FLOAT, ["N", dim])]
    if heads:
        inputs.append(value("text", TensorProto.FLOAT, [2, dim]))
        nodes += [
            node("Slice", ["text", "zero", "one", "zero"], ["normal"]),
            node("Slice", ["text", "one", "two", "zero"], ["abnormal"]),
            node("Sub", ["abnormal", "normal"], ["difference"]),
            node("Transpose", ["difference"], ["column"], perm=[1, 0]),
        ]
    for index in stages:
        nodes += [
            node("MatMul", ["patches", f"patch_{index}"], [f"raw_{index}"]),
            node("LpNormalization", [f"raw_{index}"], [f"tokens_{index}"], axis=-1, p=2),
        ]
        outputs.append(
            value(f"tokens_{index}", TensorProto.FLOAT, ["N", grid * grid, weights[f"patch_{index}"].shape[1]])
        )
        if heads:
            nodes += [
                node("MatMul", [f"tokens_{index}", f"head_{index}"], [f"headed_{index}"]),
                node("LpNormalization", [f"headed_{index}"], [f"adapted_{index}"], axis=-1, p=2),
                node("MatMul", [f"adapted_{index}", "column"], [f"cosine_{index}"]),
                node("Mul", [f"cosine_{index}", "hundred"], [f"scaled_{index}"]),
                node("Reshape", [f"scaled_{index}", "cells"], [f"logits_{index}"]),
            ]
            outputs.append(value(f"logits_{index}", TensorProto.FLOAT, ["N", grid, grid]))
    initializers = [numpy_helper.from_array(array, name) for name, array in {**weights, **constants}.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _external_options(*, external: bool) -> dict[str, Any]:
    """Arguments of ``onnx.save``."""
    return {"save_as_external_data": True, "location": "encoder.onnx.data", "size_threshold": 256} if external else {}


def _golden(
    weights: dict[str, NDArray[np.float32]],
    size: int,
    grid: int,
    dim: int,
    stages: tuple[int, ...],
    *,
    heads: bool,
    seed: int,
) -> dict[str, NDArray[Any]]:
    """Two random frames and what NumPy computes for them."""
    rng = np.random.default_rng([seed, 99])
    image = rng.integers(0, 256, (2, size, size, 3), np.uint8)
    text = unit(rng, 2, dim)
    pixels = ((image / 255.0 - MEAN) / STD).astype(np.float32)
    side = size // grid
    cells = pixels.reshape(2, grid, side, grid, side, 3).transpose(0, 1, 3, 5, 2, 4)
    patches = cells.reshape(2, grid * grid, 3 * side * side)
    tensors: dict[str, NDArray[Any]] = {"image": image, "embedding": _normalised(patches.mean(1) @ weights["embed"])}
    if heads:
        tensors["text"] = text
    for index in stages:
        tokens = _normalised(patches @ weights[f"patch_{index}"])
        tensors[f"tokens_{index}"] = tokens
        if heads:
            cosine = _normalised(tokens @ weights[f"head_{index}"]) @ (text[1] - text[0])
            tensors[f"logits_{index}"] = (100 * cosine).reshape(2, grid, grid).astype(np.float32)
    return tensors


def _normalised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of length one along the last axis."""
    return np.asarray(values / np.linalg.norm(values, axis=-1, keepdims=True), np.float32)
