"""Measure engines one after the other, stage by stage, on the same frames with the same bank.

A batch of frames goes through the detector's steps and into a result file, each step timed by the clock, one after
the other: what each costs by itself. Decoding is timed when the frames are read, before. Latency is that of a whole
batch.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgevand.errors import EdgevandError, EndOfSourceError, UsageError
from edgevand_runtime.benchmark.meters import open_meter, peak_memory, reset_peak_memory
from edgevand_runtime.benchmark.work import count_operations, matrix_peak
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines.choose import ENGINES, candidates
from edgevand_runtime.enroll import EnrolOptions, enroll
from edgevand_runtime.frame import iso_time
from edgevand_runtime.sinks import JsonLines
from edgevand_runtime.sources import open_source
from edgevand_runtime.sources.redact import redact
from edgevand_runtime.threads import set_threads
from edgevand_runtime.verify import ParityReport, check_parity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from edgevand.bank import Bank
    from edgevand.bundle import Bundle, Precision
    from edgevand_runtime.frame import Frame

__all__ = [
    "BENCHMARK_SCHEMA",
    "STAGES",
    "BenchmarkOptions",
    "Case",
    "Failure",
    "Measurement",
    "Report",
    "Rival",
    "Timing",
    "benchmark",
    "cases",
    "to_json",
]

BENCHMARK_SCHEMA = "edgevand.benchmark/2"

STAGES = ("preprocess", "encode", "search", "judge", "sinks", "total")

FRAMES = 16
"""Different frames that are scored in turn: enough that no cache holds them, few enough that they weigh little."""

RIVAL_FRAMES = 5
"""Frames that the algorithm scores which the engines are held against: it may take half a minute for each."""

_LEAST = 3
"""Batches that are timed however long they take."""


@dataclass(frozen=True, slots=True)
class BenchmarkOptions:
    """How to measure.

    Attributes:
        batches: batches that are timed at most, at least 1.
        warm_up: batches before them that are not, at most.
        seconds: time after which a row's batches end, once three were timed; the warm-up takes at most a quarter of it.
        shots: frames in the bank that is searched, where none is given; at least 1.
        threads: processor threads; None for the cores that this process may use.
    """

    batches: int = 100
    warm_up: int = 10
    seconds: float = 30.0
    shots: int = 8
    threads: int | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            UsageError: names the option.
        """
        least = {"batches": 1, "warm_up": 0, "seconds": 0, "shots": 1, "threads": 1}
        for name, minimum in least.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                option = name.replace("_", "-")
                message = f"Expected --{option} of at least {minimum}, found {value}; give a larger number."
                raise UsageError(message)


@dataclass(frozen=True, slots=True)
class Case:
    """What a row measures: a library on a device, a graph's precision, frames in a batch."""

    backend: str
    device: str
    precision: Precision
    batch: int


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one stage."""

    median: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float] | NDArray[np.float64]) -> Timing:
        """Percentiles of durations, linear between neighbours."""
        return cls(*(float(value) for value in np.percentile(np.asarray(seconds) * 1000, [50, 95, 99])))


@dataclass(frozen=True, slots=True)
class Against:
    """A row beside the algorithm that it is held against.

    Attributes:
        times: how many times as long that one takes for a frame, preprocessing on both sides left out.
        score_max_abs: largest difference of the raw image score.
        map_max_abs: of the raw map; None without maps.
    """

    times: float
    score_max_abs: float
    map_max_abs: float | None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row.

    Attributes:
        case: what was measured.
        engine: name of what ran, as in ``onnxruntime:cpu``.
        stages: one timing of a batch for each of ``STAGES``.
        batches: how many were timed.
        frames_per_second: frames divided by the time that all timed batches took, one step after the other.
        open_s: seconds to load the graph and the bank.
        first_s: seconds that the first batch took after that.
        peak_memory: most resident bytes of the whole process while this engine was loaded and ran.
        device_memory: bytes more in use on the device after the batches than before loading; None where not told.
        joules_per_frame: energy of the device; None where not told.
        peak_share: the encoder's operations a second over those of the processor's matrix product; None on a GPU.
        parity: the golden sample on this engine, held against PyTorch.
        against: None where nothing was asked to be compared.
    """

    case: Case
    engine: str
    stages: dict[str, Timing]
    batches: int
    frames_per_second: float
    open_s: float
    first_s: float
    peak_memory: int
    device_memory: int | None
    joules_per_frame: float | None
    peak_share: float | None
    parity: ParityReport
    against: Against | None

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        fields = asdict(self)
        return {**fields.pop("case"), **fields, "parity": self.parity.to_json()}


