"""The comparison of methods: what is compared, what is measured, and what the page holds."""

from __future__ import annotations

import json
import math
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from edgevand.cli import main
from edgevand.errors import BadInputError, OutputError, UnavailableError, UsageError
from edgevand_runtime.comparison import CompareOptions, compare
from edgevand_runtime.comparison.candidates import find_candidates
from edgevand_runtime.comparison.frames import take_frames
from edgevand_runtime.comparison.measure import Runner, measure
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import open_engine
from edgevand_runtime.enroll import EnrolOptions, enroll
from edgevand_runtime.methods import METHODS
from edgevand_runtime.methods.choosing import seen_as
from edgevand_runtime.preprocess import load_image
from edgevand_runtime.sources import open_source
from edgevand_runtime.sources.base import new_frame
from tests.real.browser import browser
from tests.tiny import write_parts, write_tiny_bundle

if TYPE_CHECKING:
    from edgevand.bundle import Bundle
    from tests.real.browser import Browser

__all__ = ["browser"]  # a fixture

SHOTS = 5


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny", heads=True, objects=["object"])


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("parts")
    write_parts(folder / "good", "." * 9)
    write_parts(folder / "bad", "xx?x", start=50)
    return folder / "good", folder / "bad"


def options(parts: tuple[Path, Path], **fields: Any) -> CompareOptions:
    given = {"source": str(parts[0]), "anomalous": str(parts[1]), "shots": SHOTS, "runner": Runner(threads=1)}
    return CompareOptions(**{**given, **fields})


def test_the_first_good_frames_are_enrolled_and_the_later_ones_judged(parts: tuple[Path, Path]) -> None:
    frames = take_frames(str(parts[0]), str(parts[1]), SHOTS, 40)
    names = [Path(frame.source).name for frame in (*frames.enrolled, *frames.normal)]
    assert names == [f"{number:03d}.png" for number in range(9)]
    assert len(frames.enrolled) == SHOTS
    assert [Path(frame.source).name for frame in frames.anomalous] == [
        "000.png",
        "001.png",
        "003.png",
    ]  # one is garbage
    assert not frames.drawn
    assert len(take_frames(str(parts[0]), str(parts[1]), 2, 3).normal) == 3


def test_few_good_frames_are_shared_out_and_too_few_refused(parts: tuple[Path, Path], tmp_path: Path) -> None:
    told: list[str] = []
    frames = take_frames(str(parts[0]), str(parts[1]), 8, 40, told.append)
    assert (len(frames.enrolled), len(frames.normal)) == (6, 3)
    assert told == ["9 good frames: 6 are enrolled, and 3 judged"]
    write_parts(tmp_path / "few", "...")
    with pytest.raises(BadInputError, match=r"at least 4 different good frames in .*found 3"):
        take_frames(str(tmp_path / "few"), None, 8, 40)
    write_parts(tmp_path / "torn", "??")
    with pytest.raises(BadInputError, match=r"expected anomalous frames in .*found none that can be read"):
        take_frames(str(parts[0]), str(tmp_path / "torn"), SHOTS, 40)


