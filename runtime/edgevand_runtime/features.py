"""What a bank keeps of its frames: encoder outputs, and what follows from them without encoding again."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgevand.bank import CoresetRecord
from edgevand_runtime.augment import augmented_copies
from edgevand_runtime.calibration import calibrate
from edgevand_runtime.engines import EncoderOutput
from edgevand_runtime.memory import MEGABYTE, Held, MemoryBank
from edgevand_runtime.methods import open_method
from edgevand_runtime.preprocess import to_tensor

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from numpy.typing import NDArray

    from edgevand.bank import Bank, CalibrationRecord
    from edgevand.bundle import Manifest
    from edgevand_runtime.engines import Engine
    from edgevand_runtime.methods import RawScore

__all__ = [
    "Features",
    "Judged",
    "calibrate_features",
    "coreset_tensors",
    "encode_frame",
    "judge",
    "measure_coreset",
    "open_memory",
    "stack",
]

Features = dict[str, Any]
"""Tensors of ``features.safetensors`` by name; of one frame without the leading axis. The tokens of many frames may be
a list of each frame's own, which may lie on the disk."""

_LEAST_MEASURED = 4
_MEASURED_PRODUCTS = 5 * 10**12
"""Multiplications that measuring a coreset may take: about a minute on two cores."""

_SMALLEST = 1e-12

_BATCH = 4
"""Pictures encoded at once: copies of one frame must not need the memory of sixteen."""


def encode_frame(
    image: NDArray[np.uint8],
    manifest: Manifest,
    engine: Engine,
    text: NDArray[np.float32] | None,
    augment: Collection[str],
) -> Features:
    """Encode one frame with its augmented copies.

    Args:
        image: (H, W, 3) uint8 BGR.
        manifest: of the bundle.
        engine: runs its graph.
        text: (2, D) float32 for the graph's heads.
        augment: ``rotate``, ``flip``.

    Returns:
        ``tokens_<i>`` (1 + A, P, C), float16 unless the graph is fp32; ``embedding`` (D,), ``logits_<i>`` (h, w).
    """
    tensors = np.stack([to_tensor(pose, manifest.image) for pose in (image, *augmented_copies(image, augment))])
    outputs = [engine.run(tensors[start : start + _BATCH], text) for start in range(0, len(tensors), _BATCH)]
    kept = np.float32 if engine.precision == "fp32" else np.float16
    features: Features = {"embedding": outputs[0].embedding[0]}
    for number, stage in enumerate(manifest.stages):
        tokens = np.concatenate([output.tokens[number] for output in outputs])
        features[f"tokens_{stage.index}"] = tokens.astype(kept)
    for index, logits in zip(_with_head(manifest), outputs[0].logits, strict=True):
        features[f"logits_{index}"] = logits[0]
    return features


def stack(frames: Sequence[Features]) -> Features:
    """Features of F frames from those of each."""
    return {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}


class Judged(NamedTuple):
    """The frames of a bank, held against each other."""

    memory: MemoryBank
    """What will be searched."""
    raws: list[RawScore]
    """Of each frame against the frames of the other groups, without its map; empty where there is one group only."""


def judge(
    manifest: Manifest,
    features: Features,
    groups: Sequence[int],
    inside: NDArray[np.bool_] | None,
    limit: float | None = None,
) -> Judged:
    """Score every enrolled frame against the frames of the other groups (methods.md (g)).

    Args:
        manifest: of the bundle.
        features: of F frames.
        groups: group of each frame.
        inside: region of interest at image size; None for the whole image.
        limit: of the bank's memory in MB; None searches every row.
    """
    memory = MemoryBank([features[f"tokens_{stage.index}"] for stage in manifest.stages], limit=limit)
    if len(set(groups)) == 1:
        return Judged(memory, [])
    distances = memory.leave_out(groups)
    return Judged(memory, _left_out(manifest, features, inside, memory, distances, range(len(groups))))


def _left_out(
    manifest: Manifest,
    features: Features,
    inside: NDArray[np.bool_] | None,
    memory: MemoryBank,
    distances: Sequence[NDArray[np.float32]],
    frames: Iterable[int],
) -> list[RawScore]:
    """Scores of some frames by their distances to the others, one at a time: a map is as large as a picture."""
    method = open_method(manifest, features.get("text"), memory, inside)
    found = []
    for row, frame in enumerate(frames):
        outputs = EncoderOutput(
            embedding=features["embedding"][frame : frame + 1].astype(np.float32),
            tokens=(),
            logits=tuple(features[f"logits_{stage}"][frame : frame + 1] for stage in _with_head(manifest)),
        )
        (raw,) = method.combine(outputs, [stage[row : row + 1] for stage in distances])
        found.append(replace(raw, raw_map=None))
    return found


