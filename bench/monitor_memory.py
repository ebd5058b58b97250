"""Memory of a monitor over many frames: prints the resident set every so many and fails if it grows.

    python bench/monitor_memory.py                  # 10 000 frames of the drawn conveyor, built-in bundle
    python bench/monitor_memory.py --frames 2000 --every 200

The whole loop runs: drawing, health, encoder, bank search, events, snapshots, logs. Frames are drawn beforehand and
repeated with a changing pixel row, because drawing takes longer than scoring.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from edgevand.bundle import Bundle
from edgevand.errors import EndOfSourceError
from edgevand.home import builtin_bundle
from edgevand_runtime.camera_health import CameraHealth
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import open_engine
from edgevand_runtime.enroll import EnrolOptions, enroll
from edgevand_runtime.monitor import Lane, Limits, Outputs, watch
from edgevand_runtime.preprocess import load_image
from edgevand_runtime.sinks import EventLog, ResultLog, Rotation, Snapshots
from edgevand_runtime.sources import Source, SourceStatus, open_source
from edgevand_runtime.sources.base import new_frame
from edgevand_runtime.stop import Stop

if TYPE_CHECKING:
    from edgevand.bank import Bank
    from edgevand_runtime.frame import Frame

WARM = 1000
"""Frames after which the first measure counts: buffers and caches have found their size."""

ALLOWED_MIB = 8.0
"""Growth that is still called flat: an allocator's crumbs, far below one frame in a thousand."""


class Repeated(Source):
    """Drawn frames over and over; measures the process every so many."""

    uri = "test://conveyor (repeated)"

    def __init__(self, drawn: list[Frame], frames: int, every: int) -> None:
        """Remember the pictures."""
        self._drawn, self.length, self._every = drawn, frames, every
        self._index = 0
        self._process = psutil.Process()
        self._since = time.perf_counter()
        self.measures: list[tuple[int, float]] = []

    def read(self, timeout: float | None = None) -> Frame | None:
        """The next picture, different from every other."""
        del timeout
        if self._index == self.length:
            raise EndOfSourceError(self.uri)
        if self._index and self._index % self._every == 0:
            self._measure()
        image = self._drawn[self._index % len(self._drawn)].image.copy()
        image[0, : 64 * 3 : 3, 0] = np.unpackbits(np.array([self._index], ">u8").view(np.uint8))
        self._index += 1
        return new_frame(image, self._index - 1, self.uri, self._index / 10)

    def status(self) -> SourceStatus:
        """Always there."""
        return SourceStatus(connected=True, frames=self._index)

    def close(self) -> None:
        """Nothing is held."""

    def _measure(self) -> None:
        gc.collect()
        resident = self._process.memory_info().rss / 2**20
        rate = self._every / (time.perf_counter() - self._since)
        self.measures.append((self._index, resident))
        print(f"{self._index:>7} frames  {resident:8.1f} MiB  {rate:6.1f} frames/s", flush=True)
        self._since = time.perf_counter()


def main() -> int:
    """Run and judge; 1 where memory grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=1000)
    options = parser.parse_args()
    bundle = Bundle.open(builtin_bundle())
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        bank = _bank(bundle, place)
        with open_source("test://conveyor?frames=60&live=0&defects=0.3") as conveyor:
            drawn = list(conveyor)
        source = Repeated(drawn, options.frames + 1, options.every)
        thumbnails = [load_image(path) for path in sorted((bank.path / "frames").glob("*.jpg"))]
        sinks = (ResultLog(place / "results.jsonl", Rotation(1.0, 1)), EventLog(place / "events", Rotation(1.0, 1)))
        with Detector.open(bundle, bank) as detector:
            outputs = Outputs(sinks, Snapshots(place / "snapshots", keep=20))
            health = CameraHealth(thumbnails, bank.record.frame_size)
            lane = Lane(source, detector, outputs, camera="bench", health=health)
            watch(lane, None, Limits(), Stop())
    return _judge(source.measures, min(WARM, options.frames // 2), lane)


def _bank(bundle: Bundle, place: Path) -> Bank:
    """Eight frames of a conveyor without defects."""
    engine = open_engine(bundle)
    try:
        with open_source("test://conveyor?frames=60&live=0&defects=0") as conveyor:
            return enroll(conveyor, bundle, engine, place / "bank", EnrolOptions(), lambda _: None, replace=False).bank
    finally:
        engine.close()


def _judge(measures: list[tuple[int, float]], warm: int, lane: Lane) -> int:
    """Compare the last measure with the first one that counts."""
    settled = [resident for count, resident in measures if count >= warm]
    growth = settled[-1] - settled[0]
    events = lane.stats.events["anomaly"]
    print(f"{lane.stats.scored} frames, {events} events: {growth:+.1f} MiB after the first {warm} frames")
    if growth > ALLOWED_MIB:
        print(f"memory grew by more than {ALLOWED_MIB} MiB", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
