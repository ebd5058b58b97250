"""Every method through the command line on a real toy and on drawn boxes, as a table (docs/methods/table.md).

For each method: what it needs is trained and exported, then frames are enrolled, scored, monitored and evaluated::

    python bench/methods.py --toy ../shared/data/hazelnut-toy --text-weights edgevand-lite0.safetensors

A method that fails is a row with its sentence. ``vvv`` has small random weights, and ``winclip`` too where the built-in
model's checkpoint is not given: their figures say that the chain works and nothing of the method. Needs ``export``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BOXES = ("tool_tray", "snack_box", "fuse_row")
UNTRAINED = ("april-gan", "ustc-loco", "memory", "subspace", "components")
TRAINED = {
    "simplenet": ("folds=2",),
    "gcad": ("folds=2",),
    "gcad-self": ("folds=2",),
}
"""Methods that are trained on each class by itself, and options that keep this short."""
METHODS = (*UNTRAINED, *TRAINED, "winclip", "vvv")
PATIENCE = 1800.0
SMALL_CLIP = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 96, "layers": 4, "width": 64, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


class FailedError(Exception):
    """A command ended with another exit code than 0; its last sentence."""


@dataclass
class Row:
    """What was measured of one method."""

    name: str
    toy: dict[str, float] = field(default_factory=dict)
    boxes: list[dict[str, float]] = field(default_factory=list)
    frame_ms: list[float] = field(default_factory=list)
    bank_kb: list[float] = field(default_factory=list)
    bundle_mb: float = float("nan")
    training_s: float = 0.0
    random: bool = False
    fault: str = ""


class Commands:
    """Runs ``edgevand`` and keeps what it needs between commands in one folder."""

    def __init__(self, folder: Path, *, echo: bool) -> None:
        """Work in this folder, which is also where bundles and banks are remembered."""
        self.folder = folder
        self._echo = echo
        self._environment = {**os.environ, "EDGEVAND_HOME": str(folder / "home")}

    def run(self, *words: object) -> str:
        """Standard output of one command.

        Raises:
            FailedError: it ended with another exit code than 0.
        """
        command = [sys.executable, "-m", "edgevand", *map(str, words)]
        if self._echo:
            print("$ edgevand", *words[:40], file=sys.stderr, flush=True)
        done = subprocess.run(
            command, capture_output=True, text=True, env=self._environment, timeout=PATIENCE, check=False
        )
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise FailedError(lines[-1].removeprefix("edgevand: ") if lines else f"exit code {done.returncode}")
        return done.stdout


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", type=Path, default=Path("../shared/data/hazelnut-toy"), help="a dataset of one class")
    parser.add_argument("--text-weights", type=Path, help="the built-in model's checkpoint")
    parser.add_argument("--methods", default=",".join(METHODS), help="only these")
    parser.add_argument("--shots", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0, help="of the drawn boxes")
    parser.add_argument("--images", type=int, default=24, help="normal frames of each kind of box")
    parser.add_argument("--set", action="append", default=[], metavar="METHOD:KEY=VALUE", help="an option of a method")
    parser.add_argument(
        "--bundle", action="append", default=[], metavar="METHOD=DIR", help="a bundle that was prepared for it before"
    )
    parser.add_argument("--quiet", action="store_true", help="do not print the commands")
    given = parser.parse_args()
    options: dict[str, list[str]] = {}
    for each in given.set:
        name, _, pair = each.partition(":")
        options.setdefault(name, []).append(pair)
    ready = dict(each.split("=", 1) for each in given.bundle)
    with tempfile.TemporaryDirectory(prefix="edgevand-methods-") as folder:
        commands = Commands(Path(folder), echo=not given.quiet)
        boxes = Path(folder) / "boxes"
        drawing = ("--classes", ",".join(BOXES), "--size", 320, "--images", given.images, "--seed", given.seed)
        commands.run("dataset", "make", "--layout", "loco", *drawing, "-q", "-o", boxes)
        rows = []
        for name in given.methods.split(","):
            bench = Bench(
                commands, given.toy, boxes, given.shots, given.text_weights, options.get(name, []), ready.get(name)
            )
            rows.append(bench.measure(name))
            print(as_row(rows[-1]), file=sys.stderr, flush=True)
    print(as_table(rows, given.shots))


@dataclass
class Bench:
    """One method's chain of commands."""

    commands: Commands
    toy: Path
    boxes: Path
    shots: int
    text_weights: Path | None
    options: list[str]
    ready: str | None

    def measure(self, name: str) -> Row:
        """Type everything; what fails is told in the row, which keeps what was measured before."""
        row = Row(name)
        try:
            self._toy(row)
            self._boxes(row)
        except (FailedError, subprocess.TimeoutExpired) as error:
            row.fault = " ".join(str(error).split())
        return row

    def _toy(self, row: Row) -> None:
        folder = self.toy / "train" / "good"
        bundle = self._bundle(row, folder, "toy")
        self._chain(row, bundle, folder, self.toy / "test" / "good", "toy")
        (row.toy,) = self._evaluate(row, bundle, self.toy, None, "toy")

    def _boxes(self, row: Row) -> None:
        bundle = None if row.name in TRAINED else self._bundle(row, None, "boxes")
        for box in BOXES:
            folder = self.boxes / box / "train" / "good"
            own = bundle or self._bundle(row, folder, box)
            if box == BOXES[0]:
                self._chain(row, own, folder, self.boxes / box / "test" / "logical_anomalies", box)
            row.boxes += self._evaluate(row, own, self.boxes, box, box)

    def _bundle(self, row: Row, frames: Path | None, tag: str) -> str:
        """A bundle of the method: the built-in one where that is enough; a trained one is of one class."""
        name, target = row.name, self.commands.folder / f"{row.name}-{tag}"
        if self.ready is not None:
            row.bundle_mb = _size(Path(self.ready)) / 1e6
            return self.ready
        prepared = self.text_weights is None and name == "ustc-loco"
        if prepared or name in {"april-gan", "memory", "subspace", "components"}:
            row.bundle_mb = _size(_builtin()) / 1e6
            return "builtin"
        settings = [word for pair in self._settings(name) for word in ("--set", pair)]
        base, weights = "builtin", []
        if name in TRAINED:
            started = time.perf_counter()
            run = self.commands.folder / f"run-{name}-{tag}"
            source = ("--source", frames, "--shots", self.shots)
            self.commands.run("train", "--method", name, "--bundle", base, *source, *settings, "-q", "-o", run)
            row.training_s = max(row.training_s, time.perf_counter() - started)
            weights = [next(run.glob(f"{name}*.safetensors"), run)]
        elif name == "vvv":
            small = ("--set", "side=96", "--set", "objects=object")  # an object's sentences take CLIPSeg's tower 20 s
            weights, settings = [_small_clipseg(self.commands.folder)], [*settings, *small]
            row.random = True
        elif name == "winclip" and self.text_weights is not None:
            weights, settings = [self.text_weights], [*settings, "--set", "objects=object"]
        elif name == "winclip":
            base, row.random = str(self._small_clip()), True
            weights = [Path(base).with_suffix(".safetensors")]
        elif self.text_weights is not None:
            weights = [self.text_weights]
        brought = [word for path in weights for word in ("--weights", path)]
        self.commands.run("export", "--method", name, "--bundle", base, *brought, *settings, "-q", "-o", target)
        row.bundle_mb = _size(target) / 1e6
        return str(target)

    def _settings(self, name: str) -> list[str]:
        return [*TRAINED.get(name, ()), *self.options]

    def _chain(self, row: Row, bundle: str, good: Path, frames: Path, tag: str) -> None:
        """Enroll, score and monitor."""
        bank, results = (self.commands.folder / f"{kind}-{row.name}-{tag}" for kind in ("bank", "results"))
        decided = [word for pair in self._decided(row.name) for word in ("--set", pair)]
        source = ("--source", good, "--shots", self.shots)
        self.commands.run("enroll", "--bundle", bundle, "--method", row.name, *decided, *source, "-q", "-o", bank)
        self.commands.run("score", "--bundle", bundle, "--bank", bank, frames, "--output", results, "-q")
        told = [json.loads(line)["latency_ms"] for line in results.read_text().splitlines()]
        row.frame_ms.append(statistics.median(told))
        self.commands.run("monitor", "--bundle", bundle, "--bank", bank, "--source", frames, "--max-frames", 50, "-q")
        row.bank_kb.append(sum(path.stat().st_size for path in bank.glob("*.safetensors")) / 1e3)

    def _decided(self, name: str) -> list[str]:
        """Options that are said at enrolment: those of a method that was not exported for them."""
        return self.options if name in {"april-gan", "memory", "subspace", "components"} else []

    def _evaluate(self, row: Row, bundle: str, data: Path, box: str | None, tag: str) -> list[dict[str, float]]:
        """Metrics of each class."""
        report = self.commands.folder / f"report-{row.name}-{tag}"
        decided = [word for pair in self._decided(row.name) for word in ("--set", pair)]
        which = ("--classes", box) if box else ()
        drawn = ("--shots", self.shots, "--seeds", 0, "--no-html")
        words = ("--data", data, *which, "--bundle", bundle, "--method", row.name, *decided, *drawn)
        self.commands.run("evaluate", *words, "-q", "-o", report)
        read: dict[str, Any] = json.loads((report / "report.json").read_text())
        return [{key: value for key, value in each["metrics"].items() if value is not None} for each in read["rows"]]

    def _small_clip(self) -> Path:
        """A bundle of a small random CLIP, whose weights lie beside it."""
        import torch
        from open_clip.model import CLIP
        from safetensors.torch import save_file

        place = self.commands.folder / "small-clip"
        if not place.exists():
            torch.manual_seed(0)
            state = CLIP(**SMALL_CLIP).state_dict()
            weights, config = place.with_suffix(".safetensors"), place.with_suffix(".json")
            save_file({name: each.contiguous() for name, each in state.items()}, weights)
            config.write_text(json.dumps(SMALL_CLIP))
            self.commands.run("export", "--model", config, "--pretrained", weights, "-q", "-o", place)
        return place


