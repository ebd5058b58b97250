"""What the cache of stage tokens saves in training: seconds of epoch 1 against those of the epochs after it.

Draws a small dataset, takes random weights of a real shape, and runs the program's own loop with the published recipe
(batch 16, mosaic 0.2) with the cache, without the cache, and with the cache and no mosaics. The pool of mosaics is to a
class as 16 are to the 115 test pictures that a class of MVTec AD has on average.

    python bench/train_cache.py [--model ViT-B-16] [--size 224] [--images 24] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import open_clip
import torch
from safetensors.torch import save_file

from edgevand_export.training.config import PRESETS
from edgevand_export.training.run import TrainOptions, train
from edgevand_runtime.datasets.making import MakeOptions, make_dataset

if TYPE_CHECKING:
    from edgevand_export.training.loop import EpochFigures, StepReport

MVTEC_CLASS = 115
SHORT = {"normal_states": ["flawless {}"], "abnormal_states": ["damaged {}"], "templates": ["a photo of a {}."]}


class Clock:
    """A watcher that takes wall and CPU time of each epoch."""

    def __init__(self) -> None:
        """Nothing measured yet."""
        self.rows: list[tuple[float, float, int]] = []
        self._wall = self._cpu = 0.0
        self.pictures = 0

    def begin(self, done: int, total: int) -> None:
        """The first epoch begins."""
        self.pictures = total - done
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def picture(self) -> None:
        """Not measured alone."""

    def step(self, report: StepReport) -> None:
        """Not measured alone."""

    def unreadable(self, sentence: str) -> None:
        """There is none."""

    def epoch(self, figures: EpochFigures) -> None:
        """Take the times."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.rows.append((wall - self._wall, cpu - self._cpu, figures.encoded))
        self._wall, self._cpu = wall, cpu


def measure(options: TrainOptions) -> list[tuple[float, float, int]]:
    """Wall seconds, CPU seconds and encoded pictures of each epoch."""
    clock = Clock()
    train(options, clock)
    return clock.rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What the cache of stage tokens saves in training.")
    parser.add_argument("--model", default="ViT-B-16")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=24, help="anomalous pictures of each of two classes")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        torch.manual_seed(0)
        model = open_clip.create_model(arguments.model, pretrained=None)
        save_file({name: each.contiguous() for name, each in model.state_dict().items()}, place / "w.safetensors")
        del model
        make_dataset("mvtec", place / "data", MakeOptions(classes=("gear", "fabric"), images=arguments.images))
        (place / "prompts.json").write_text(json.dumps(SHORT))
        shown = f"{arguments.model}, {arguments.size} px, {torch.get_num_threads()} threads, batch 16"
        print(f"{shown}\n\n| mosaic | cache | epoch | wall, s | CPU, s | encoded | of epoch 1 (CPU) |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        pool = max(1, round(PRESETS["april-gan-mvtec"].mosaic_pool * arguments.images * 5 / 3 / MVTEC_CLASS))
        for mosaic, cache in ((0.2, "on"), (0.2, "off"), (0.0, "on")):
            options = TrainOptions(
                output=place / f"run-{mosaic}-{cache}",
                model=arguments.model,
                pretrained=str(place / "w.safetensors"),
                data=place / "data",
                prompts=str(place / "prompts.json"),
                settings=(
                    f"image_size={arguments.size}",
                    f"epochs={arguments.epochs}",
                    f"mosaic={mosaic}",
                    f"mosaic_pool={pool}",
                    f"cache={cache}",
                    f"cache_dir={place / f'cache-{mosaic}'}",
                ),
            )
            rows = measure(options)
            for number, (wall, cpu, encoded) in enumerate(rows, start=1):
                cells = (mosaic, cache, number, f"{wall:.1f}", f"{cpu:.1f}", encoded, f"{cpu / rows[0][1]:.2f}")
                print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