@dataclass(frozen=True, slots=True)
class Failure:
    """A row that could not be measured."""

    case: Case
    error: str

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        return {**asdict(self.case), "error": self.error}


class Rival(Protocol):
    """An algorithm that the engines are held against."""

    name: str

    def score(self, tensor: NDArray[np.float32]) -> tuple[float, NDArray[np.float32] | None]:
        """Raw image score and map (H, W) of one preprocessed frame (3, H, W)."""


@dataclass(frozen=True, slots=True)
class RivalRow:
    """What the rival took and said.

    Attributes:
        name: of the algorithm.
        frame: milliseconds for a frame.
        frames: how many it scored.
    """

    name: str
    frame: Timing
    frames: int
    scores: tuple[float, ...] = field(repr=False)
    maps: tuple[NDArray[np.float32] | None, ...] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        return {"name": self.name, "frame": asdict(self.frame), "frames": self.frames}


@dataclass(slots=True)
class Report:
    """A whole run.

    Attributes:
        threads: of the processor that were used.
        frame_size: width and height of the source's frames.
        decode: of one frame; None for a live source, whose frames are waited for.
        interval_ms: from one frame of the source to the next; None where it has no rate.
        operations: of the encoder's products for one frame.
        peak: operations a second of the processor's own matrix product.
        rival: None where nothing was asked to be compared.
        rows: one for each case.
    """

    threads: int
    frame_size: tuple[int, int]
    decode: Timing | None
    interval_ms: float | None
    operations: int
    peak: float
    rival: RivalRow | None = None
    rows: list[Measurement | Failure] = field(default_factory=list)


def cases(
    bundle: Bundle,
    batches: Sequence[int] = (1,),
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: Precision | None = None,
) -> list[Case]:
    """What this machine can run: every engine, or the ones that were asked for, in every precision of the bundle.

    Raises:
        UsageError: an unknown backend or device, a batch of less than one frame, a precision that is not there.
        UnavailableError: a backend of a later version.
    """
    if not batches or min(batches) < 1:
        raise UsageError(f"Expected --batch of at least 1, found {min(batches, default=0)}; give a larger number.")
    if precision is not None:
        bundle.graph_in(precision)
    if (backend, device) == ("auto", "auto"):
        places = [(kind.name, place) for kind in ENGINES.values() for place in kind.devices()]
    else:
        places = [(kind.name, place) for kind, place in candidates(backend, device)]
    precisions = bundle.precisions if precision is None else (precision,)
    return [Case(*place, each, batch) for place in places for each in precisions for batch in batches]


