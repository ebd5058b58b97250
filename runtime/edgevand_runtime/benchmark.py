"""How fast a bundle runs on this machine, stage by stage, on every engine that is here.

A batch of frames goes through the detector's three steps, preprocess, encode and score (search of the memory bank,
maps, calibration, regions), each timed by the clock; decoding is no part of it. Latency is that of a whole batch.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand.errors import EdgevandError, UsageError
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import open_engine
from edgevand_runtime.enroll import EnrolOptions, enroll
from edgevand_runtime.frame import iso_time
from edgevand_runtime.sources import open_source
from edgevand_runtime.sources.redact import redact
from edgevand_runtime.verify import ParityReport, check_parity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgevand.bank import Bank
    from edgevand.bundle import Bundle
    from edgevand_runtime.frame import Frame

__all__ = [
    "BENCHMARK_SCHEMA",
    "STAGES",
    "BenchmarkOptions",
    "Failure",
    "Measurement",
    "Timing",
    "available_devices",
    "benchmark",
    "to_json",
]

BENCHMARK_SCHEMA = "edgevand.benchmark/1"

STAGES = ("preprocess", "encode", "score", "total")

FRAMES = 16
"""Different frames that are scored in turn: enough that no cache holds them, few enough that they weigh little."""


@dataclass(frozen=True, slots=True)
class BenchmarkOptions:
    """How to measure.

    Attributes:
        batches: batches that are timed, at least 1.
        warm_up: batches before them that are not.
        batch: frames in a batch, at least 1.
        shots: frames in the bank that is searched, where none is given; at least 1.
        threads: processor threads of the engine; None for all cores.
    """

    batches: int = 100
    warm_up: int = 10
    batch: int = 1
    shots: int = 8
    threads: int | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            UsageError: names the option.
        """
        least = {"batches": 1, "warm_up": 0, "batch": 1, "shots": 1, "threads": 1}
        for name, minimum in least.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                option = name.replace("_", "-")
                message = f"Expected --{option} of at least {minimum}, found {value}; give a larger number."
                raise UsageError(message)


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds a batch takes in one stage."""

    median: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """One engine.

    Attributes:
        engine: name of what ran, as in ``onnxruntime:cpu``.
        stages: one timing for each of ``STAGES``.
        frames_per_second: frames divided by the time that all timed batches took.
        open_s: seconds to load the graph and the bank.
        first_s: seconds that the first batch took after that.
        peak_memory: most resident bytes of the whole process while this engine was loaded and ran.
        parity: the golden sample on this engine, held against PyTorch.
    """

    engine: str
    stages: dict[str, Timing]
    frames_per_second: float
    open_s: float
    first_s: float
    peak_memory: int
    parity: ParityReport

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        return {**asdict(self), "parity": self.parity.to_json()}


@dataclass(frozen=True, slots=True)
class Failure:
    """An engine that should run here and does not."""

    engine: str
    error: str

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        return asdict(self)


def available_devices() -> list[tuple[str, str]]:
    """Backend and device of every engine that this installation offers."""
    import onnxruntime

    devices = [("onnxruntime", "cpu")]
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        devices.append(("onnxruntime", "cuda"))
    return devices


def benchmark(
    bundle: Bundle,
    bank: Bank | None,
    uri: str,
    devices: Sequence[tuple[str, str]],
    options: BenchmarkOptions,
) -> Iterator[Measurement | Failure]:
    """Measure each engine in turn.

    Args:
        bundle: what to run.
        bank: memory bank to search; None enrols ``options.shots`` frames of the source for the time of the run.
        uri: source of the frames; ``FRAMES`` of them are read first and then taken in turn, over and over.
        devices: backend and device of each engine.
        options: how to measure.

    Raises:
        BadInputError: a source without a frame, or whose frames cannot be enrolled.
        UsageError: a source with fewer frames than ``options.shots``.
        UnavailableError: a source that cannot be opened.
    """
    with open_source(uri) as source:
        frames = list(islice(source, FRAMES))
    with TemporaryDirectory(prefix="edgevand-benchmark-") as folder:
        searched = bank or _enrol(bundle, uri, Path(folder) / "bank", options)
        for backend, device in devices:
            try:
                yield _measure(bundle, searched, frames, backend, device, options)
            except EdgevandError as error:
                yield Failure(f"{backend}:{device}", str(error))


def _enrol(bundle: Bundle, uri: str, target: Path, options: BenchmarkOptions) -> Bank:
    """A bank of the source's first frames, made on the processor."""
    with open_source(uri) as source, closing(open_engine(bundle, device="cpu", threads=options.threads)) as engine:
        return enroll(source, bundle, engine, target, EnrolOptions(shots=options.shots, interval=0.0)).bank


def _measure(
    bundle: Bundle,
    bank: Bank,
    frames: Sequence[Frame],
    backend: str,
    device: str,
    options: BenchmarkOptions,
) -> Measurement:
    """Load one engine and time it."""
    _reset_peak_memory()
    started = time.perf_counter()
    with Detector.open(bundle, bank, backend=backend, device=device, threads=options.threads) as detector:
        opened = time.perf_counter()
        rows = []
        for number in range(options.warm_up + options.batches):
            batch = [frames[(number * options.batch + offset) % len(frames)] for offset in range(options.batch)]
            rows.append(_time_batch(detector, batch))
        peak_memory = _peak_memory()
        parity = check_parity(bundle, detector.engine)
    timed = np.array(rows[options.warm_up :]) * 1000
    percentiles = np.percentile(timed, [50, 95, 99], axis=0)
    return Measurement(
        engine=parity.engine,
        stages={stage: Timing(*map(float, percentiles[:, column])) for column, stage in enumerate(STAGES)},
        frames_per_second=float(timed.shape[0] * options.batch / (timed[:, -1].sum() / 1000)),
        open_s=opened - started,
        first_s=rows[0][-1],
        peak_memory=peak_memory,
        parity=parity,
    )


def _time_batch(detector: Detector, frames: Sequence[Frame]) -> tuple[float, float, float, float]:
    """Seconds that each of ``STAGES`` takes."""
    start = time.perf_counter()
    tensors = [detector.preprocess(frame) for frame in frames]
    preprocessed = time.perf_counter()
    outputs = detector.encode(tensors)
    encoded = time.perf_counter()
    detector.score(frames, outputs, start)
    end = time.perf_counter()
    return preprocessed - start, encoded - preprocessed, end - encoded, end - start


def _reset_peak_memory() -> None:
    """Let the kernel count the peak anew; where it cannot, the peak is that of the whole run."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _peak_memory() -> int:
    """Most resident bytes of this process since the last reset."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def to_json(
    bundle: Bundle, bank: Bank | None, uri: str, options: BenchmarkOptions, rows: Sequence[Measurement | Failure]
) -> dict[str, Any]:
    """The document of ``edgevand benchmark --json``; times in milliseconds, and seconds where the name ends with _s."""
    return {
        "schema": BENCHMARK_SCHEMA,
        "time": iso_time(datetime.now(timezone.utc)),
        "bundle": bundle.hash,
        "model": bundle.manifest.model.name,
        "image": [bundle.manifest.image.width, bundle.manifest.image.height],
        "precision": bundle.manifest.graph.precision,
        "bank": None if bank is None else bank.hash,
        "source": redact(uri),
        "options": asdict(options),
        "engines": [row.to_json() for row in rows],
    }
