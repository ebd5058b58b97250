"""What a bank keeps of its frames: encoder outputs, and what follows from them without encoding again."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgevand.bank import CoresetRecord
from edgevand_runtime.augment import augmented_copies
from edgevand_runtime.calibration import calibrate
from edgevand_runtime.engines import EncoderOutput, Seen
from edgevand_runtime.locality import LocalBank
from edgevand_runtime.memory import MEGABYTE, Held, MemoryBank
from edgevand_runtime.methods import kind_of, open_method, usual_sd
from edgevand_runtime.methods.base import Enrolled
from edgevand_runtime.preprocess import crop, to_tensor

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from numpy.typing import NDArray

    from edgevand.bank import Bank, CalibrationRecord
    from edgevand.bundle import Bundle, Manifest
    from edgevand_runtime.coreset import Tokens
    from edgevand_runtime.engines import Engine
    from edgevand_runtime.methods import RawScore

__all__ = [
    "Features",
    "Judged",
    "Memory",
    "calibrate_features",
    "coreset_tensors",
    "decide",
    "encode_frame",
    "joined",
    "judge",
    "make_memory",
    "measure_coreset",
    "open_memory",
    "stack",
]

Features = dict[str, Any]
"""Tensors of ``features.safetensors`` by name; of one frame without the leading axis. The tokens of many frames may be
a list of each frame's own, which may lie on the disk."""

Memory = MemoryBank | LocalBank
"""The searches over enrolled frames that there are."""

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
    """Encode one frame with its augmented copies, or in the parts that the method sees it in.

    Args:
        image: (H, W, 3) uint8 BGR.
        manifest: of the bundle, as the method sees it.
        engine: runs its graph.
        text: (2, D) float32 for the graph's heads.
        augment: ``rotate``, ``flip``.

    Returns:
        What the method keeps (``Method.keep``), tokens as float16 unless the graph is fp32.
    """
    method = kind_of(manifest).open
    size = (image.shape[1], image.shape[0])
    boxes = method.boxes(manifest, size)
    pictures = [image, *augmented_copies(image, augment)] if boxes is None else [crop(image, box) for box in boxes]
    tensors = np.stack([to_tensor(picture, manifest.image) for picture in pictures])
    outputs = joined([engine.run(tensors[start : start + _BATCH], text) for start in range(0, len(tensors), _BATCH)])
    if boxes is not None:
        outputs = outputs.of(Seen((len(boxes),), (size,)))
    kept = np.float32 if engine.precision == "fp32" else np.float16
    features = method.keep(manifest, outputs)
    return {name: each.astype(kept) if name.startswith("tokens_") else each for name, each in features.items()}


def joined(outputs: Sequence[EncoderOutput]) -> EncoderOutput:
    """Outputs of several batches as those of one."""
    return EncoderOutput(
        embedding=np.concatenate([one.embedding for one in outputs]),
        tokens=tuple(map(np.concatenate, zip(*(one.tokens for one in outputs), strict=True))),
        logits=tuple(map(np.concatenate, zip(*(one.logits for one in outputs), strict=True))),
        maps={name: np.concatenate([one.maps[name] for one in outputs]) for name in outputs[0].maps},
    )


def decide(
    bundle: Bundle, features: Features, groups: Sequence[int], inside: NDArray[np.bool_] | None
) -> tuple[Bundle, tuple[str, ...]]:
    """Settle a method's automatic settings by the frames that are enrolled.

    Args:
        bundle: as the method sees it.
        features: of the frames.
        groups: group of each frame.
        inside: region of interest at image size; None for the whole image.

    Returns:
        The bundle with the settings that were chosen, and a sentence on each choice.
    """
    kind = kind_of(bundle.manifest)
    if kind.decide is None:
        return bundle, ()
    settings, told = kind.decide(Enrolled(bundle.manifest, features, groups, inside))
    return bundle.as_method(kind.name, settings.model_dump(mode="json")), told


def stack(frames: Sequence[Features]) -> Features:
    """Features of F frames from those of each."""
    return {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}