def _small_clipseg(folder: Path) -> Path:
    """Random weights of a small CLIPSeg, as transformers saves them."""
    import torch
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    place = folder / "clipseg"
    if not place.exists():
        torch.manual_seed(0)
        tower = {"num_hidden_layers": 4, "num_attention_heads": 4, "hidden_size": 64, "intermediate_size": 128}
        config = CLIPSegConfig(
            text_config=dict(tower),
            vision_config={**tower, "patch_size": 16, "image_size": 96},
            projection_dim=32,
            reduce_dim=16,
            extract_layers=[0, 1, 2],
            decoder_num_attention_heads=4,
            decoder_intermediate_size=64,
        )
        CLIPSegForImageSegmentation(config).save_pretrained(place)
    return place


def _builtin() -> Path:
    from edgevand.home import builtin_bundle

    return builtin_bundle()


def _size(folder: Path) -> int:
    """Bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


HEAD = (
    "method",
    "toy image",
    "toy pixel",
    "boxes logical",
    "boxes structural",
    "boxes AU-sPRO",
    "ms a frame",
    "bank KB",
    "bundle MB",
    "training s",
)


def as_table(rows: list[Row], shots: int) -> str:
    """The table in Markdown, then what failed."""
    lines = [f"| {' | '.join(HEAD)} |", f"| --- |{' ---: |' * (len(HEAD) - 1)}", *map(as_row, rows)]
    lines += ["", f"{shots} frames enrolled; AUROC in percent, AU-sPRO up to a false-positive rate of 0.05."]
    lines += [f"- `{row.name}`: {row.fault}" for row in rows if row.fault]
    return "\n".join(lines)


def as_row(row: Row) -> str:
    """One method."""
    boxes = {
        key: statistics.mean(each[key] for each in row.boxes)
        if row.boxes and all(key in each for each in row.boxes)
        else None
        for key in ("image_auroc_logical", "image_auroc_structural", "spro_0.05")
    }
    cells = [
        _percent(row.toy.get("image_auroc")),
        _percent(row.toy.get("pixel_auroc")),
        *(_percent(value) for value in boxes.values()),
        f"{statistics.median(row.frame_ms):.0f}" if row.frame_ms else "-",
        f"{max(row.bank_kb):.0f}" if row.bank_kb else "-",
        f"{row.bundle_mb:.1f}" if row.bundle_mb == row.bundle_mb else "-",
        f"{row.training_s:.0f}" if row.training_s else "-",
    ]
    return f"| `{row.name}`{' ¹' if row.random else ''}{' (failed)' if row.fault else ''} | {' | '.join(cells)} |"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


if __name__ == "__main__":
    main()