def benchmark(
    bundle: Bundle,
    bank: Bank | None,
    uri: str,
    wanted: Sequence[Case],
    options: BenchmarkOptions,
    *,
    rival: Callable[[Bank], Rival] | None = None,
    tell: Callable[[Report, Measurement | Failure], None] = lambda *_: None,
) -> Report:
    """Measure each case in turn.

    Args:
        bundle: what to run.
        bank: memory bank to search; None enrols ``options.shots`` frames of the source for the time of the run.
        uri: source of the frames; ``FRAMES`` of them are read first and then taken in turn, over and over.
        wanted: the cases.
        options: how to measure.
        rival: makes the algorithm that every case is held against, from the bank; None for none.
        tell: called with each row when it is there.

    Raises:
        BadInputError: a source whose frames cannot be enrolled.
        UsageError: a source without a frame, or with fewer than ``options.shots``.
        UnavailableError: a source that cannot be opened.
    """
    threads = set_threads(options.threads)
    frames, decode, interval = _read(uri)
    with TemporaryDirectory(prefix="edgevand-benchmark-") as name:
        folder = Path(name)
        searched = bank or _enrol(bundle, uri, folder / "bank", options.shots, threads)
        report = Report(
            threads=threads,
            frame_size=frames[0].size,
            decode=decode,
            interval_ms=interval,
            operations=count_operations(bundle),
            peak=matrix_peak(threads),
        )
        report.rival = None if rival is None else _score_rival(rival(searched), bundle, frames)
        with closing(JsonLines(folder / "results.jsonl")) as sink:
            for case in wanted:
                row: Measurement | Failure
                try:
                    row = _measure(bundle, searched, frames, case, options, report, sink)
                except EdgevandError as error:
                    row = Failure(case, str(error))
                report.rows.append(row)
                tell(report, row)
    return report


def _read(uri: str) -> tuple[list[Frame], Timing | None, float | None]:
    """Frames, what one of them took, and milliseconds between two of the source's."""
    frames: list[Frame] = []
    seconds: list[float] = []
    with open_source(uri) as source:
        while len(frames) < FRAMES:
            start = time.perf_counter()
            try:
                frame = source.read()
            except EndOfSourceError:
                break
            if frame is not None:
                seconds.append(time.perf_counter() - start)
                frames.append(frame)
        fps = source.status().fps
        live = source.live
    if not frames:
        raise UsageError(f"expected frames in {redact(uri)}, found none; name another --source")
    return frames, None if live else Timing.of(seconds), 1000 / fps if fps else None


def _enrol(bundle: Bundle, uri: str, target: Path, shots: int, threads: int) -> Bank:
    """A bank of the source's first frames, made on the processor."""
    kind, precision = ENGINES["onnxruntime"], bundle.manifest.graph.precision
    with open_source(uri) as source, closing(kind.open(bundle, "cpu", precision, threads)) as engine:
        return enroll(source, bundle, engine, target, EnrolOptions(shots=shots, interval=0.0)).bank


def _measure(
    bundle: Bundle,
    bank: Bank,
    frames: Sequence[Frame],
    case: Case,
    options: BenchmarkOptions,
    report: Report,
    sink: JsonLines,
) -> Measurement:
    """Load one engine and time it."""
    meter = open_meter(case.device)
    used = None if meter is None else meter.memory()
    reset_peak_memory()
    started = time.perf_counter()
    engine = ENGINES[case.backend].open(bundle, case.device, case.precision, report.threads)
    with Detector(bundle, engine, bank) as detector:
        opened = time.perf_counter()
        warm = _run(detector, frames, case.batch, options.warm_up, options.seconds / 4, 1, sink)
        if meter is not None:
            meter.start()
        rows = _run(detector, frames, case.batch, options.batches, options.seconds, _LEAST, sink)
        joules = None if meter is None else meter.stop()
        after = None if meter is None else meter.memory()
        peak = peak_memory()
        against = None if report.rival is None else _compare(detector, frames, report.rival, rows, case.batch)
        parity = check_parity(bundle, engine, batched=case.batch > 1)
    timed = np.array(rows)
    stages = {stage: Timing.of(timed[:, column]) for column, stage in enumerate(STAGES)}
    count = len(rows) * case.batch
    speed = report.operations * case.batch / (stages["encode"].median / 1000)
    return Measurement(
        case=case,
        engine=engine.name,
        stages=stages,
        batches=len(rows),
        frames_per_second=float(count / timed[:, -1].sum()),
        open_s=opened - started,
        first_s=(warm or rows)[0][-1],
        peak_memory=peak,
        device_memory=None if used is None or after is None else max(0, after - used),
        joules_per_frame=None if joules is None else joules / count,
        peak_share=speed / report.peak if case.device == "cpu" else None,
        parity=parity,
        against=against,
    )


