"""The parity certificate: what torch computes against what ONNX Runtime makes of the graph that was written.

Every output of the golden sample is compared, for batches of 1, 2 and 4; so are the anomaly map and the image score
that follow from the outputs. A graph that misses a limit is no export.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from edgevand.bundle import OutputParity, ParityRecord
from edgevand.errors import GateError
from edgevand_runtime.parity_limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand.bundle import Precision, StageRecord
    from edgevand_runtime.parity_limits import Limits

    Arrays = Mapping[str, NDArray[np.float32]]

__all__ = ["BATCHES", "compare", "compare_outputs", "run_graph"]

BATCHES = (1, 2, 4)


def run_graph(path: Path, images: NDArray[np.float32], text: NDArray[np.float32] | None) -> dict[int, dict[str, Any]]:
    """Run the graph by ONNX Runtime on the CPU, in batches of 1, 2 and 4.

    Args:
        path: ``encoder.onnx``.
        images: (G, 3, H, W) float32.
        text: (2, D) float32, where the graph has heads.

    Returns:
        For each batch size the outputs of one run by name, (batch, ...) each: the sample cut off, or repeated.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    results = {}
    for batch in BATCHES:
        feeds = {"image": images[np.resize(np.arange(len(images)), batch)]}
        if text is not None:
            feeds["text"] = text
        results[batch] = dict(zip(names, session.run(names, feeds), strict=True))
    return results


def compare(
    reference: Arrays,
    results: Mapping[int, Arrays],
    stages: Sequence[StageRecord],
    size: tuple[int, int],
    precision: Precision,
    text: NDArray[np.float32] | None,
) -> ParityRecord:
    """Hold the graph's outputs against torch's.

    Args:
        reference: torch's outputs by name, (G, ...) float32.
        results: ONNX Runtime's for each batch size: the first rows of the sample, or the sample repeated.
        stages: of the graph.
        size: height and width of the image, which is the map's.
        precision: decides the limits.
        text: (2, D) float32 of the golden object.

    Raises:
        GateError: an output, the map or the score misses its limit.
    """
    certificate = compare_outputs(reference, results, precision)
    limits = LIMITS[precision]
    map_error, score_error = 0.0, 0.0
    wanted_map, wanted_score = _scores(reference, stages, size, text)
    spread = float(wanted_map.max() - wanted_map.min())
    for outputs in results.values():
        count = len(wanted_score)
        if len(outputs["embedding"]) < count:  # a map needs the other pictures as its bank
            continue
        first = {name: each[:count] for name, each in outputs.items()}
        found_map, found_score = _scores(first, stages, size, text)
        map_error = max(map_error, float(np.abs(found_map - wanted_map).max()))
        score_error = max(score_error, float(np.abs(found_score - wanted_score).max()))
    limit = limits.map * (spread if limits.map_of_range else 1.0)
    _gate("the anomaly map", map_error, limit)
    _gate("the image score", score_error, limits.score)
    return certificate.model_copy(update={"map_max_abs": map_error, "score_max_abs": score_error})


def compare_outputs(reference: Arrays, results: Mapping[int, Arrays], precision: Precision) -> ParityRecord:
    """Hold a graph's outputs against torch's, one by one.

    Args:
        reference: torch's outputs by name, (G, ...) float32.
        results: ONNX Runtime's for each batch size, as ``run_graph`` gives them.
        precision: decides the limits.

    Returns:
        The certificate; its differences of map and score are those of the outputs ``map_<name>`` and their maxima.

    Raises:
        GateError: an output misses its limit.
    """
    rows = tuple(_worst(name, each, results, LIMITS[precision]) for name, each in reference.items())
    score_error = 0.0
    for name, wanted in reference.items():
        for outputs in results.values() if name.startswith("map_") else ():
            found = outputs[name].reshape(len(outputs[name]), -1).max(axis=1)
            highest = wanted.reshape(len(wanted), -1).max(axis=1)
            score_error = max(score_error, float(np.abs(found - np.resize(highest, len(found))).max()))
    return ParityRecord(
        reference=f"torch {torch.__version__} cpu float32",
        engine=_engine(),
        batches=tuple(results),
        outputs=rows,
        map_max_abs=max((row.max_abs for row in rows if row.output.startswith("map_")), default=0.0),
        score_max_abs=score_error,
    )