def calibrate_features(
    manifest: Manifest,
    features: Features,
    groups: Sequence[int],
    inside: NDArray[np.bool_] | None,
    rate: float,
    judged: Judged | None = None,
) -> CalibrationRecord:
    """Calibrate a bank on its own frames; each group counts once, with its highest score.

    Args:
        manifest: of the bundle.
        features: of F frames.
        groups: group of each frame.
        inside: region of interest at image size.
        rate: wanted false-alarm rate per frame.
        judged: of these frames, where they were held against each other before; else every row is searched.
    """
    names = sorted(set(groups))
    if len(names) == 1:  # nothing is left to score against; the one group is told by its n
        return calibrate([0.0], [0.0], rate).model_copy(update={"scores": ()})
    raws = (judged or judge(manifest, features, groups, inside)).raws
    by_group = [[raw for raw, group in zip(raws, groups, strict=True) if group == name] for name in names]
    return calibrate(
        [max(raw.raw_score for raw in raws) for raws in by_group],
        [max(raw.map_max or 0.0 for raw in raws) for raws in by_group],
        rate,
        manifest.score.usual_sd,
    )


def coreset_tensors(manifest: Manifest, memory: MemoryBank) -> Features | None:
    """Tensors of ``coreset.safetensors``; None where every row is searched."""
    if memory.coreset is None:
        return None
    tensors: Features = {}
    for stage, held in zip(manifest.stages, memory.coreset, strict=True):
        tensors[f"rows_{stage.index}"] = held.rows
        tensors[f"places_{stage.index}"] = held.places
    return tensors


def open_memory(manifest: Manifest, bank: Bank) -> MemoryBank:
    """The search over a bank's frames, within the memory that the bank allows itself."""
    tokens = [bank.features[f"tokens_{stage.index}"] for stage in manifest.stages]
    if bank.coreset is not None:
        stages = [stage.index for stage in manifest.stages]
        held = [Held(bank.coreset[f"rows_{index}"], bank.coreset[f"places_{index}"]) for index in stages]
        return MemoryBank(tokens, held=held)
    return MemoryBank(tokens, limit=max(bank.record.memory_mb, _half_size(tokens)))


def _half_size(tokens: Sequence[NDArray[Any]]) -> float:
    """MB of every row in half precision: a bank without a coreset searches every row, whatever its limit says."""
    return sum(stage.size for stage in tokens) * 2 / MEGABYTE


def measure_coreset(
    manifest: Manifest,
    features: Features,
    groups: Sequence[int],
    inside: NDArray[np.bool_] | None,
    judged: Judged,
    calibration: CalibrationRecord,
) -> CoresetRecord | None:
    """What searching a coreset in place of every row changes in the scores of enrolled frames; None without one.

    Every frame is held against all rows of the others where that takes about a minute or less on a small computer,
    else as many frames as do, at least ``_LEAST_MEASURED``, spread evenly over the bank.
    """
    memory = judged.memory
    if memory.coreset is None:
        return None
    tokens = [features[f"tokens_{stage.index}"] for stage in manifest.stages]
    shapes = [stage[0].shape for stage in tokens]
    per_frame = sum(shape[1] * shape[2] * rows for shape, rows in zip(shapes, memory.rows, strict=True))
    count = min(len(groups), max(_LEAST_MEASURED, _MEASURED_PRODUCTS // per_frame)) if judged.raws else 0
    frames = [int(frame) for frame in np.linspace(0, len(groups) - 1, count).round()]
    moved, logarithms = 0.0, 0.0
    if frames:
        distances = memory.leave_out(groups, frames, every_row=True)
        exact = _left_out(manifest, features, inside, memory, distances, frames)
        pairs = [(judged.raws[frame].raw_score, raw.raw_score) for frame, raw in zip(frames, exact, strict=True)]
        moved = max(abs(held - every) for held, every in pairs)
        logarithms = max(abs(math.log(max(held, _SMALLEST) / max(every, _SMALLEST))) for held, every in pairs)
    return CoresetRecord(
        rows=tuple(len(held.rows) for held in memory.coreset),
        of=tuple(memory.rows),
        radius=tuple(memory.radius()),
        frames=len(frames),
        moved=moved,
        moved_sd=None if calibration.image is None else logarithms / calibration.image.sd,
    )


def _with_head(manifest: Manifest) -> list[int]:
    return [stage.index for stage in manifest.stages if stage.head]