class Judged(NamedTuple):
    """The frames of a bank, held against each other."""

    memory: Memory | None
    """What will be searched; None for a method that searches nothing."""
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
    if not kind_of(manifest).searches:
        method = open_method(manifest, features.get("text"), None, inside, features=features)
        alone = len(set(groups)) == 1
        return Judged(None, [] if alone else [replace(raw, raw_map=None) for raw in method.leave_out(groups)])
    memory = make_memory(manifest, [features[f"tokens_{stage.index}"] for stage in manifest.stages], limit)
    if len(set(groups)) == 1:
        return Judged(memory, [])
    distances = memory.leave_out(groups)
    return Judged(memory, _left_out(manifest, features, groups, inside, memory, distances, range(len(groups))))


def _left_out(
    manifest: Manifest,
    features: Features,
    groups: Sequence[int],
    inside: NDArray[np.bool_] | None,
    memory: Memory,
    distances: Sequence[NDArray[np.float32]],
    frames: Iterable[int],
) -> list[RawScore]:
    """Scores of some frames by their distances to the others, one at a time: a map is as large as a picture."""
    method = open_method(manifest, features.get("text"), memory, inside, features=features)
    labels = np.asarray(groups)
    found = []
    for row, frame in enumerate(frames):
        outputs = EncoderOutput(
            embedding=np.asarray(features["embedding"][frame : frame + 1], np.float32),
            tokens=tuple(np.asarray(features[f"tokens_{s.index}"][frame][:1], np.float32) for s in manifest.stages),
            logits=tuple(features[f"logits_{stage}"][frame : frame + 1] for stage in _with_head(manifest)),
        )
        left_out = labels == labels[frame]
        (raw,) = method.combine_without(outputs, [stage[row : row + 1] for stage in distances], left_out)
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
        usual_sd(manifest),
    )


def coreset_tensors(manifest: Manifest, memory: Memory | None) -> Features | None:
    """Tensors of ``coreset.safetensors``; None where every row is searched."""
    if memory is None or memory.coreset is None:
        return None
    tensors: Features = {}
    for stage, held in zip(manifest.stages, memory.coreset, strict=True):
        tensors[f"rows_{stage.index}"] = held.rows
        tensors[f"places_{stage.index}"] = held.places
    return tensors


def make_memory(
    manifest: Manifest, tokens: Sequence[Tokens], limit: float | None = None, smaller: Memory | None = None
) -> Memory:
    """The search over enrolled frames that the method wants; arguments as of ``MemoryBank``.

    Raises:
        UsageError: the limit has no room.
    """
    kind = kind_of(manifest)
    other = None if kind.memory is None else kind.memory(manifest, tokens, limit)
    if other is not None:
        return other
    return MemoryBank(tokens, smaller if isinstance(smaller, MemoryBank) else None, limit=limit)


def open_memory(manifest: Manifest, bank: Bank) -> Memory:
    """The search over a bank's frames, within the memory that the bank allows itself."""
    tokens = [bank.features[f"tokens_{stage.index}"] for stage in manifest.stages]
    if bank.coreset is not None:
        stages = [stage.index for stage in manifest.stages]
        held = [Held(bank.coreset[f"rows_{index}"], bank.coreset[f"places_{index}"]) for index in stages]
        return MemoryBank(tokens, held=held)
    return make_memory(manifest, tokens, max(bank.record.memory_mb, _half_size(tokens)))


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
    if memory is None or memory.coreset is None:
        return None
    tokens = [features[f"tokens_{stage.index}"] for stage in manifest.stages]
    shapes = [stage[0].shape for stage in tokens]
    per_frame = sum(shape[1] * shape[2] * rows for shape, rows in zip(shapes, memory.rows, strict=True))
    count = min(len(groups), max(_LEAST_MEASURED, _MEASURED_PRODUCTS // per_frame)) if judged.raws else 0
    frames = [int(frame) for frame in np.linspace(0, len(groups) - 1, count).round()]
    moved, logarithms = 0.0, 0.0
    if frames:
        distances = memory.leave_out(groups, frames, every_row=True)
        exact = _left_out(manifest, features, groups, inside, memory, distances, frames)
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
