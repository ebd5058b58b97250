"""The page of a report, as text, and as a browser shows it."""

from __future__ import annotations

import base64
import builtins
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from edgevand.errors import MissingDependencyError, OutputError
from edgevand_runtime.evaluation.html import render, write_html
from tests.real.browser import browser
from tests.runtime.evaluation.fake_report import CLASSES, NO_MASKS, fake_pictures, fake_report

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.browser import Browser

__all__ = ["browser"]  # a fixture

HOSTILE = "<script>alert(1)</script>\" onload='alert(2)' &amp; {{ 7 * 7 }}.png"


class Page(HTMLParser):
    """What a page consists of: its tags with their attributes, its text, and its tables row by row."""

    VOID = frozenset({"meta", "link", "br", "img", "col", "path", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.words: list[str] = []
        self.open: list[str] = []
        self._caption = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "caption":
            self._caption = ""
        elif tag == "tr":
            self.tables.setdefault(self._caption, []).append([])
        elif tag in {"td", "th"}:
            self.tables[self._caption][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if "caption" in self.open:
            self._caption += data
        elif ("td" in self.open or "th" in self.open) and "sup" not in self.open:
            row = self.tables[self._caption][-1]
            row[-1] = " ".join((row[-1] + " " + data).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def rows(self, caption: str) -> dict[str, list[str]]:
        """The rows of a table by their first cell."""
        return {row[0]: row[1:] for row in self.tables[caption]}

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render(fake_report(), fake_pictures()))


def altered(**changes: Any) -> Page:
    """The page of the report with some of its top-level fields replaced."""
    return Page(render({**fake_report(), **changes}, fake_pictures()))


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def test_every_tag_is_closed_and_every_id_is_there_once(page: Page) -> None:
    assert page.open == []
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    targets = {attributes["href"][1:] for attributes in page.all("a")}
    assert targets <= set(names)


def test_the_head_says_what_was_measured_on_what_and_with_which_bundle(page: Page) -> None:
    for words in (
        "ViT-L-14-336 on MVTec AD",
        "2026-11-24 11:20 UTC",
        "MVTec AD (/data/mvtec)",
        "3: bottle, cable, metal_nut",
        "90 normal, 189 anomalous, 1 unreadable",
        "sha256:" + "3f" * 32,
        "518 by 518 px",
        "AMD EPYC 7B13, 2 cores, onnxruntime 1.23 CPU",
        "Asked false-alarm rate 1 %",
    ):
        assert words in page.text


def test_a_table_gives_means_and_deviations_in_percent_by_shots(page: Page) -> None:
    report = fake_report()
    table = page.rows("Mean over classes, in percent")
    for entry in report["summary"]:
        if entry["class"] == "mean":
            words = "1 shot" if entry["shots"] == 1 else f"{entry['shots']} shots"
            auroc = entry["metrics"]["image_auroc"]
            assert table[words][0] == f"{percent(auroc['mean'])} ± {percent(auroc['std'])}"


def test_each_number_of_shots_has_a_table_of_all_classes(page: Page) -> None:
    table = page.rows("Classes with 4 shots, in percent")
    assert table["Class"] == [
        "AUROC",
        "AP",
        "F1-max",
        "F1 trivial",
        "AUROC",
        "AP",
        "F1-max",
        "PRO",
        "PRO released",
    ]
    assert set(table) >= {*CLASSES, "mean over classes"}
    assert table["bottle"][3] == percent(2 * 63 / (2 * 63 + 30))


def test_published_rows_stand_beside_the_measured_ones_and_are_marked(page: Page) -> None:
    means = page.rows("Mean over classes, in percent")
    assert means["APRIL-GAN, VAND 2023, published"][:5] == ["92.8 ± 0.2", "", "", "", "95.9 ± 0.0"]
    assert page.rows("Classes with 4 shots, in percent")["APRIL-GAN, VAND 2023, published"][0] == "94.2"
    assert "its 1- and 2-shot rows look swapped" in page.text


def test_a_published_row_without_a_number_of_shots_has_a_table_of_its_own() -> None:
    row = {"source": "USTC", "class": "bottle", "shots": None, "metrics": {"image_auroc": 0.665}}
    table = altered(published=[row]).rows("Published without a number of shots, in percent")
    assert table["bottle: USTC, published"][0] == "66.5"


def test_an_undefined_metric_is_a_dash_that_leads_to_its_reason(page: Page) -> None:
    assert page.rows("Classes with 4 shots, in percent")["metal_nut"][4] == "\N{EN DASH}"
    cells = [attributes for attributes in page.all("td") if attributes.get("title") == NO_MASKS]
    assert len(cells) == 4 * 5  # shots by pixel metrics
    assert NO_MASKS in page.text


def test_the_threshold_is_told_with_asked_and_real_rate(page: Page) -> None:
    rows = [row for row in fake_report()["rows"] if row["class"] == "bottle" and row["shots"] == 4]
    alarms = sum(row["calibration"]["false_alarms"] for row in rows)
    found = sum(row["calibration"]["detections"] for row in rows)
    cells = page.rows("Class by class, frames counted over seeds")["bottle 4 shots"]
    assert cells[0:2] == ["extrapolated", "1 %"]
    assert cells[2].startswith(percent(alarms / 90))
    assert cells[3] == f"{alarms / 90 / 0.01:.1f}"
    assert cells[4] == f"{alarms} of 90"
    assert cells[5].startswith(percent(found / 189))
    assert cells[6] == f"{found} of 189"


def test_shots_too_few_for_a_threshold_are_said_to_be(page: Page) -> None:
    table = page.rows("All classes: rates are means over classes, frames are counted over classes and seeds")
    assert table["1 shot"] == ["none", *["\N{EN DASH}"] * 6]
    assert "nothing was calibrated: too few enrolled frames for a threshold" in page.text


def test_thirds_of_time_are_shown_where_frames_have_an_order(page: Page) -> None:
    row = page.rows("Good frames in order of time, mean over seeds")["cable 4 shots"]
    assert len(row) == 6
    assert all(cell.endswith(" %") for cell in row[:3])
    without = altered(rows=[{**row, "ordered": None} for row in fake_report()["rows"]])
    assert "As time goes on" not in without.text


def test_each_class_has_curves_and_a_histogram_for_each_number_of_shots(page: Page) -> None:
    labels = [attributes["aria-label"] for attributes in page.all("svg") if attributes.get("role") == "img"]
    for name in CLASSES:
        assert f"{name}: ROC curves by number of shots" in labels
        assert (f"{name}: PRO curves by number of shots" in labels) == (name != "metal_nut")
        assert sum(label.startswith(f"{name}, ") for label in labels) == 4
    row = next(row for row in fake_report()["rows"] if row["class"] == "bottle" and row["shots"] == 4)
    verdict = row["calibration"]
    assert (
        f"Threshold 1.75: finds {verdict['detections']} of 63 anomalous frames, calls {verdict['false_alarms']} of 30 "
        "good ones anomalous."
    ) in page.text


def test_worst_mistakes_are_pictures_with_words_in_their_place(page: Page) -> None:
    pictures = fake_pictures()
    sources = [attributes["src"] for attributes in page.all("img")]
    assert [base64.b64decode(source.partition(",")[2]) for source in sources] == list(pictures.values())
    assert all(attributes["alt"] for attributes in page.all("img"))
    assert "4 shots, seed 0: raw score 0.71, threshold 1.75" in page.text
    assert "The picture was not kept." in page.text


def test_failures_are_told_with_their_sentence(page: Page) -> None:
    table = page.rows("Frames that could not be judged")
    assert table["cable/test/bent_wire/004.png"] == ["expected an image, found a file cut off; copy it again"]
    assert "Every frame was judged." in altered(failures=[]).text


def test_latency_is_told_by_class_and_shots(page: Page) -> None:
    table = page.rows("Milliseconds a frame: median / 95th percentile")
    assert table["cable"] == ["41.2 / 55.0", "42.2 / 56.0", "43.2 / 57.0", "45.2 / 59.0"]


def test_the_released_rule_is_labelled_offline_only_and_has_no_threshold_in_its_figures(page: Page) -> None:
    report = fake_report()
    released = altered(
        options={**report["options"], "score_rule": "released"},
        rows=[{**row, "histogram": {**row["histogram"], "threshold": None}} for row in report["rows"]],
    )
    assert "Offline only." not in page.text
    assert "Offline only." in released.text
    assert "Threshold on another scale: finds" in released.text
    assert page.all("circle") != []
    assert released.all("circle") == []


def test_nothing_is_loaded_from_outside_and_nothing_runs(page: Page) -> None:
    text = render(fake_report(), fake_pictures())
    assert not re.search(r"https?://|@import|url\(|<script|<iframe|javascript:", text)
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in {"src", "href", "srcset", "data", "action", "poster"}:
                assert value.startswith(("data:", "#")), (tag, name, value)
    policy = next(each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert "script-src" not in policy


def hostile(value: Any) -> Any:
    """The report with every text of it that comes from files and folders replaced by something hostile."""
    if isinstance(value, dict):
        fixed = {"kind", "created", "picture", "third", "score_rule", "layout"}
        return {
            name: each if name in fixed or (name == "class" and each == "mean") else hostile(each)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [hostile(each) for each in value]
    return f"{value} {HOSTILE}" if isinstance(value, str) else value


def test_names_and_sentences_cannot_become_markup() -> None:
    plain, attacked = Page(render(fake_report(), fake_pictures())), Page(render(hostile(fake_report()), {}))
    assert HOSTILE in attacked.text
    assert attacked.all("script") == []
    assert not any(name.startswith("on") for _, attributes in attacked.tags for name in attributes)
    assert [tag for tag, _ in attacked.tags if tag != "img"] == [tag if tag != "img" else "p" for tag, _ in plain.tags]


def test_a_name_that_is_no_unicode_is_written_all_the_same(tmp_path: Path) -> None:
    broken = {"image": "bottle/\udcff.png", "error": "cut off"}
    write_html(tmp_path / "report.html", {**fake_report(), "failures": [broken]}, {})
    assert "bottle/\\udcff.png" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_is_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_html(tmp_path / "absent" / "report.html", fake_report(), {})


def test_without_jinja2_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "jinja2":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"edgevand\[eval\]"):
        render(fake_report(), {})


def test_a_report_of_one_class_and_no_shots_has_a_page_without_gaps() -> None:
    report = fake_report()
    rows = [
        {**row, "curves": {"roc": None, "pro": None}, "histogram": None}
        for row in report["rows"]
        if row["class"] == "bottle" and row["shots"] == 0 and row["seed"] == 0
    ]
    summary = [
        {**entry, "metrics": {name: {"mean": None, "std": None, "n": 0} for name in entry["metrics"]}}
        for entry in report["summary"]
        if entry["class"] in {"bottle", "mean"} and entry["shots"] == 0
    ]
    small = altered(rows=rows, summary=summary, published=[], worst=[], failures=[])
    assert "Nothing was enrolled, so no threshold was chosen." in small.text
    assert "±" not in small.text
    assert small.rows("Mean over classes, in percent")["0 shots"] == ["\N{EN DASH}"] * 9


def test_metrics_of_loco_have_their_places() -> None:
    report = fake_report()
    names = [f"{kind}_{limit}" for limit in (0.01, 0.05) for kind in ("spro_structural", "spro_logical", "spro")]
    values = {name: {"mean": number / 10, "std": None, "n": 1} for number, name in enumerate(names, start=1)}
    summary = [{**entry, "metrics": {**entry["metrics"], **values}} for entry in report["summary"]]
    area = {"raw": 5.5, "normalised": 0.785, "mean": 0.78, "f1": {"1": 0.7, "8": 0.8}}
    loco = altered(summary=summary, aufc=area)
    assert loco.rows("Mean over classes, in percent")["Shots"][-1] == "sPRO 0.05"
    table = loco.rows("AU-sPRO up to each limit of the false-positive rate, mean over classes, in percent")
    assert table["4 shots"] == ["30.0", "60.0", "10.0", "40.0", "20.0", "50.0"]
    assert "0.785 normalised (at most 1)" in loco.text


def test_the_page_of_three_classes_stays_small() -> None:
    assert len(render(fake_report(), {})) < 200_000


@pytest.mark.real
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (400, False)])
def test_a_browser_shows_the_page_without_complaint_and_without_a_horizontal_bar(
    browser: Browser, tmp_path: Path, width: int, *, dark: bool
) -> None:
    write_html(tmp_path / "report.html", hostile(fake_report()), fake_pictures())
    address = (tmp_path / "report.html").as_uri()
    browser.open(address, width=width, dark=dark)
    assert browser.complaints == []
    assert browser.requests == [address]
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    headings = browser.evaluate("[...document.querySelectorAll('h2')].map(each => each.textContent)")
    assert headings == [
        "Results",
        "The threshold that enrolment chose",
        "Curves and scores, class by class",
        "Worst mistakes",
        "Latency",
        "Failures",
        "Terms and notes",
    ]
    auroc = next(entry for entry in fake_report()["summary"] if entry["class"] == "mean" and entry["shots"] == 4)
    number = percent(auroc["metrics"]["image_auroc"]["mean"])
    assert number in browser.evaluate("document.querySelector('table').innerText")
    loaded = "[...document.images].map(each => each.complete && each.naturalWidth > 0)"
    assert browser.evaluate(loaded) == [True] * 3
    paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(21, 24, 28)" if dark else "rgb(255, 255, 255)")
    browser.screenshot(tmp_path / "page.png")
    picture = cv2.imread(str(tmp_path / "page.png"))
    assert picture is not None
    assert picture.shape[1] == width
    assert (np.median(picture) > 128) != dark


@pytest.mark.real
def test_a_wide_table_scrolls_in_its_own_box_on_a_narrow_window(browser: Browser, tmp_path: Path) -> None:
    write_html(tmp_path / "report.html", fake_report(), {})
    browser.open((tmp_path / "report.html").as_uri(), width=400)
    boxes = browser.evaluate("[...document.querySelectorAll('.scroll')].map(e => [e.scrollWidth, e.clientWidth])")
    assert any(inner > outer for inner, outer in boxes)
    assert all(outer < 400 for _, outer in boxes)


@pytest.mark.real
def test_the_page_prints(browser: Browser, tmp_path: Path) -> None:
    write_html(tmp_path / "report.html", fake_report(), fake_pictures())
    browser.open((tmp_path / "report.html").as_uri())
    assert browser.pdf().startswith(b"%PDF")
