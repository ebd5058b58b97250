"""One method on the compared frames: enrolled and scored by the code of ``enroll`` and ``score``."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from edgevand_runtime.benchmark.meters import peak_memory, reset_peak_memory
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import open_engine
from edgevand_runtime.enroll import EnrolOptions, enroll
from edgevand_runtime.metrics import auroc
from edgevand_runtime.overlay import draw_overlay, uncalibrated_scale
from edgevand_runtime.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.comparison.candidates import Candidate
    from edgevand_runtime.comparison.frames import ComparedFrames
    from edgevand_runtime.frame import Frame
    from edgevand_runtime.results import Result

__all__ = ["Measured", "Runner", "measure"]

_SMALLEST_SD = 0.05
"""Of ln(score): the floor of calibration, for frames that are nearly the same (methods.md (g))."""

_SMALLEST = 1e-12


@dataclass(frozen=True, slots=True)
class Runner:
    """What runs the graphs, as the command line says it."""

    backend: str = "auto"
    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """How one method did.

    Attributes:
        label: what to call it.
        candidate: the method.
        auroc: of judged normal against anomalous frames.
        separation: how many deviations of the enrolled frames' leave-one-out ln(score) the median anomalous frame lies
            above their mean; None with fewer than two such scores.
        false_alarms: share of judged normal frames above the threshold; None where nothing was calibrated.
        found: share of anomalous frames above it.
        milliseconds: median time of a frame by itself.
        enrolment_seconds: from the first frame to the bank.
        memory_bytes: most resident memory of the whole process while the method was opened, enrolled and scored.
        bank_bytes: what the bank keeps of the frames.
        bundle_bytes: of the whole bundle.
        engine: that ran it.
        normal: results of the judged normal frames, in order; their raw maps are let go.
        anomalous: results of the anomalous ones.
        pictures: overlays (H, W, 3) uint8 BGR by the place of the frame among all judged ones, normal ones first.
    """

    label: str
    candidate: Candidate
    auroc: float
    separation: float | None
    false_alarms: float | None
    found: float | None
    milliseconds: float
    enrolment_seconds: float
    memory_bytes: int
    bank_bytes: int
    bundle_bytes: int
    engine: str
    normal: tuple[Result, ...]
    anomalous: tuple[Result, ...]
    pictures: dict[int, NDArray[Any]]

    @property
    def scores(self) -> tuple[list[float], list[float]]:
        """Raw scores of the normal and of the anomalous frames."""
        return [result.raw_score for result in self.normal], [result.raw_score for result in self.anomalous]


def measure(
    candidate: Candidate,
    frames: ComparedFrames,
    runner: Runner,
    *,
    object_name: str | None = None,
    shown: Sequence[int] = (),
) -> Measured:
    """Enrol with a method and score every judged frame, one at a time.

    Args:
        candidate: the method on its bundle.
        frames: what to enrol and judge.
        runner: what runs its graph.
        object_name: whose text is used; None for the bundle's only or general one.
        shown: places of the judged frames that a picture is wanted of.

    Raises:
        EdgevandError: the method cannot be enrolled with these frames, or its graph cannot be run here.
    """
    view = candidate.view
    reset_peak_memory()
    with tempfile.TemporaryDirectory(prefix="edgevand-compare-") as folder:
        _write(frames.enrolled, Path(folder) / "frames")
        with closing(open_engine(view, backend=runner.backend, device=runner.device, threads=runner.threads)) as engine:
            started = time.perf_counter()
            with open_source(Path(folder) / "frames") as source:
                options = EnrolOptions(shots=None, object_name=object_name)
                bank = enroll(source, view, engine, Path(folder) / "bank", options).bank
            enrolment = time.perf_counter() - started
            detector = Detector(view, engine, bank)
            scale = uncalibrated_scale(view.manifest, bank=True)
            detector.detect([frames.normal[0]])  # the first frame pays for what is made once
            results, pictures, seconds = [], {}, []
            for place, frame in enumerate((*frames.normal, *frames.anomalous)):
                begun = time.perf_counter()
                (result,) = detector.detect([frame])
                seconds.append(time.perf_counter() - begun)
                if place in shown:
                    pictures[place] = draw_overlay(frame.image, result, uncalibrated_scale=scale)
                results.append(replace(result, raw_map=None))
        memory = peak_memory()
        kept = sum(file.size for name, file in bank.record.files.items() if name.endswith(".safetensors"))
    normal, anomalous = tuple(results[: len(frames.normal)]), tuple(results[len(frames.normal) :])
    labels = [False] * len(normal) + [True] * len(anomalous)
    return Measured(
        label=candidate.label,
        candidate=candidate,
        auroc=auroc(labels, [result.raw_score for result in results]) or 0.0,
        separation=_separation(bank.record.calibration.scores, [result.raw_score for result in anomalous]),
        false_alarms=_share(normal),
        found=_share(anomalous),
        milliseconds=1000 * statistics.median(seconds),
        enrolment_seconds=enrolment,
        memory_bytes=memory,
        bank_bytes=kept,
        bundle_bytes=sum(file.size for file in view.whole.files.values()),
        engine=engine.name,
        normal=normal,
        anomalous=anomalous,
        pictures=pictures,
    )


def _write(frames: Sequence[Frame], folder: Path) -> None:
    """Frames as files of a folder, which enrolment reads like any other."""
    folder.mkdir()
    for number, frame in enumerate(frames):
        _, png = cv2.imencode(".png", frame.image)
        (folder / f"{number:04d}.png").write_bytes(png.tobytes())


def _separation(enrolled: Sequence[float], anomalous: Sequence[float]) -> float | None:
    """Deviations of the enrolled frames' ln(score), each left out, from their mean to the median anomalous one."""
    if len(enrolled) < 2 or not anomalous:  # noqa: PLR2004 - a deviation needs two
        return None
    usual = [math.log(max(score, _SMALLEST)) for score in enrolled]
    deviation = max(statistics.stdev(usual), _SMALLEST_SD)
    return (math.log(max(statistics.median(anomalous), _SMALLEST)) - statistics.fmean(usual)) / deviation


def _share(results: Sequence[Result]) -> float | None:
    """Share called anomalous; None where nothing is."""
    verdicts = [result.anomalous for result in results if result.anomalous is not None]
    return sum(verdicts) / len(verdicts) if verdicts else None
