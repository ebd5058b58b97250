"""What a report's page shows: texts and tables, made from the values of ``report.json``.

The page's template holds no arithmetic and the report no wording; this module is between the two. Rates become
percentages here, with one digit after the point. A value that is undefined becomes a dash that carries its reason, and
the reasons of a page are collected as its notes.
"""

from __future__ import annotations

from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from edgevand_runtime.evaluation.page.figures import class_figures, find_mistakes
from edgevand_runtime.evaluation.page.metrics import (
    aufc_words,
    class_table,
    mean_table,
    published,
    spro_table,
    summaries,
    unstated_table,
)
from edgevand_runtime.evaluation.page.tables import Cell, Notes, Row, Table
from edgevand_runtime.evaluation.page.threshold import calibration_tables, drift_table
from edgevand_runtime.evaluation.page.words import machine, moment, numbers, percent, percent_words, shots_words, spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["build_view"]


def build_view(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> dict[str, Any]:
    """Everything the template needs, by name.

    Args:
        report: parsed ``edgevand.report/1``.
        pictures: JPEG bytes by the identifier that ``report["worst"][…]["picture"]`` names.
    """
    notes = Notes()
    rows: list[Mapping[str, Any]] = list(report["rows"])
    shots = sorted({int(row["shots"]) for row in rows})
    classes = list(dict.fromkeys(str(row["class"]) for row in rows))
    seeds = sorted({int(row["seed"]) for row in rows})
    options = report["options"]
    released = options["score_rule"] == "released"
    return {
        "title": _title(report),
        "created": moment(str(report["created"])),
        "version": report["edgevand"],
        "facts": _facts(report, rows, classes),
        "key_figures": _key_figures(report, rows, shots),
        "released": released,
        "seeds": len(seeds),
        "ordered": bool(options.get("ordered")),
        "wanted": percent_words(options["false_alarm_rate"]),
        "mean_table": mean_table(report, shots, notes),
        "class_tables": [(k, class_table(report, classes, k, notes)) for k in shots],
        "spro_table": spro_table(report, shots, notes),
        "aufc": aufc_words(report),
        "unstated_table": unstated_table(report, classes, notes),
        "has_published": bool(published(report)),
        "calibration_tables": calibration_tables(rows, classes, shots, notes),
        "drift_table": drift_table(rows, classes),
        "class_figures": [class_figures(rows, name, points=not released) for name in classes],
        "misses": find_mistakes(report, pictures, "miss"),
        "false_alarms": find_mistakes(report, pictures, "false alarm"),
        "latency_table": _latency_table(rows, classes, shots, notes),
        "machine": machine(report["machine"]),
        "failures": list(report.get("failures", ())),
        "enrolled": [row for row in rows if row.get("enrolled")],
        "notes": notes.texts,
    }


def _title(report: Mapping[str, Any]) -> str:
    """What was measured with what, in a line."""
    dataset, bundle = report["dataset"], report["bundle"]
    return f"{bundle['model'] or bundle['name']} on {dataset['recognised'] or dataset['root']}"


def _facts(
    report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], classes: Sequence[str]
) -> list[tuple[str, str]]:
    """The head of the page: names and values."""
    dataset, bundle, options = report["dataset"], report["bundle"], report["options"]
    counts = {str(row["class"]): row["images"] for row in rows}
    normal = sum(int(each["normal"]) for each in counts.values())
    anomalous = sum(int(each["anomalous"]) for each in counts.values())
    unreadable = sum(int(each.get("unreadable") or 0) for each in counts.values())
    images = f"{normal} normal, {anomalous} anomalous" + (f", {unreadable} unreadable" if unreadable else "")
    ordered = bool(options.get("ordered"))
    known = dataset["recognised"]
    listed = ", ".join(classes)
    facts = [
        ("Dataset", f"{known} ({dataset['root']})" if known else f"{dataset['root']} (layout {dataset['layout']})"),
        ("Classes", listed if len(classes) == 1 else f"{len(classes)}: {listed}"),
        ("Test images", images),
        ("Bundle", ", ".join(_bundle_words(bundle))),
        ("Bundle's hash", str(bundle["hash"])),
        ("Shots", numbers(options["shots"])),
        ("Good frames", "the first in order of time" if ordered else f"drawn with seeds {numbers(options['seeds'])}"),
        ("Asked false-alarm rate", percent_words(options["false_alarm_rate"])),
        (
            "Image score",
            "released rule, offline only" if options["score_rule"] == "released" else "as score and monitor give it",
        ),
        ("Augmentation", numbers(options.get("augment") or ()) or "none"),
        ("Machine", machine(report["machine"])),
    ]
    named = {"object": "Object named in the text", "text": "Text embeddings"}
    return facts + [(label, str(options[name])) for name, label in named.items() if options.get(name)]


