"""Which engine is faster on this processor: every one that is here, frame by frame in turn, in every precision.

    python bench/engines.py [BUNDLE] --threads 1 --frames 30

Engines take turns, so that whatever else the machine does hits all of them alike; beside the wall clock it counts the
processor's own time, which other programs do not lengthen (with one thread: the work of a frame). The order in which
``--backend auto`` tries engines on a processor comes from here (docs/engines.md).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgevand.bundle import Bundle
from edgevand.home import builtin_bundle
from edgevand_runtime.engines.choose import ENGINES
from edgevand_runtime.preprocess import to_tensor

if TYPE_CHECKING:
    from edgevand_runtime.engines import Engine


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=builtin_bundle())
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--frames", type=int, default=30)
    given = parser.parse_args()
    bundle = Bundle.open(given.bundle)
    golden = bundle.golden()
    image = to_tensor(golden["image"][0][..., ::-1], bundle.manifest.image)[None]
    text = golden.get("text")
    print("| engine | precision | opened in, s | wall, ms | processor, ms |")
    print("| --- | --- | --- | --- | --- |")
    for precision in bundle.precisions:
        engines: list[tuple[Engine, float]] = []
        for kind in ENGINES.values():
            if "cpu" in kind.devices():
                started = time.perf_counter()
                engine = kind.open(bundle, "cpu", precision, given.threads)
                engines.append((engine, time.perf_counter() - started))
        times = np.array([[once(engine, image, text) for engine, _ in engines] for _ in range(given.frames + 1)])[1:]
        for (engine, opened), (wall, processor) in zip(engines, np.median(times, axis=0) * 1000, strict=True):
            print(f"| {engine.name} | {precision} | {opened:.2f} | {wall:.1f} | {processor:.1f} |", flush=True)
            engine.close()


def once(engine: Engine, image: np.ndarray, text: np.ndarray | None) -> tuple[float, float]:
    """Seconds by the wall clock and of the processor that one frame takes."""
    wall, processor = time.perf_counter(), time.process_time()
    engine.run(image, text)
    return time.perf_counter() - wall, time.process_time() - processor


if __name__ == "__main__":
    main()
