"""The main job on drawn pictures whose truth is known: enrol, monitor, and say honestly how well that went.

Eight good parts of the drawn conveyor are enrolled; then further parts pass, one in each frame, some of them
defective, through the path that ``edgevand monitor`` takes: source, detector, hysteresis, sinks. Since every frame
shows another part, one frame decides (an event needs 1 of 1). The drawing knows which parts are defective and
where, so image and pixel AUROC, caught and missed parts and false alarms are counted, not estimated.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from edgevand.errors import EndOfSourceError, UsageError
from edgevand.files import write_atomic
from edgevand_runtime.demo_sheet import Card, draw_cards
from edgevand_runtime.detector import Detector
from edgevand_runtime.drawn.conveyor import ConveyorScene
from edgevand_runtime.enroll import EnrolOptions, enroll
from edgevand_runtime.events import EventRule
from edgevand_runtime.frame_files import make_directory
from edgevand_runtime.metrics import auroc
from edgevand_runtime.monitor import Lane, Limits, Outputs, watch
from edgevand_runtime.pipeline import ahead
from edgevand_runtime.sources import Source, SourceStatus, open_source
from edgevand_runtime.sources.base import new_frame
from edgevand_runtime.stop import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand.bundle import Bundle
    from edgevand_runtime.engines import Engine
    from edgevand_runtime.events import Event
    from edgevand_runtime.frame import Frame
    from edgevand_runtime.results import Result

__all__ = ["DEMO_SCHEMA", "run_demo"]

DEMO_SCHEMA = "edgevand.demo/1"
SHOTS = 16
"""Eight, the default of enrolment, see too little of how much these parts differ (docs/calibration.md)."""

_CLEAN = 20
"""Frames at the start of the belt that are always good; parts are enrolled from these and judged behind them."""

_DRAW_AHEAD = 8
_CARDS = 6


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One frame of the belt with its truth: mask (H, W) uint8 and kind of defect, None for a good part."""

    frame: Frame
    truth: NDArray[np.uint8] | None
    kind: str | None


class _Belt(Source):
    """The conveyor behind its clean start, drawn ahead in a thread; remembers the truth of what it handed out."""

    def __init__(self, scene: ConveyorScene, frames: int) -> None:
        self.uri = "test://conveyor"
        self.length = frames
        self.defects: dict[int, tuple[NDArray[np.uint8], str]] = {}
        self._parts = ahead(self._draw(scene, frames), _DRAW_AHEAD)
        self._status = SourceStatus(connected=True)

    def read(self, timeout: float | None = None) -> Frame | None:  # noqa: ARG002 - drawing does not wait
        """See ``Source.read``."""
        part = next(self._parts, None)
        if part is None:
            raise EndOfSourceError(self.uri)
        if part.truth is not None and part.kind is not None:
            self.defects[part.frame.index] = (part.truth, part.kind)
        self._status = SourceStatus(connected=True, frames=self._status.frames + 1, size=part.frame.size)
        return part.frame

    def status(self) -> SourceStatus:
        """See ``Source.status``."""
        return self._status

    def close(self) -> None:
        """See ``Source.close``."""
        self._parts.close()

    def _draw(self, scene: ConveyorScene, frames: int) -> Iterator[_Part]:
        for index in range(_CLEAN, _CLEAN + frames):
            image, truth, kind = scene.frame(index)
            yield _Part(new_frame(image, index, self.uri, index / 10), truth, kind)


@dataclass(slots=True)
class _Recorder:
    """A sink that remembers every verdict, and which frames each event spans."""

    told: Callable[[int], None]
    name: str = "demo"
    dropped: int = 0
    results: list[Result] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def result(self, result: Result) -> None:
        """See ``Sink.result``."""
        self.results.append(result)
        self.told(len(self.results))

    def event(self, event: Event) -> None:
        """See ``Sink.event``."""
        if event.type == "end" and event.kind == "anomaly":
            self.events.append(event)

    def close(self) -> None:
        """See ``Sink.close``."""

    def spans(self) -> list[set[int]]:
        """The indices of the frames within each event."""
        return [
            {one.frame for one in self.results if event.start_time <= one.time <= (event.end_time or one.time)}
            for event in self.events
        ]


