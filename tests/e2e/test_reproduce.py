"""The reproduction guide works: each of its blocks is run, in order, on drawn datasets and a model with random weights.

Comments above a block change it for the test as they do in the README (tests/test_docs.py). The drawn datasets lie
where the guide wants the real ones, their classes under names of the real ones, so that published rows are found.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgevand_runtime.datasets.making import MakeOptions, make_dataset
from tests.export.models import save_weights, tiny_config, tiny_model
from tests.test_docs import blocks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.test_docs import Block

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "reproduce.md"


def draw(root: Path, layout: Any, names: Mapping[str, str], images: int) -> None:
    """Draw a dataset of the classes ``names``, then give each the name that a published dataset has for it."""
    make_dataset(layout, root, MakeOptions(classes=tuple(names), images=images, size=96))
    for drawn, published in names.items():
        (root / drawn).rename(root / published)
        table = root / "split_csv" / "1cls.csv"
        if table.exists():
            text = table.read_text(encoding="utf-8")
            table.write_text(re.sub(rf"(?m)(^|,){drawn}(?=[,/])", rf"\g<1>{published}", text), encoding="utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the datasets and the weights that the guide asks for."""
    root = tmp_path_factory.mktemp("reproduce")
    (root / "data").mkdir()
    draw(root / "data" / "mvtec_anomaly_detection", "mvtec", {"bottle": "bottle", "cable": "cable"}, 4)
    draw(root / "data" / "visa", "visa", {"key": "pipe_fryum", "dial": "pcb1"}, 4)
    draw(root / "data" / "mvtec_loco_anomaly_detection", "loco", {"name_plate": "pushpins"}, 8)
    config = tiny_config("vit")
    (root / "tiny.json").write_text(json.dumps(config), encoding="utf-8")
    save_weights(tiny_model(config), root / "tiny.safetensors")
    return root


def start(block: Block, place: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start what a block says."""
    assert not block.skipped
    command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[block.language]
    return subprocess.Popen(
        [*command, block.text],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def done(place: Path) -> Path:
    """The working directory after all blocks were run; neighbours that call the same command side by side."""
    scripts = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "EDGEVAND_HOME": str(place / "home"),
        "OMP_NUM_THREADS": "1",
    }
    for _, group in groupby(blocks(GUIDE), key=lambda block: block.text.split()[:2]):
        running = [(block, start(block, place, environment)) for block in group]  # two trainings, two exports, …
        for block, process in running:
            output, _ = process.communicate()
            assert process.returncode == 0, f"{block.text}\n{output}"
    return place


def report(place: Path, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((place / "reports" / name / "report.json").read_text(encoding="utf-8"))
    return document


@pytest.mark.parametrize(
    ("name", "dataset", "shots"),
    [("mvtec", "MVTec AD", [0, 1, 2, 4]), ("visa", "VisA", [0, 1, 2, 4]), ("loco", "MVTec LOCO", [1, 2, 4, 8])],
)
def test_every_block_runs_and_each_table_has_its_rows(done: Path, name: str, dataset: str, shots: list[int]) -> None:
    found = report(done, name)
    assert found["dataset"]["recognised"] == dataset
    assert found["options"]["score_rule"] == "released"
    means = {entry["shots"]: entry["metrics"] for entry in found["summary"] if entry["class"] == "mean"}
    assert list(means) == shots
    for metrics in means.values():
        for metric in (
            "pixel_auroc",
            "pixel_f1_max",
            "pixel_ap",
            "pro_released",
            "image_auroc",
            "image_f1_max",
            "image_ap",
        ):
            assert metrics[metric]["mean"] is not None, (name, metric)
    assert {row["object"] for row in found["rows"]} == {row["class"] for row in found["rows"]}
    assert found["published"]
    assert "published" in (done / "reports" / name / "report.html").read_text(encoding="utf-8")


def test_loco_has_the_figures_of_the_challenge_and_of_the_course_project(done: Path) -> None:
    for name in ("loco", "loco-append", "loco-per-group-max"):
        found = report(done, name)
        assert found["aufc"] is not None
        metrics = found["summary"][-1]["metrics"]
        for metric in ("image_auroc_structural", "image_auroc_logical", "spro_0.05", "image_f1_trivial"):
            assert metrics[metric]["mean"] is not None


def test_the_appended_prompts_change_the_scores(done: Path) -> None:
    rows = [report(done, name)["rows"] for name in ("loco", "loco-append")]
    first, second = ([score["text_score"] for row in each for score in row["scores"]] for each in rows)
    assert first != second


def test_a_trained_method_has_the_three_figures_of_the_course_project(done: Path) -> None:
    found = report(done, "simplenet-pushpins")
    assert found["method"] == "simplenet"
    metrics = found["summary"][-1]["metrics"]
    for metric in ("image_auroc", "image_auroc_structural", "image_auroc_logical"):
        assert metrics[metric]["mean"] is not None


def test_the_heads_are_those_of_the_reference(done: Path) -> None:
    for name in ("for-mvtec", "for-visa-and-loco"):
        manifest = json.loads((done / "bundles" / name / "manifest.json").read_text(encoding="utf-8"))
        assert {manifest["model"]["image_activation"], manifest["model"]["text_activation"]} == {"gelu"}
        assert all(stage["head"] for stage in manifest["stages"])


def test_the_expected_rows_of_the_guide_are_those_that_reports_show() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    columns = ("pixel_auroc", "pixel_f1_max", "pixel_ap", "pro_released", "image_auroc", "image_f1_max", "image_ap")
    published = json.loads((ROOT / "runtime/edgevand_runtime/evaluation/published.json").read_text(encoding="utf-8"))
    rows = [row for row in published["rows"] if row["class"] == "mean" and row["source"].startswith("APRIL-GAN")]
    assert len(rows) == 8
    for row in rows:
        spread = row.get("std")
        cells = [
            f"{100 * row['metrics'][column]:.1f}" + (f" ± {100 * spread[column]:.1f}" if spread else "")
            for column in columns
        ]
        assert f"| {row['shots']} | {' | '.join(cells)} |" in text
