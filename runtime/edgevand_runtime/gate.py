"""What another precision costs, measured on normal frames: do scores stay, and does what was wrong stay wrong?

Two engines encode the same frames, and each frame again with a drawn blemish. Every frame is scored against a bank of
the other frames, its blemished copy against the same bank. The other engine passes where

- no frame's ln(score) moves by more than ``MOVED_LIMIT`` deviations of ln(score) among the frames, and
- of the pairs (frame, blemished frame) that the reference tells apart, by more than those ``MOVED_LIMIT`` deviations,
  at least ``RANKING_LIMIT`` are in the same order.

docs/precision.md says why these and what they cannot see.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgevand.bundle import GateRecord
from edgevand.errors import BadInputError
from edgevand_runtime.calibration import moderated_sd
from edgevand_runtime.drawn.blemish import blemish
from edgevand_runtime.engines import EncoderOutput
from edgevand_runtime.features import encode_frame, stack
from edgevand_runtime.memory import MemoryBank
from edgevand_runtime.methods import kind_of, open_method, usual_sd

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from edgevand.bank import BankRecord
    from edgevand.bundle import Manifest, Precision
    from edgevand_runtime.engines import Engine
    from edgevand_runtime.features import Features

__all__ = [
    "MIN_FRAMES",
    "MOVED_LIMIT",
    "RANKING_LIMIT",
    "Judgement",
    "Seen",
    "judge",
    "look",
    "told_of_precision",
]

MOVED_LIMIT = 0.5
"""Deviations of ln(score); scatter below it widens the spread of normal frames by a few hundredths at most."""

RANKING_LIMIT = 0.98
"""Share of pairs."""

MIN_FRAMES = 4
"""Independent frames, as for a threshold: fewer say nothing of their spread."""

_SMALLEST = 1e-12
"""Raw scores are sums of distances and probabilities; rounding can put a perfect match just below 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What one engine said of F frames.

    Attributes:
        features: of the frames and their augmented copies (``features.stack``).
        blemished: of the frames with a drawn blemish, (F, …) each.
        seconds: median time of encoding one blemished frame; the first is not counted.
        engine: its name.
        precision: of its graph.
    """

    features: Features
    blemished: Features
    seconds: float
    engine: str
    precision: Precision


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """The gate's record with what it rests on.

    Attributes:
        record: what bundle or bank keeps.
        reference: (F,) raw score of each frame by the reference.
        other: (F,) the same by the other engine.
        moved: (F,) difference of ln(score) in deviations, with its sign.
        turned: (F,) blemished frames that the reference tells apart from this frame and the other orders otherwise.
    """

    record: GateRecord
    reference: NDArray[np.float64]
    other: NDArray[np.float64]
    moved: NDArray[np.float64]
    turned: NDArray[np.int64]

    def table(self) -> str:
        """What moved, a line for each frame."""
        lines = [
            f"frame  reference  {self.record.precision:>9}  moved (deviations)  blemished frames ordered otherwise"
        ]
        columns = zip(self.reference, self.other, self.moved, self.turned, strict=True)
        for number, (wanted, found, moved, turned) in enumerate(columns, start=1):
            lines.append(f"{number:5d}  {wanted:9.4f}  {found:9.4f}  {moved:+18.2f}  {turned} of {len(self.turned)}")
        return "\n".join(lines)


def look(
    manifest: Manifest,
    engine: Engine,
    frames: Sequence[NDArray[np.uint8]],
    text: NDArray[np.float32] | None,
    augment: Collection[str] = (),
    inside: NDArray[np.bool_] | None = None,
    features: Features | None = None,
) -> Seen:
    """Encode frames and their blemished copies.

    Args:
        manifest: of the bundle.
        engine: runs one of its graphs.
        frames: (H, W, 3) uint8 BGR each.
        text: (2, D) float32 for the graph's heads.
        augment: copies that the bank holds of each frame.
        inside: region of interest at the bundle's image size; blemishes lie in it.
        features: of the frames, where this engine has encoded them before.
    """
    if features is None:
        features = stack([encode_frame(image, manifest, engine, text, augment) for image in frames])
    blemished, seconds = [], []
    for number, image in enumerate(frames):
        picture = blemish(image, number, inside)
        started = time.perf_counter()
        blemished.append(encode_frame(picture, manifest, engine, text, ()))
        seconds.append(time.perf_counter() - started)
    return Seen(features, stack(blemished), float(np.median(seconds[1:] or seconds)), engine.name, engine.precision)


def judge(
    manifest: Manifest,
    reference: Seen,
    other: Seen,
    groups: Sequence[int],
    text: NDArray[np.float32] | None,
    inside: NDArray[np.bool_] | None = None,
) -> Judgement:
    """Compare what two engines said of the same frames.

    Args:
        manifest: of the bundle.
        reference: what the engine of the main graph said.
        other: what the one in question said.
        groups: of the frames.
        text: (2, D) float32, or None.
        inside: region of interest at the bundle's image size.

    Raises:
        BadInputError: fewer than ``MIN_FRAMES`` independent frames.
    """
    if len(set(groups)) < MIN_FRAMES:
        message = (
            f"expected at least {MIN_FRAMES} independent frames to hold {other.precision} against the reference, "
            f"found {len(set(groups))}; give more frames, or name the precision with --precision."
        )
        raise BadInputError(message)
    normal, defective = _scores(manifest, reference, groups, text, inside)
    found_normal, found_defective = _scores(manifest, other, groups, text, inside)
    spread = moderated_sd(normal, usual_sd(manifest))
    moved = (found_normal - normal) / spread
    apart = np.abs(defective[None] - normal[:, None]) > MOVED_LIMIT * spread
    turned = apart & ((defective[None] > normal[:, None]) != (found_defective[None] > found_normal[:, None]))
    worst, kept = float(np.abs(moved).max()), 1 - float(turned.sum() / max(apart.sum(), 1))
    record = GateRecord(
        precision=other.precision,
        engine=other.engine,
        frames=len(normal),
        moved=worst,
        moved_limit=MOVED_LIMIT,
        ranking=kept,
        ranking_limit=RANKING_LIMIT,
        passed=worst <= MOVED_LIMIT and kept >= RANKING_LIMIT,
    )
    return Judgement(record, np.exp(normal), np.exp(found_normal), moved, turned.sum(axis=1))


def told_of_precision(record: BankRecord, variants: Sequence[Precision]) -> str | None:
    """One line for a person: which precision a bank got where it was left to the gate, and why.

    Args:
        record: the bank's.
        variants: precisions that the bundle has besides its main graph's; none need no word.
    """
    if not variants:
        return None
    if not record.gates:
        few = f"fewer than {MIN_FRAMES} independent frames cannot judge {', '.join(variants)}"
        return f"precision {record.precision}: {few}"
    found = "; ".join(_told_of_gate(gate, taken=gate.precision == record.precision) for gate in record.gates)
    return f"precision {record.precision}: {found}"


def _told_of_gate(gate: GateRecord, *, taken: bool) -> str:
    """What a gate found, and what came of it."""
    end = "does not pass" if not gate.passed else "is faster here" if taken else "passes, but is not the fastest here"
    return (
        f"{gate.precision} ({gate.engine}) moves scores by at most {gate.moved:.2f} deviations (limit "
        f"{gate.moved_limit:g}), keeps {gate.ranking:.1%} of the order (limit {gate.ranking_limit:.0%}) and {end}"
    )


def _scores(
    manifest: Manifest,
    seen: Seen,
    groups: Sequence[int],
    text: NDArray[np.float32] | None,
    inside: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ln(raw score) of every frame and of its blemished copy, both without the frame's group in the bank: (F,) each."""
    labels = np.asarray(groups)
    stages = [f"tokens_{stage.index}" for stage in manifest.stages]
    searches = kind_of(manifest).searches
    normal: list[float] = []
    defective: list[float] = []
    for number, label in enumerate(labels):
        others = np.flatnonzero(labels != label)
        enrolled = {name: np.stack([each[other] for other in others]) for name, each in seen.features.items()}
        memory = MemoryBank([enrolled[name] for name in stages]) if searches else None
        method = open_method(manifest, text, memory, inside, features=enrolled)
        pair = [
            {name: each[number][:1] if name in stages else each[number] for name, each in features.items()}
            for features in (seen.features, seen.blemished)
        ]
        outputs = _outputs(manifest, stack(pair))
        # What a bank keeps of a frame is what is searched for: nothing more is done to it, as ``score`` might.
        raws = method.score(outputs) if memory is None else method.combine(outputs, memory.distances(outputs.tokens))
        for scores, raw in zip((normal, defective), raws, strict=True):
            scores.append(math.log(max(raw.raw_score, _SMALLEST)))
    return np.array(normal), np.array(defective)


def _outputs(manifest: Manifest, features: Features) -> EncoderOutput:
    """Features of frames without copies as an encoder's output."""
    return EncoderOutput(
        embedding=features["embedding"].astype(np.float32),
        tokens=tuple(features[f"tokens_{stage.index}"][:, 0].astype(np.float32) for stage in manifest.stages),
        logits=tuple(features[f"logits_{stage.index}"] for stage in manifest.stages if stage.head),
        maps={each.name: features[f"map_{each.name}"] for each in manifest.maps},
    )
