"""A frame of a 640x360 video to its verdict with the built-in bundle, on one core: each step, and all of them.

Draws a video of the conveyor, enrols frames of it, pins the process to ``--cores`` cores (before anything counts
them), and scores the video: read and decoded, resized, encoded, searched, judged, written as a line of JSON.

    python bench/builtin_frame.py [--cores 1] [--shots 8] [--augment rotate|none] [--bank-memory MB]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does

import cv2
import numpy as np

from edgevand.bank import BANK_MEMORY
from edgevand.bundle import Bundle
from edgevand.home import builtin_bundle
from edgevand_runtime.benchmark.work import count_operations, matrix_peak
from edgevand_runtime.camera_health import CameraHealth
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines.choose import ENGINES
from edgevand_runtime.enroll import EnrolOptions, enroll
from edgevand_runtime.preprocess import load_image
from edgevand_runtime.sinks import JsonLines
from edgevand_runtime.sources import open_source
from edgevand_runtime.threads import set_threads

if TYPE_CHECKING:
    from edgevand.bank import Bank

SIZE, FRAMES, WARM_UP = (640, 360), 300, 20
STEPS = ("decode", "preprocess", "encode", "search", "judge", "sinks")


def draw_video(path: Path, *, frames: int, defects: float) -> None:
    """The conveyor as MPEG-4 at 30 frames a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30.0, SIZE)
    with open_source(f"test://conveyor?live=0&frames={frames}&defects={defects}&seed=3") as source:
        for frame in source:
            writer.write(cv2.resize(frame.image, SIZE, interpolation=cv2.INTER_AREA))
    writer.release()


def main() -> None:
    """Draw, enrol, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--shots", type=int, default=8)
    parser.add_argument("--augment", default="rotate")
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--bank-memory", type=float, default=BANK_MEMORY, help="MB; less makes a coreset")
    parser.add_argument("--bundle", type=Path, default=builtin_bundle())
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: given.cores]))
    threads = set_threads(None)
    bundle = Bundle.open(given.bundle)
    engine = ENGINES[given.backend].open(bundle, "cpu", given.precision, threads)
    poses = () if given.augment == "none" else tuple(given.augment.split(","))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_video(folder / "good.mp4", frames=80, defects=0.0)
        draw_video(folder / "belt.mp4", frames=FRAMES, defects=0.1)
        with open_source(folder / "good.mp4") as source:
            options = EnrolOptions(shots=given.shots, interval=0.0, augment=poses, memory_mb=given.bank_memory)
            bank = enroll(source, bundle, engine, folder / "bank", options).bank
        thumbnails = [load_image(path) for path in sorted((bank.path / "frames").glob("*.jpg"))]
        health = CameraHealth(thumbnails, SIZE)
        steps = score_video(folder / "belt.mp4", Detector(bundle, engine, bank), health, folder / "results.jsonl")
    report(given, threads, bank, steps, count_operations(bundle) / matrix_peak(threads))


def score_video(path: Path, detector: Detector, health: CameraHealth, output: Path) -> dict[str, list[float]]:
    """Seconds of every step of every frame after the warm-up; ``health`` is what monitor does beside them."""
    rows = []
    with open_source(path) as source, closing(JsonLines(output)) as sink:
        for _ in range(FRAMES):
            times = [time.perf_counter()]
            frame = source.read()
            if frame is None:
                continue
            times.append(time.perf_counter())
            tensor = detector.preprocess(frame)
            times.append(time.perf_counter())
            outputs = detector.encode([tensor])
            times.append(time.perf_counter())
            found = detector.search(outputs)
            times.append(time.perf_counter())
            (result,) = detector.judge([frame], found, times[0])
            times.append(time.perf_counter())
            sink.write(result.to_json())
            times.append(time.perf_counter())
            health.see(frame, frame.media_time)
            rows.append([*np.diff(times), times[-1] - times[0], time.perf_counter() - times[-1]])
    names = (*STEPS, "frame", "health")
    return {name: [row[column] for row in rows[WARM_UP:]] for column, name in enumerate(names)}


def report(
    given: argparse.Namespace, threads: int, bank: Bank, steps: dict[str, list[float]], encode_ideal: float
) -> None:
    """Print medians and 95th percentiles."""
    rows = sum(int(np.prod(bank.features[name].shape[:3])) for name in bank.features if name.startswith("tokens_"))
    print(f"{given.backend} {given.precision}, {threads} threads, {given.shots} frames, poses {given.augment}")
    memory = f", searched in {given.bank_memory:g} MB" if given.bank_memory != BANK_MEMORY else ""
    print(f"{rows} rows in the bank{memory}; encoder at the matrix-product peak {encode_ideal * 1000:.1f} ms")
    for name, seconds in steps.items():
        median, p95 = statistics.median(seconds) * 1000, float(np.percentile(seconds, 95)) * 1000
        print(f"{name:<12}{median:8.2f} ms   p95 {p95:7.2f} ms")
    print("frame: all steps above it, goal 15 ms; health: what monitor does beside that, in its own thread's time")


if __name__ == "__main__":
    main()
