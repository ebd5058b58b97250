"""What a bank keeps of its frames: encoder outputs, and what follows from them without encoding again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand_runtime.augment import augmented_copies
from edgevand_runtime.calibration import calibrate
from edgevand_runtime.engines import EncoderOutput
from edgevand_runtime.memory import MemoryBank
from edgevand_runtime.methods import open_method
from edgevand_runtime.preprocess import to_tensor

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from edgevand.bank import CalibrationRecord
    from edgevand.bundle import Manifest
    from edgevand_runtime.engines import Engine
    from edgevand_runtime.methods import Method, RawScore

__all__ = ["Features", "calibrate_features", "encode_frame", "leave_one_out", "stack"]

Features = dict[str, "NDArray[Any]"]
"""Tensors of ``features.safetensors`` by name; of one frame without the leading axis."""

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


def leave_one_out(
    manifest: Manifest, features: Features, groups: Sequence[int], inside: NDArray[np.bool_] | None
) -> list[RawScore]:
    """Score every enrolled frame against the frames of the other groups (methods.md (g)); at least two groups."""
    method, outputs = _enrolled(manifest, features, inside)
    return method.leave_out(outputs, groups)


def _enrolled(manifest: Manifest, features: Features, inside: NDArray[np.bool_] | None) -> tuple[Method, EncoderOutput]:
    """The method with the bank of these features, and what the encoder said of the frames themselves."""
    memory = MemoryBank([features[f"tokens_{stage.index}"] for stage in manifest.stages])
    outputs = EncoderOutput(
        embedding=features["embedding"].astype(np.float32),
        tokens=tuple(features[f"tokens_{stage.index}"][:, 0] for stage in manifest.stages),
        logits=tuple(features[f"logits_{stage}"] for stage in _with_head(manifest)),
    )
    text = features.get("text")
    return open_method(manifest, text, memory, inside), outputs


def calibrate_features(
    manifest: Manifest,
    features: Features,
    groups: Sequence[int],
    inside: NDArray[np.bool_] | None,
    rate: float,
) -> CalibrationRecord:
    """Calibrate a bank on its own frames; each group counts once, with its highest score.

    Args:
        manifest: of the bundle.
        features: of F frames.
        groups: group of each frame.
        inside: region of interest at image size.
        rate: wanted false-alarm rate per frame.
    """
    names = sorted(set(groups))
    if len(names) == 1:  # nothing is left to score against; the one group is told by its n
        return calibrate([0.0], [0.0], rate).model_copy(update={"scores": ()})
    method, outputs = _enrolled(manifest, features, inside)
    raws = method.leave_out(outputs, groups)
    by_group = [[raw for raw, group in zip(raws, groups, strict=True) if group == name] for name in names]
    return calibrate(
        [max(raw.raw_score for raw in raws) for raws in by_group],
        [max(raw.map_max or 0.0 for raw in raws) for raws in by_group],
        rate,
        manifest.score.usual_sd,
    )


def _with_head(manifest: Manifest) -> list[int]:
    return [stage.index for stage in manifest.stages if stage.head]
