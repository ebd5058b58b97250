"""Time from a 1920 x 1080 frame to the encoder's input at 518 px, beside Pillow's own resize, in one run.

Usage: python bench/preprocess.py
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from edgevand.bundle import ImageRecord
from edgevand_runtime.preprocess import squash, to_tensor

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 518
ROUNDS = 40
CLIP = ImageRecord(
    height=SIZE,
    width=SIZE,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)


def main() -> None:
    """Print medians and their ratios; the candidates take turns, so that all meet the same machine."""
    frame = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    picture = Image.fromarray(frame)
    candidates: dict[str, Callable[[], object]] = {
        "Pillow's resize alone": lambda: picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC),
        "squash (array to array)": lambda: squash(frame, (SIZE, SIZE)),
        "to_tensor (squash and normalise)": lambda: to_tensor(frame, CLIP),
    }
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, work in candidates.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    base = statistics.median(seconds["Pillow's resize alone"])
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"{name:34} {1000 * median:7.2f} ms  {median / base:5.2f} x")


if __name__ == "__main__":
    main()