def _run(
    detector: Detector,
    frames: Sequence[Frame],
    size: int,
    most: int,
    seconds: float,
    least: int,
    sink: JsonLines,
) -> list[tuple[float, ...]]:
    """Time batches until there are ``most``, or ``least`` and the time is over."""
    rows: list[tuple[float, ...]] = []
    end = time.perf_counter() + seconds
    while len(rows) < most and (len(rows) < least or time.perf_counter() < end):
        first = len(rows) * size
        rows.append(_time_batch(detector, [frames[(first + place) % len(frames)] for place in range(size)], sink))
    return rows


def _time_batch(detector: Detector, frames: Sequence[Frame], sink: JsonLines) -> tuple[float, ...]:
    """Seconds that each of ``STAGES`` takes."""
    times = [time.perf_counter()]
    tensors = [detector.preprocess(frame) for frame in frames]
    times.append(time.perf_counter())
    outputs = detector.encode(tensors)
    times.append(time.perf_counter())
    found = detector.search(outputs)
    times.append(time.perf_counter())
    results = detector.judge(frames, found, times[0])
    times.append(time.perf_counter())
    for result in results:
        sink.write(result.to_json())
    times.append(time.perf_counter())
    return (*(float(step) for step in np.diff(times)), times[-1] - times[0])


def _score_rival(rival: Rival, bundle: Bundle, frames: Sequence[Frame]) -> RivalRow:
    """Let the rival score the first frames."""
    from edgevand_runtime.preprocess import to_tensor

    tensors = [to_tensor(frame.image, bundle.manifest.image) for frame in frames[:RIVAL_FRAMES]]
    rival.score(tensors[0])  # its own warm-up
    seconds, answers = [], []
    for tensor in tensors:
        start = time.perf_counter()
        answers.append(rival.score(tensor))
        seconds.append(time.perf_counter() - start)
    scores, maps = zip(*answers, strict=True)
    return RivalRow(rival.name, Timing.of(seconds), len(tensors), scores, maps)


def _compare(
    detector: Detector, frames: Sequence[Frame], rival: RivalRow, rows: Sequence[tuple[float, ...]], batch: int
) -> Against:
    """A row's speed and answers beside the rival's, on the rival's frames."""
    scores, maps = [], []
    for frame, score, drawn in zip(frames, rival.scores, rival.maps, strict=False):
        (result,) = detector.detect([frame])
        scores.append(abs(result.raw_score - score))
        if drawn is not None and result.raw_map is not None:
            maps.append(float(np.abs(result.raw_map - drawn).max()))
    first, last = STAGES.index("encode"), STAGES.index("judge") + 1
    frame_ms = float(np.median(np.array(rows)[:, first:last].sum(axis=1))) * 1000 / batch
    return Against(rival.frame.median / frame_ms, max(scores), max(maps) if maps else None)


def to_json(bundle: Bundle, bank: Bank | None, uri: str, options: BenchmarkOptions, report: Report) -> dict[str, Any]:
    """The document of ``edgevand benchmark --json`` (docs/commands/benchmark.md)."""
    image = bundle.manifest.image
    return {
        "schema": BENCHMARK_SCHEMA,
        "time": iso_time(datetime.now(timezone.utc)),
        "bundle": bundle.hash,
        "model": bundle.manifest.model.name,
        "image": [image.width, image.height],
        "precisions": list(bundle.precisions),
        "bank": None if bank is None else bank.hash,
        "source": redact(uri),
        "frame_size": list(report.frame_size),
        "interval_ms": report.interval_ms,
        "decode": None if report.decode is None else asdict(report.decode),
        "options": asdict(options),
        "threads": report.threads,
        "operations_per_frame": report.operations,
        "peak_operations_per_s": report.peak,
        "reference": None if report.rival is None else report.rival.to_json(),
        "engines": [row.to_json() for row in report.rows],
    }
