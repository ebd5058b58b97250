"""Prove a bundle again, on the device that will run it.

The golden sample travels in the bundle with what torch computed for it at export. Here the engine of this machine
encodes the same pictures, and its outputs, and the maps and image scores that follow from them, are held against
torch's with the limits of the export's certificate (methods.md (i)).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand.bundle import DEFAULT_METHOD
from edgevand_runtime.engines import EncoderOutput
from edgevand_runtime.features import joined
from edgevand_runtime.memory import MemoryBank
from edgevand_runtime.methods import kind_of, open_method
from edgevand_runtime.parity_limits import LIMITS
from edgevand_runtime.preprocess import to_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edgevand.bundle import Bundle, Manifest, Precision
    from edgevand_runtime.engines import Engine
    from edgevand_runtime.parity_limits import Limits

__all__ = ["Check", "ParityReport", "check_parity"]


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison with torch.

    Attributes:
        name: the graph's output, ``map`` or ``score``.
        max_abs: largest difference; None where one of the two is not finite.
        cosine: smallest cosine of the rows; None for map and score.
        limit: the rule, in words.
        passed: whether it holds.
    """

    name: str
    max_abs: float | None
    cosine: float | None
    limit: str
    passed: bool


@dataclass(frozen=True, slots=True)
class ParityReport:
    """What the golden sample says about an engine.

    Attributes:
        engine: what ran.
        precision: of the graph that it ran.
        frames: golden frames that were compared.
        checks: every output, then the map and the score.
    """

    engine: str
    precision: Precision
    frames: int
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {
            "engine": self.engine,
            "precision": self.precision,
            "frames": self.frames,
            "passed": self.passed,
            "checks": [asdict(check) for check in self.checks],
        }


def check_parity(bundle: Bundle, engine: Engine, *, batched: bool = True) -> ParityReport:
    """Run the golden sample, frame by frame and as one batch, and compare.

    Args:
        bundle: an opened bundle.
        engine: runs its graph here.
        batched: also run it as one batch, which takes as long again.

    Raises:
        FormatError: the golden sample does not fit the manifest.
    """
    manifest, golden = bundle.manifest, bundle.golden()
    images = np.stack([to_tensor(picture[..., ::-1], manifest.image) for picture in golden["image"]])
    text = golden.get("text")
    reference = _split(manifest, golden)
    runs = [joined([engine.run(images[i : i + 1], text) for i in range(len(images))])]
    if batched:
        runs.append(engine.run(images, text))
    checks = [
        _compare(
            name,
            _by_name(manifest, reference)[name],
            [_by_name(manifest, run)[name] for run in runs],
            LIMITS[engine.precision],
        )
        for name in _by_name(manifest, reference)
    ]
    if manifest.graph == bundle.whole.graph:
        manifest = bundle.as_method(DEFAULT_METHOD).manifest  # of the encoder, whatever method it then serves
    if kind_of(manifest).searches:
        checks += _compare_scores(manifest, text, reference, runs, LIMITS[engine.precision])
    return ParityReport(engine.name, engine.precision, len(images), tuple(checks))


def _split(manifest: Manifest, tensors: Mapping[str, NDArray[Any]]) -> EncoderOutput:
    """Golden tensors as an encoder's output."""
    return EncoderOutput(
        embedding=tensors.get("embedding", np.empty((len(tensors["image"]), 0), np.float32)),
        tokens=tuple(tensors[f"tokens_{stage.index}"] for stage in manifest.stages),
        logits=tuple(tensors[f"logits_{stage.index}"] for stage in manifest.stages if stage.head),
        maps={each.name: tensors[f"map_{each.name}"] for each in manifest.maps},
    )


def _by_name(manifest: Manifest, output: EncoderOutput) -> dict[str, NDArray[np.float32]]:
    """An encoder's outputs by the names of the graph."""
    named = {"embedding": output.embedding} if manifest.embedding_dim else {}
    named |= {f"tokens_{s.index}": tokens for s, tokens in zip(manifest.stages, output.tokens, strict=True)}
    headed = [stage for stage in manifest.stages if stage.head]
    named |= {f"logits_{s.index}": logits for s, logits in zip(headed, output.logits, strict=True)}
    return named | {f"map_{name}": found for name, found in output.maps.items()}


def _compare(name: str, wanted: NDArray[np.float32], runs: list[NDArray[np.float32]], limits: Limits) -> Check:
    """One output against torch's, over all runs."""
    if any(run.shape != wanted.shape or not np.isfinite(run).all() for run in runs):
        return Check(name, None, None, f"finite, shape {wanted.shape}", passed=False)
    error = max(float(np.abs(run - wanted).max()) for run in runs)
    cosine = min(_cosine(run, wanted) for run in runs)
    if limits.relative is not None:
        bound = limits.relative * float(np.abs(wanted).max())
        return Check(name, error, cosine, f"max abs <= {limits.relative:g} of the largest value", passed=error <= bound)
    if limits.cosine is None or name.startswith("logits"):
        return Check(name, error, cosine, "held through the map", passed=True)
    return Check(name, error, cosine, f"cosine >= {limits.cosine:g}", passed=cosine >= limits.cosine)


def _compare_scores(
    manifest: Manifest,
    text: NDArray[np.float32] | None,
    reference: EncoderOutput,
    runs: list[EncoderOutput],
    limits: Limits,
) -> list[Check]:
    """Maps and image scores of the method, each golden frame with the others as its bank."""
    wanted_maps, wanted_scores = _method_scores(manifest, text, reference)
    map_error = score_error = 0.0
    for run in runs:
        maps, scores = _method_scores(manifest, text, run)
        map_error = float(np.maximum(map_error, np.abs(maps - wanted_maps).max()))
        score_error = float(np.maximum(score_error, np.abs(scores - wanted_scores).max()))
    bound = limits.map
    rule = f"max abs <= {bound:g}"
    if limits.map_of_range:
        rule += " of its range"
        bound *= float(np.ptp(wanted_maps))
    # np.maximum keeps NaN and a comparison with NaN is false: what is not finite fails.
    return [
        Check("map", _finite(map_error), None, rule, passed=map_error <= bound),
        Check(
            "score",
            _finite(score_error),
            None,
            f"max abs <= {limits.score:g}",
            passed=score_error <= limits.score,
        ),
    ]


def _method_scores(
    manifest: Manifest, text: NDArray[np.float32] | None, output: EncoderOutput
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Maps (G, H, W) and raw scores (G,) of golden frames."""
    memory = MemoryBank([tokens[:, None] for tokens in output.tokens])
    groups = range(len(output.embedding))
    raw = open_method(manifest, text, memory).combine(output, memory.leave_out(groups))
    size = (manifest.image.height, manifest.image.width)
    maps = [np.zeros(size, np.float32) if one.raw_map is None else one.raw_map for one in raw]
    return np.stack(maps), np.array([one.raw_score for one in raw])


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Smallest cosine of the rows (last axis)."""
    x, y = (each.reshape(-1, each.shape[-1]).astype(np.float64) for each in (a, b))
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return float(((x * y).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)).min())


def _finite(value: float) -> float | None:
    """The value, or None where JSON has no number for it."""
    return value if np.isfinite(value) else None