def test_without_anomalous_frames_defects_are_drawn_onto_judged_ones_and_that_is_said(parts: tuple[Path, Path]) -> None:
    told: list[str] = []
    frames = take_frames(str(parts[0]), None, SHOTS, 40, told.append)
    assert frames.drawn
    assert len(frames.anomalous) == 3 * len(frames.normal)  # one of each kind
    for number, frame in enumerate(frames.anomalous):
        good = frames.normal[number // 3]
        assert frame.source == good.source
        changed = (frame.image != good.image).any(axis=2).mean()
        assert 0 < changed < 0.5
    assert any("defects are drawn" in line for line in told)


def test_a_method_is_measured_as_enrolling_and_scoring_by_hand_would(
    bundle: Bundle, parts: tuple[Path, Path], tmp_path: Path
) -> None:
    write_parts(tmp_path / "enrolled", "." * SHOTS)
    view = seen_as(bundle, "april-gan")
    with closing(open_engine(view, threads=1)) as engine, open_source(tmp_path / "enrolled") as source:
        bank = enroll(source, view, engine, tmp_path / "bank", EnrolOptions(shots=None)).bank
        detector = Detector(view, engine, bank)
        paths = [*sorted(parts[0].iterdir())[SHOTS:], *(parts[1] / f"00{number}.png" for number in (0, 1, 3))]
        results = [detector.detect([new_frame(load_image(path), 0, path.name)])[0] for path in paths]
    frames = take_frames(str(parts[0]), str(parts[1]), SHOTS, 40)
    (candidate,), _ = find_candidates([bundle], ["april-gan"])
    found = measure(candidate, frames, Runner(threads=1), shown=(0, 4))
    scores = [result.raw_score for result in results]
    assert [*found.scores[0], *found.scores[1]] == pytest.approx(scores)
    assert found.auroc == roc_auc_score([0] * 4 + [1] * 3, scores)
    assert found.found == np.mean([result.anomalous for result in results[4:]])
    assert found.false_alarms == np.mean([result.anomalous for result in results[:4]])
    usual = np.log(bank.record.calibration.scores)
    expected = (math.log(np.median(scores[4:])) - usual.mean()) / max(usual.std(ddof=1), 0.05)
    assert found.separation == pytest.approx(expected)
    assert 20e6 < found.memory_bytes < 4e9  # a Python process with ONNX Runtime
    assert found.bank_bytes == (bank.path / "features.safetensors").stat().st_size
    assert found.bundle_bytes == sum(
        path.stat().st_size for path in bundle.path.rglob("*") if path.name != "manifest.json"
    )
    assert set(found.pictures) == {0, 4}


def test_every_method_is_tried_on_every_bundle_that_is_ready_for_it(bundle: Bundle) -> None:
    candidates, left_out = find_candidates([bundle, bundle])
    ready = [name for name, kind in METHODS.items() if not kind.prepared]
    assert [one.label for one in candidates] == [f"{name} on tiny" for name in ready for _ in range(2)]
    assert {one.label for one in left_out} == set(METHODS) - set(ready)
    assert all(f"edgevand export --method {one.label}" in one.reason for one in left_out)


def test_a_method_is_named_with_options(bundle: Bundle) -> None:
    (one,), _ = find_candidates([bundle], ["april-gan:locality=2:smoothing=4"])
    assert one.label == "april-gan:locality=2:smoothing=4"
    assert (one.view.manifest.settings["locality"], one.view.manifest.settings["smoothing"]) == (2, 4)
    with pytest.raises(UsageError, match="expected a --bundle that is ready for ustc-loco"):
        find_candidates([bundle], ["ustc-loco"])
    with pytest.raises(UsageError, match="found 'april'"):
        find_candidates([bundle], ["april"])
    with pytest.raises(UsageError, match="found 'colour=red'"):
        find_candidates([bundle], ["april-gan:colour=red"])


def test_a_method_that_cannot_be_run_is_left_out_with_its_reason(
    bundle: Bundle, parts: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = METHODS["april-gan"]
    monkeypatch.setitem(METHODS, "wants-many", replace(kind, name="wants-many", least_frames=50))
    document = compare([bundle], options(parts, methods=("april-gan", "wants-many")))
    assert [one["label"] for one in document["methods"]] == ["april-gan"]
    (left,) = document["left_out"]
    assert left["label"] == "wants-many"
    assert "expected at least 50 independent frames" in left["reason"]
    with pytest.raises(UnavailableError, match="wants-many: expected at least 50"):
        compare([bundle], options(parts, methods=("wants-many",)))


def test_a_method_that_was_added_a_moment_ago_is_compared_like_the_others(
    bundle: Bundle, parts: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(METHODS):
        if name != "april-gan":
            monkeypatch.delitem(METHODS, name)
    monkeypatch.setitem(METHODS, "newcomer", replace(METHODS["april-gan"], name="newcomer"))
    first, second = compare([bundle], options(parts))["methods"]
    assert {first["method"], second["method"]} == {"april-gan", "newcomer"}
    assert first["auroc"] == second["auroc"]


@pytest.fixture(scope="module")
def report(bundle: Bundle, parts: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    hostile = folder / "<b onload='x'>&amp;"
    hostile.mkdir()
    for path in parts[0].iterdir():
        (hostile / path.name).write_bytes(path.read_bytes())
    methods = ("april-gan", "april-gan:smoothing=2")
    compare([bundle], options((hostile, parts[1]), methods=methods), folder / "out")
    return folder / "out"


def test_the_page_holds_every_method_s_picture_of_the_same_frames_and_loads_nothing(
    report: Path, browser: Browser
) -> None:
    document = json.loads((report / "comparison.json").read_text())
    assert document["schema"] == "edgevand.comparison/1"
    for dark, width in ((False, 1280), (True, 420)):
        browser.open((report / "comparison.html").as_uri(), width=width, dark=dark)
        assert browser.complaints == []
        assert len(browser.requests) == 1  # the page itself
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
    frames = browser.evaluate("document.querySelectorAll('.frames tbody tr').length")
    assert frames == 2 + 3
    assert browser.evaluate("document.querySelectorAll('.frames tbody td img').length") == 2 * frames
    assert browser.evaluate("[...document.images].every(image => image.naturalWidth === 400)")
    labels = browser.evaluate("[...document.querySelectorAll('.figures tbody th')].map(cell => cell.textContent)")
    assert labels == [one["label"] for one in document["methods"]]
    assert "<b onload='x'>&amp;" in browser.evaluate("document.querySelector('h1').textContent")
    assert document["recommended"]["sentence"] in browser.evaluate("document.querySelector('.advice').textContent")


def test_a_report_that_is_there_is_not_written_over(bundle: Bundle, parts: tuple[Path, Path], report: Path) -> None:
    with pytest.raises(OutputError, match="expected a new directory for the comparison"):
        compare([bundle], options(parts), report)


@pytest.mark.parametrize("field", ["shots", "frames"])
def test_numbers_out_of_range_are_named(parts: tuple[Path, Path], field: str) -> None:
    with pytest.raises(UsageError, match=f"expected --{field} of at least 1, found 0"):
        options(parts, **{field: 0})


def test_the_command_prints_a_table_or_one_document(
    bundle: Bundle, parts: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        "compare",
        "--bundle",
        str(bundle.path),
        "--source",
        str(parts[0]),
        "--method",
        "april-gan",
        "--threads",
        "1",
    ]
    assert main([*asked, "--anomalous", str(parts[1]), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["drawn"], document["frames"]) == (False, {"enrolled": 6, "normal": 3, "anomalous": 3})
    assert main([*asked, "-k", "5"]) == 0
    shown = capsys.readouterr()
    assert "5 frames enrolled; judged 4 good ones and 12 with drawn defects" in shown.out
    assert "april-gan" in shown.out
    assert "recommend" in shown.out.splitlines()[-1]
    assert "defects are drawn onto good ones" in shown.err
    assert main(["compare"]) == 2
    assert "expected --source URI with good frames" in capsys.readouterr().err