def _worst(name: str, wanted: NDArray[np.float32], results: Mapping[int, Arrays], limits: Limits) -> OutputParity:
    """The certificate's row of one output, over all batches."""
    error, cosine = 0.0, 1.0
    for outputs in results.values():
        found = outputs[name]
        repeated = wanted[np.resize(np.arange(len(wanted)), len(found))]
        if found.shape != repeated.shape or not np.isfinite(found).all():
            raise GateError(
                f"expected finite numbers of shape {repeated.shape} in the graph's output {name}, found "
                f"{found.shape}{'' if np.isfinite(found).all() else ' with NaN or infinity'}; nothing was written"
            )
        error = max(error, float(np.abs(found - repeated).max()))
        cosine = min(cosine, _cosine(found, repeated))
    if limits.relative is not None:
        bound = limits.relative * float(np.abs(wanted).max())
        _gate(f"output {name}", error, bound)
        rule = f"max abs <= {limits.relative:g} of the largest value"
    elif name.startswith("logits"):
        rule = "held through the map"
    else:
        if limits.cosine is not None and cosine < limits.cosine:
            raise GateError(
                f"expected the graph's output {name} to agree with torch to a cosine of {limits.cosine:g}, "
                f"found {cosine:.6f}; nothing was written, export with --precision fp32"
            )
        rule = f"cosine >= {limits.cosine:g}"
    return OutputParity(output=name, max_abs=error, cosine=cosine, limit=rule)


def _gate(what: str, error: float, limit: float) -> None:
    """Refuse an error above its limit, or one that is no number."""
    if not error <= limit:
        raise GateError(
            f"expected {what} of the graph to agree with torch within {limit:.3g}, found a difference of {error:.3g}; "
            "nothing was written, export with --precision fp32 or report the model"
        )


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Smallest cosine of the rows (last axis) of two arrays."""
    x, y = (each.reshape(-1, each.shape[-1]).astype(np.float64) for each in (a, b))
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return float(((x * y).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)).min())


def _scores(
    outputs: Arrays, stages: Sequence[StageRecord], size: tuple[int, int], text: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Maps (G, H, W) and image scores (G,) of the method, each frame with the others as its memory bank.

    Written in torch, apart from the runtime's own code, so that one can be held against the other.
    """
    tensors = {name: torch.from_numpy(np.array(each)) for name, each in outputs.items()}
    total = torch.zeros(len(tensors["embedding"]), *size)
    for stage in stages:
        tokens = tensors[f"tokens_{stage.index}"]
        total += _enlarge(_distances(tokens).reshape(-1, *stage.grid), size)
        if stage.head:
            total += torch.sigmoid(_enlarge(tensors[f"logits_{stage.index}"], size))
    score = total.flatten(1).amax(dim=1)
    if text is not None:
        logits = 100.0 * tensors["embedding"] @ torch.from_numpy(np.array(text)).T
        score = score + logits.softmax(dim=1)[:, 1]
    return total.numpy(), score.numpy()


def _distances(tokens: torch.Tensor) -> torch.Tensor:
    """Unit tokens (G, P, C) to 1 - the largest cosine with any token of another frame, (G, P)."""
    rows = []
    for frame in range(len(tokens)):
        bank = torch.cat([tokens[:frame], tokens[frame + 1 :]]).flatten(0, 1)
        rows.append(1 - (tokens[frame] @ bank.T).amax(dim=1))
    return torch.stack(rows)


def _enlarge(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Maps (G, h, w) to the image's size, bilinear with aligned corners."""
    return functional.interpolate(maps.unsqueeze(1), size=size, mode="bilinear", align_corners=True).squeeze(1)


def _engine() -> str:
    """The engine's name and version."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__} cpu"