def run_demo(
    bundle: Bundle,
    engine: Engine,
    directory: Path,
    *,
    frames: int = 300,
    seed: int = 0,
    told: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Enrol, monitor, judge; writes ``bank/``, ``demo.png`` and ``report.json`` into a directory.

    Args:
        bundle: the bundle to show.
        engine: runs its graph; closed by the caller.
        directory: made where it is missing; what an earlier demo wrote is replaced.
        frames: parts to judge.
        seed: which belt and which part are drawn.
        told: called with the number of parts judged so far.

    Returns:
        The report, ``edgevand.demo/1``.

    Raises:
        UsageError: no frames are wanted.
        OutputError: the directory cannot be written.
    """
    if frames < 1:
        raise UsageError(f"expected at least 1 frame to monitor, but {frames} was given; give --frames 300, say")
    make_directory(directory)
    with open_source(f"test://conveyor?frames={_CLEAN}&seed={seed}&live=0") as source:
        options = EnrolOptions(shots=SHOTS, interval=0.0)
        enrolled = enroll(source, bundle, engine, directory / "bank", options, replace=True)
    scene = ConveyorScene(seed=seed)
    recorder = _Recorder(told)
    with _Belt(scene, frames) as belt:
        detector = Detector(bundle, engine, enrolled.bank, camera="conveyor")
        lane = Lane(belt, detector, Outputs((recorder,)), camera="conveyor", rule=EventRule(m=1, n=1))
        started = time.monotonic()
        watch(lane, None, Limits(max_frames=frames), Stop())
        seconds = time.monotonic() - started
        defects = belt.defects
    picture = directory / "demo.png"
    caught = set().union(*recorder.spans())
    cards = [_card(scene, result, caught) for result in _worst(recorder.results, defects, caught)]
    write_atomic(picture, _png(draw_cards(cards)))
    report = {
        "schema": DEMO_SCHEMA,
        "engine": engine.name,
        "bundle": bundle.hash,
        "bank": str(enrolled.bank.path),
        "enrolment": enrolled.promise,
        "warnings": list(enrolled.warnings),
        "seed": seed,
        **_figures(recorder, defects),
        "seconds": round(seconds, 2),
        "fps": round(len(recorder.results) / seconds, 1),
        "latency_ms": round(float(np.median([result.latency_ms for result in recorder.results])), 1),
        "picture": str(picture),
    }
    write_atomic(directory / "report.json", (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())
    return report


def _figures(recorder: _Recorder, defects: dict[int, tuple[NDArray[np.uint8], str]]) -> dict[str, Any]:
    """The figures that the known truth gives."""
    results, spans = recorder.results, recorder.spans()
    caught = set().union(*spans) & set(defects)
    kinds = Counter(kind for _, kind in defects.values())
    found = Counter(defects[index][1] for index in caught)
    return {
        "frames": len(results),
        "defective": len(defects),
        "image_auroc": _rounded(auroc([one.frame in defects for one in results], [one.raw_score for one in results])),
        "pixel_auroc": _rounded(_pixel_auroc(results, defects)),
        "caught": len(caught),
        "missed": len(defects) - len(caught),
        "events": len(spans),
        "false_alarms": sum(not span & set(defects) for span in spans),
        "kinds": {kind: {"caught": found[kind], "of": kinds[kind]} for kind in sorted(kinds)},
    }


def _pixel_auroc(results: list[Result], defects: dict[int, tuple[NDArray[np.uint8], str]]) -> float | None:
    """AUROC over every pixel of every map, the truth brought to the map's size (area averaging, over one half)."""
    maps = [one.raw_map for one in results if one.raw_map is not None]
    if len(maps) < len(results):
        return None
    masks = np.zeros((len(maps), *maps[0].shape), np.bool_)
    for place, one in enumerate(results):
        if one.frame in defects:
            truth = defects[one.frame][0]
            masks[place] = cv2.resize(truth, masks.shape[:0:-1], interpolation=cv2.INTER_AREA) > 127  # noqa: PLR2004
    return auroc(masks, np.stack(maps))


def _worst(results: list[Result], defects: dict[int, tuple[NDArray[np.uint8], str]], caught: set[int]) -> list[Result]:
    """The frames to show: what went wrong first (at most a third), then the highest score of each kind of defect."""
    ranked = sorted(results, key=lambda one: -one.raw_score)
    missed = [one for one in reversed(ranked) if one.frame in defects and one.frame not in caught]
    false_alarms = [one for one in ranked if one.frame in caught and one.frame not in defects]
    chosen = [*missed[:1], *false_alarms[:1]]
    shown: set[str] = set()
    for one in ranked:
        if len(chosen) == _CARDS:
            break
        kind = defects[one.frame][1] if one.frame in defects else None
        if kind is not None and kind not in shown and one.frame in caught:
            shown.add(kind)
            chosen.append(one)
    chosen += [one for one in ranked if one not in chosen][: _CARDS - len(chosen)]
    return sorted(chosen, key=lambda one: -one.raw_score)


def _card(scene: ConveyorScene, result: Result, caught: set[int]) -> Card:
    """What the picture shows of a frame, drawn once more."""
    image, truth, kind = scene.frame(result.frame)
    if kind is None:
        verdict = "false alarm" if result.frame in caught else "good part"
    else:
        verdict = f"{kind}, {'caught' if result.frame in caught else 'missed'}"
    return Card(image, truth, result, f"part {result.frame}: {verdict}")


def _png(image: NDArray[np.uint8]) -> bytes:
    """PNG of a picture (H, W, 3) uint8 BGR."""
    _, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return data.tobytes()


def _rounded(value: float | None) -> float | None:
    """Four digits; more would be noise of a few hundred frames."""
    return None if value is None else round(value, 4)