def _bundle_words(bundle: Mapping[str, Any]) -> list[str]:
    """Name, model, image size and precision, as far as the report has them."""
    size = bundle.get("image")
    words = [bundle["name"], bundle["model"], f"{size[1]} by {size[0]} px" if size else None, bundle["precision"]]
    return [str(word) for word in dict.fromkeys(words) if word]


def _key_figures(
    report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], shots: Sequence[int]
) -> list[tuple[str, str, str]]:
    """The few figures that stand in the head: value, name, remark; all of the largest number of shots."""
    if not shots:
        return []
    k = shots[-1]
    (entry,) = summaries(report, "mean", k)[:1] or [{"metrics": {}}]
    found = []
    for name, label in (("image_auroc", "image AUROC"), ("pixel_auroc", "pixel AUROC"), ("pro", "PRO")):
        value = entry["metrics"].get(name)
        if value and value["mean"] is not None:
            found.append(
                (spread(value["mean"], value["std"], value["n"]), label, f"{shots_words(k)}, mean over classes")
            )
    chosen = [row["calibration"] for row in rows if int(row["shots"]) == k]
    alarms, hits = _over_classes(rows, k, "false_alarm_rate"), _over_classes(rows, k, "detection_rate")
    if alarms is not None:
        asked = next((each["wanted"] for each in chosen if each and each["wanted"] is not None), None)
        found.append((f"{percent(alarms)} %", "of good frames called anomalous", f"asked for: {percent_words(asked)}"))
    if hits is not None:
        found.append((f"{percent(hits)} %", "of anomalous frames found", "at the threshold of enrolment"))
    return found


def _over_classes(rows: Iterable[Mapping[str, Any]], k: int, rate: str) -> float | None:
    """The mean over classes of the mean over seeds of a rate of the calibration."""
    of_class: dict[str, list[float]] = {}
    for row in rows:
        value = (row.get("calibration") or {}).get(rate)
        if int(row["shots"]) == k and value is not None:
            of_class.setdefault(str(row["class"]), []).append(float(value))
    return fmean(fmean(values) for values in of_class.values()) if of_class else None


def _latency_table(
    rows: Sequence[Mapping[str, Any]], classes: Sequence[str], shots: Sequence[int], notes: Notes
) -> Table | None:
    """Median and 95th percentile for each class and number of shots: median over seeds of each."""
    if not any(row.get("latency_ms") for row in rows):
        return None
    found = []
    for name in classes:
        cells = []
        for k in shots:
            times = [
                row["latency_ms"]
                for row in rows
                if row["class"] == name and int(row["shots"]) == k and row.get("latency_ms")
            ]
            halves = [each["p50"] for each in times if each["p50"] is not None]
            tails = [each["p95"] for each in times if each["p95"] is not None]
            known = halves and tails
            cells.append(
                Cell(f"{median(halves):.1f} / {median(tails):.1f}") if known else notes.dash("no frame was timed")
            )
        found.append(Row(name, tuple(cells)))
    caption = "Milliseconds a frame: median / 95th percentile"
    return Table(caption, "Class", tuple(shots_words(k) for k in shots), tuple(found))
