"""The memory bank: what its search costs whatever is enrolled, and what a coreset changes (docs/enrolment.md).

    python bench/bank_search.py                   # sizes of ViT-L-14-336 at 518 pixels, then real frames
    python bench/bank_search.py --frames 4 100 --patches 300 --width 256      # smaller
    python bench/bank_search.py --only real --data ../shared/data

Search: unit tokens of k frames of one scene, four stages alike: each place of the frame has a direction of its own, a
few directions along which all frames vary, and noise. Random directions alone would all be equally far from each other,
which no picture is. Searches of all numbers of frames take turns, medians of the times and of the differences to the
first; the encoder's time is measured elsewhere (docs/performance.md) and given.

Real frames: aliens with the built-in bundle and its eight poses. Half of the normal frames are enrolled, the rest and
the anomalies scored, with all rows and with a memory for a share of them. "Left out": the median score of the enrolled
frames, each against the others, over that of the normal frames that were not enrolled: calibration wishes for 1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does

import numpy as np

from edgevand.bank import BANK_MEMORY
from edgevand.bundle import Bundle
from edgevand.home import builtin_bundle
from edgevand_runtime.augment import chosen_poses
from edgevand_runtime.calibration import calibrate
from edgevand_runtime.coreset import farthest
from edgevand_runtime.engines import EncoderOutput, open_engine
from edgevand_runtime.features import encode_frame, stack
from edgevand_runtime.memory import MEGABYTE, MemoryBank
from edgevand_runtime.methods import open_method
from edgevand_runtime.methods.texts import choose_text
from edgevand_runtime.metrics import auroc
from edgevand_runtime.preprocess import load_image
from edgevand_runtime.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

STAGES = 4
TURNS = 12
SHARES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01)


class Scene:
    """Tokens of frames that resemble each other."""

    def __init__(self, patches: int, width: int) -> None:
        """Draw what all frames share."""
        random = np.random.default_rng(0)
        self._places = _unit(random.standard_normal((patches, width), np.float32))
        self._ways = random.standard_normal((32, width), np.float32) / np.sqrt(width)

    def frame(self, number: int) -> NDArray[np.float32]:
        """(1, P, C) unit vectors."""
        random = np.random.default_rng(number)
        along = random.standard_normal((len(self._places), len(self._ways)), np.float32) @ self._ways
        noise = random.standard_normal(self._places.shape, np.float32) / np.sqrt(self._places.shape[1])
        return _unit(self._places + 0.1 * along + 0.15 * noise)[None]


def search(frames: list[int], patches: int, width: int, limit: float) -> list[dict[str, Any]]:
    """One row for each number of frames."""
    scene = Scene(patches, width)
    rows: list[dict[str, Any]] = []
    memories: list[MemoryBank] = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        spool = Spool(Path(folder), scene.frame(0))
        queries = [scene.frame(10**6)] * STAGES
        held_out = np.concatenate([scene.frame(10**6 + number) for number in range(4)])
        for count in sorted(frames):
            for number in range(len(spool.arrays()) if rows else 0, count):
                spool.add(scene.frame(number))
            tokens = list(spool.arrays())
            started = time.perf_counter()
            memory = MemoryBank([tokens] * STAGES, limit=limit)
            chosen = time.perf_counter() - started
            radius, took = _timed(memory.radius)
            row: dict[str, Any] = {
                "frames": count,
                "rows": memory.rows[0],
                "searched": len(memory.held[0].rows),
                "kind": memory.held[0].rows.dtype.name,
                "memory_mb": sum(held.rows.nbytes for held in memory.held) / MEGABYTE,
                "choose_s": chosen,
                "radius_s": took,
                "radius": max(radius),
            }
            if memory.coreset is not None:
                row |= _change(tokens, memory, held_out, radius[0])
                row["leave_out_s"] = _timed(memory.leave_out, range(count), range(0, count, 10))[1] * 10
            rows.append(row)
            memories.append(MemoryBank([tokens] * STAGES, held=memory.held))
            print(json.dumps(row), file=sys.stderr)
        times = np.array([[1e3 * _timed(memory.distances, queries)[1] for memory in memories] for _ in range(TURNS)])
    for row, taken in zip(rows, times[1:].T, strict=True):
        row["search_ms"] = statistics.median(taken)
        row["more_ms"] = statistics.median(taken - times[1:, 0])
    return rows


def _change(
    tokens: list[NDArray[np.float32]], memory: MemoryBank, held_out: NDArray[np.float32], radius: float
) -> dict[str, float]:
    """How much farther patches of frames that are not enrolled are from the coreset than from all rows."""
    one = MemoryBank([tokens], held=memory.held[:1]).distances([held_out])[0]
    every = np.full(held_out.shape[:2], 2.0, np.float32)
    for frame in tokens:
        np.minimum(every, MemoryBank([frame[None]]).distances([held_out])[0], out=every)
    return {
        "distance": float(every.mean()),
        "farther_mean": float((one - every).mean()),
        "farther_most": float((one - every).max()),
        "bound": farthest(float(every.mean()), radius) - float(every.mean()),
    }


def real(data: Path) -> list[dict[str, Any]]:
    """One row for each share of the rows that memory has room for."""
    bundle = Bundle.open(builtin_bundle())
    manifest, text = bundle.manifest, choose_text(bundle, None, None).text
    engine = open_engine(bundle, backend="onnxruntime", device="cpu", precision="fp32")
    poses = chosen_poses(None, manifest)
    normal = sorted((data / "aliens" / "normal").glob("*.png"))
    order = np.random.default_rng(0).permutation(len(normal))
    taken = [normal[position] for position in order[: len(normal) // 2]]
    others = [normal[position] for position in order[len(normal) // 2 :]]
    broken = sorted((data / "aliens" / "anomaly").glob("*.png"))
    enrolled = stack([encode_frame(load_image(path), manifest, engine, text, poses) for path in taken])
    scored = stack([encode_frame(load_image(path), manifest, engine, text, ()) for path in (*others, *broken)])
    engine.close()
    tokens = [enrolled[f"tokens_{stage.index}"] for stage in manifest.stages]
    half = sum(stage.size for stage in tokens) * 2 / MEGABYTE
    groups = range(len(taken))
    rows = []
    for share in SHARES:
        memory = MemoryBank(tokens, limit=None if share == 1 else share * half)
        method = open_method(manifest, text, memory)
        raws = [raw.raw_score for raw in method.score(_outputs(bundle, scored))]
        left = [raw.raw_score for raw in method.combine(_outputs(bundle, enrolled), memory.leave_out(groups))]
        limit = calibrate(left, left, 0.01, manifest.score.usual_sd).image
        kept = _own_rows_removed(bundle, memory, text, enrolled)
        good, bad = raws[: len(others)], raws[len(others) :]
        row = {
            "share": share,
            "searched": sum(len(held.rows) for held in memory.held),
            "memory_mb": sum(held.rows.nbytes for held in memory.held) / MEGABYTE,
            "radius": max(memory.radius()),
            "auroc": auroc(np.array([0] * len(good) + [1] * len(bad)), np.array(raws)),
            "left_out": statistics.median(left) / statistics.median(good),
            "own_rows_removed": statistics.median(kept) / statistics.median(good),
            "false_alarms": sum(score > limit.threshold for score in good) if limit else None,
            "found": sum(score > limit.threshold for score in bad) if limit else None,
        }
        rows.append(row)
        print(json.dumps(row), file=sys.stderr)
    return rows


def _own_rows_removed(
    bundle: Bundle, memory: MemoryBank, text: NDArray[np.float32] | None, enrolled: dict[str, Any]
) -> list[float]:
    """Scores of the enrolled frames against the coreset less their own rows, which is not what to calibrate on."""
    method = open_method(bundle.manifest, text, memory)
    scores = []
    for frame in range(memory.frames):
        outputs = _outputs(bundle, {name: tensor[frame : frame + 1] for name, tensor in enrolled.items()})
        distances = []
        for held, rows, tokens in zip(memory.held, memory.rows, outputs.tokens, strict=True):
            places = np.arange(rows) if held.places is None else held.places
            kept = held.rows[places // (rows // memory.frames) != frame]
            distances.append(MemoryBank([kept[None, None]]).distances([tokens])[0])
        scores += [raw.raw_score for raw in method.combine(outputs, distances)]
    return scores


def _outputs(bundle: Bundle, features: dict[str, Any]) -> EncoderOutput:
    """What the encoder said of the frames themselves."""
    return EncoderOutput(
        embedding=features["embedding"],
        tokens=tuple(features[f"tokens_{stage.index}"][:, 0] for stage in bundle.manifest.stages),
        logits=tuple(features[f"logits_{stage.index}"] for stage in bundle.manifest.stages if stage.head),
    )


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows


def _timed(call: Callable[..., Any], *arguments: object) -> tuple[Any, float]:
    started = time.perf_counter()
    result = call(*arguments)
    return result, time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[4, 16, 100, 200])
    parser.add_argument("--patches", type=int, default=1369)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--limit", type=float, default=BANK_MEMORY, metavar="MB")
    parser.add_argument("--encoder-s", type=float, default=5.0, help="what the encoder takes a frame")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", choices=("search", "real"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    if arguments.only != "real":
        found["search"] = search(arguments.frames, arguments.patches, arguments.width, arguments.limit)
        for row in found["search"]:
            row["more_of_encoder"] = row["more_ms"] / 1e3 / arguments.encoder_s
    if arguments.only != "search":
        if (arguments.data / "aliens").is_dir():
            found["real"] = real(arguments.data)
        else:
            print(f"no pictures in {arguments.data}: real frames are left out", file=sys.stderr)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for name, rows in found.items():
        print(f"\n{name}")
        for row in rows:
            print(
                "  ".join(
                    f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
                )
            )


if __name__ == "__main__":
    main()
