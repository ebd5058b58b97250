"""What the training's tests work with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from edgevand_export.training.run import TrainOptions, TrainResult, train
from tests.export.models import save_weights, tiny_config, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from edgevand_export.training.loop import EpochFigures, StepReport
    from edgevand_runtime.stop import Stop

CLASSES = ("disc", "metal_nut")
KINDS = {"good": 3, "hole": 2, "scratch": 2}
"""Test pictures of each class by kind; 7 pictures a class."""
SIDES = (60, 80)
PROMPTS = {
    "normal_states": ["flawless {}", "{} without defect"],
    "abnormal_states": ["damaged {}"],
    "templates": ["a photo of a {}.", "the {}."],
}


@dataclass(frozen=True)
class Workshop:
    """Files by their place.

    Attributes:
        data: a dataset in MVTec AD's layout.
        prompts: a short pack.
        models: folder of ``<kind>.json`` and ``<kind>.safetensors``.
    """

    data: Path
    prompts: Path
    models: Path

    def options(self, output: Path, *settings: str, kind: str = "vit", **changes: Any) -> TrainOptions:
        """Options of a run on the tiny model ``kind``; its cache lies beside the output."""
        fields: dict[str, Any] = {
            "model": str(self.models / f"{kind}.json"),
            "pretrained": str(self.models / f"{kind}.safetensors"),
            "data": self.data,
            "prompts": str(self.prompts),
            "settings": ("batch=4", f"cache_dir={output.parent / 'cache'}", *settings),
        }
        return TrainOptions(output=output, **{**fields, **changes})


class Silent:
    """A watcher that remembers."""

    def __init__(self, stop: Stop | None = None, stop_after: int | None = None) -> None:
        self.steps: list[StepReport] = []
        self.epochs: list[EpochFigures] = []
        self.told: list[str] = []
        self.pictures = 0
        self.stop, self.stop_after = stop, stop_after

    def begin(self, done: int, total: int) -> None:
        self.pictures = done

    def picture(self) -> None:
        self.pictures += 1
        if self.stop is not None and self.pictures == self.stop_after:
            self.stop.why = "interrupted"

    def step(self, report: StepReport) -> None:
        self.steps.append(report)

    def unreadable(self, sentence: str) -> None:
        self.told.append(sentence)

    def epoch(self, figures: EpochFigures) -> None:
        self.epochs.append(figures)


def run(options: TrainOptions) -> TrainResult:
    """Train and say nothing."""
    return train(options, Silent())


def make_workshop(folder: Path) -> Workshop:
    """Draw the data and save the models."""
    draw_dataset(folder / "data")
    (folder / "prompts.json").write_text(json.dumps(PROMPTS))
    (folder / "models").mkdir()
    for kind in ("vit", "resnet", "timm"):
        config = tiny_config(kind)
        (folder / "models" / f"{kind}.json").write_text(json.dumps(config))
        save_weights(tiny_model(config), folder / "models" / f"{kind}.safetensors")
    return Workshop(folder / "data", folder / "prompts.json", folder / "models")


def draw_dataset(root: Path, classes: tuple[str, ...] = CLASSES, kinds: dict[str, int] = KINDS) -> None:
    """Stripes; anomalous ones have a dark or a bright rectangle, which the mask marks."""
    random = np.random.default_rng(3)
    for name in classes:
        for split, kind, count in [("train", "good", 1), *(("test", kind, count) for kind, count in kinds.items())]:
            for number in range(count):
                stripes = 120 + 60 * np.sin((np.mgrid[0 : SIDES[0], 0 : SIDES[1]][1] + 9 * number) / 7)
                picture = stripes[..., None] * (1.0, 0.8, 0.6) + random.normal(0, 6, (*SIDES, 3))
                if kind != "good":
                    mask = np.zeros(SIDES, np.uint8)
                    top, left = random.integers(5, 40), random.integers(5, 60)
                    mask[top : top + 14, left : left + 15] = 255
                    picture[mask > 0] = 20 if kind == "hole" else 250
                    save(root / name / "ground_truth" / kind / f"{number:03}_mask.png", mask)
                save(root / name / split / kind / f"{number:03}.png", picture.clip(0, 255).astype(np.uint8))


def save(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
