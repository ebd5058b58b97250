"""``edgevand evaluate`` as a person types it: files, tables, exit codes, and a run that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from edgevand.cli import main
from edgevand_runtime.engines import open_engine
from tests.runtime.evaluation.scenes import make_mvtec, without_times
from tests.tiny import write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Proved in this process, so that no test sees the line that says so."""
    made = write_tiny_bundle(tmp_path_factory.mktemp("models") / "bundle", heads=True, objects=("object",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEVAND_HOME", str(tmp_path_factory.mktemp("home")))
        open_engine(made).close()
    return made.path


def evaluate(*arguments: object) -> int:
    return main(["evaluate", *map(str, arguments)])


def test_the_report_is_written_and_the_tables_are_printed(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jinja2", reason="the extra eval is not installed")
    root = make_mvtec(tmp_path / "data", ("bolt", "nut"))
    report = tmp_path / "report"
    assert evaluate("--data", root, "--bundle", bundle, "--shots", "0,4", "--seeds", "0,1", "-o", report) == 0
    out = capfd.readouterr().out
    assert {path.name for path in report.iterdir()} == {"report.json", "report.csv", "report.html", "pictures"}
    assert "AUROC" in out
    assert "The enrolled threshold" in out
    rows = [line.split()[:2] for line in out.splitlines() if line.strip()]
    assert ["bolt", "0"] in rows
    assert ["mean", "4"] in rows
    document = json.loads((report / "report.json").read_text())
    (mean,) = [entry for entry in document["summary"] if (entry["class"], entry["shots"]) == ("mean", 0)]
    assert f"{100 * mean['metrics']['image_auroc']['mean']:.1f}" in out
    assert "bolt" in (report / "report.html").read_text()


def test_a_narrow_terminal_gets_fewer_columns_and_is_told_which_are_left_out(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the output for a terminal
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "70")
    root = make_mvtec(tmp_path / "data")
    assert evaluate("--data", root, "--bundle", bundle, "--shots", "0", "--no-html", "-o", tmp_path / "report") == 0
    out = capfd.readouterr().out
    assert "left out for want of width: vand_score" in out
    assert max(len(line) for line in out.splitlines() if "bolt" in line) <= 70
    assert "\N{HORIZONTAL ELLIPSIS}" not in out


def test_json_is_the_report_and_nothing_else_and_quiet_says_nothing(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = make_mvtec(tmp_path / "data")
    options = ["--data", root, "--bundle", bundle, "--shots", "1", "--seeds", "0", "--no-html"]
    assert evaluate(*options, "-o", tmp_path / "a", "--json") == 0
    out, err = capfd.readouterr()
    assert json.loads(out) == json.loads((tmp_path / "a" / "report.json").read_text())
    assert err == ""
    assert evaluate(*options, "-o", tmp_path / "b", "-q") == 0
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "b" / "report.html").exists()


def test_an_unreadable_picture_ends_with_two_after_the_report(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = make_mvtec(tmp_path / "data")
    path = root / "bolt" / "test" / "good" / "001.png"
    path.write_bytes(path.read_bytes()[:60] + bytes(2000))
    options = ["--data", root, "--bundle", bundle, "--shots", "1", "--seeds", "0", "--no-html"]
    assert evaluate(*options, "-o", tmp_path / "report") == 2
    assert "1 was not" in capfd.readouterr().err
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [failure["image"] for failure in report["failures"]] == ["bolt/test/good/001.png"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--shots", "1"], "expected --data"),
        (["--data", "{data}"], "expected --output"),
        (["--data", "{data}", "-o", "{out}", "--shots", "one"], "found 'one'"),
        (["--data", "{data}", "-o", "{out}", "--shots", "9"], "at least 9 training images"),
        (["--data", "{data}", "-o", "{out}", "--classes", "nut"], "found 'nut'"),
        (["--data", "{data}", "-o", "{out}", "--dataset", "coco"], "found 'coco'"),
        (["--data", "{out}", "-o", "{out}"], "expected the folder of a dataset"),
        (["--compare", "{data}", "{data}"], "expected a report"),
        (["--data", "{data}", "-o", "{out}", "--object", "gear", "--no-html"], "found 'gear'"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_two(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    root = make_mvtec(tmp_path / "data")
    places = {"data": root, "out": tmp_path / "out"}
    given = [each.format(**places) for each in options]
    assert evaluate("--bundle", bundle, *given) == 2
    err = capfd.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_killed_at_any_moment_it_resumes_to_the_same_report(bundle: Path, tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "data", tuple(f"part{number}" for number in range(6)), good=12, bad=6)
    options = ["--data", str(root), "--bundle", str(bundle), "--shots", "1,4", "--seeds", "0,1", "--no-html"]
    assert evaluate(*options, "-o", tmp_path / "straight", "-q") == 0
    report = tmp_path / "report"
    command = [sys.executable, "-m", "edgevand", "evaluate", *options, "-o", str(report), "-q"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for finished in (1, 3):
        with subprocess.Popen([*command, "--resume"], env=environment) as process:
            until = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < until:
                if len(list(report.glob(".work/classes/*.json"))) >= finished:
                    break
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
        assert not (report / "report.json").exists(), "it was too fast to be killed"
        for path in report.glob(".work/classes/*.json"):
            json.loads(path.read_text())
    assert evaluate(*options, "-o", report, "-q") == 2
    assert evaluate(*options, "-o", report, "-q", "--resume") == 0
    found, expected = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("report", "straight"))
    assert without_times(found) == without_times(expected)
    assert not (report / ".work").exists()


def test_compare_prints_differences_with_their_intervals(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = make_mvtec(tmp_path / "data")
    options = ["--data", root, "--bundle", bundle, "--seeds", "0,1", "--no-html", "-q"]
    assert evaluate(*options, "--shots", "1,2", "-o", tmp_path / "a") == 0
    assert evaluate(*options, "--shots", "1", "--augment", "flip", "-o", tmp_path / "b") == 0
    capfd.readouterr()
    assert evaluate("--compare", tmp_path / "a", tmp_path / "b") == 0
    out = capfd.readouterr().out
    assert "pixel_auroc" in out
    assert "2 rows are only in A" in out
    assert evaluate("--compare", tmp_path / "a", tmp_path / "b" / "report.json", "--json") == 0
    assert json.loads(capfd.readouterr().out)["schema"] == "edgevand.comparison/1"
