"""The tables of metrics: means over classes, class by class, and what others published beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgevand_runtime.evaluation.page.tables import Cell, Notes, Row, Table
from edgevand_runtime.evaluation.page.words import percent, shots_words, spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["aufc_words", "class_table", "mean_table", "published", "spro_table", "summaries", "unstated_table"]

_GROUPS = {
    "Image": {
        "image_auroc": "AUROC",
        "image_ap": "AP",
        "image_f1_max": "F1-max",
        "image_f1_trivial": "F1 trivial",
        "image_auroc_structural": "AUROC structural",
        "image_auroc_logical": "AUROC logical",
        "image_auroc_kinds": "AUROC mean of both",
    },
    "Pixel": {
        "pixel_auroc": "AUROC",
        "pixel_ap": "AP",
        "pixel_f1_max": "F1-max",
        "pro": "PRO",
        "pro_released": "PRO released",
    },
}
_CAPITALS = {"spro": "sPRO", "pro": "PRO", "auroc": "AUROC", "ap": "AP", "f1": "F1", "vand": "VAND"}
_KNOWN = {name for labels in _GROUPS.values() for name in labels}
_SPRO = "spro_0.05"
"""The limit that papers report; the others have a table of their own."""

_NO_REASON = "undefined; the report gives no reason"


def mean_table(report: Mapping[str, Any], shots: Sequence[int], notes: Notes) -> Table:
    """Means over classes, a row for each number of shots."""
    names, labels, groups = _columns(report)
    rows: list[Row] = []
    for k in shots:
        for entry in summaries(report, "mean", k):
            rows.append(Row(shots_words(k), _metric_cells(report, entry, names, notes)))
            rows += _published_rows(report, "mean", k, names, notes)
    return Table("Mean over classes, in percent", "Shots", labels, tuple(rows), groups)


def class_table(report: Mapping[str, Any], classes: Sequence[str], k: int, notes: Notes) -> Table:
    """All classes at one number of shots, their mean at the end."""
    names, labels, groups = _columns(report)
    rows: list[Row] = []
    for name in [*classes, "mean"]:
        for entry in summaries(report, name, k):
            kind, label = ("mean", "mean over classes") if name == "mean" else ("measured", name)
            rows.append(Row(label, _metric_cells(report, entry, names, notes), kind))
            if name != "mean":  # peers' means stand in the table of means
                rows += _published_rows(report, name, k, names, notes)
    return Table(f"Classes with {shots_words(k)}, in percent", "Class", labels, tuple(rows), groups)


def spro_table(report: Mapping[str, Any], shots: Sequence[int], notes: Notes) -> Table | None:
    """MVTec LOCO's AU-sPRO at all limits of the false-positive rate; None where it was not computed."""
    met = [name for name in _met(report) if name.startswith("spro")]
    kinds = {"mean of the two": "spro_", "structural": "spro_structural_", "logical": "spro_logical_"}
    limits = list(dict.fromkeys(name.rpartition("_")[2] for name in met))
    rows = [
        Row(
            shots_words(k),
            _metric_cells(report, entry, [kind + limit for kind in kinds.values() for limit in limits], notes),
        )
        for k in shots
        for entry in summaries(report, "mean", k)
    ]
    caption = "AU-sPRO up to each limit of the false-positive rate, mean over classes, in percent"
    columns = tuple(f"{float(limit):g}" for limit in limits) * len(kinds)
    return Table(caption, "Shots", columns, tuple(rows), tuple((kind, len(limits)) for kind in kinds)) if met else None


def unstated_table(report: Mapping[str, Any], classes: Sequence[str], notes: Notes) -> Table | None:
    """Published rows whose source does not say how many shots; None without any."""
    names, labels, groups = _columns(report)
    rows = []
    for name in [*classes, "mean"]:
        label = "mean over classes" if name == "mean" else name
        rows += [
            Row(f"{label}: {row.label}", row.cells, row.kind, row.tag, row.note)
            for row in _published_rows(report, name, None, names, notes)
        ]
    caption = "Published without a number of shots, in percent"
    return Table(caption, "Class", labels, tuple(rows), groups) if rows else None


def aufc_words(report: Mapping[str, Any]) -> str | None:
    """The area under F1-max over shots, in words; None where the report has none."""
    area = report.get("aufc")
    if not area:
        return None
    points = ", ".join(f"{percent(value)} with {shots_words(int(k))}" for k, value in area["f1"].items())
    return (
        f"AUFC, the area under image F1-max over 1 to 8 shots: {area['raw']:.3f} raw (at most 7), "
        f"{area['normalised']:.3f} normalised (at most 1); plain mean {percent(area['mean'])} % of {points}."
    )


def summaries(report: Mapping[str, Any], name: str, k: int) -> list[Mapping[str, Any]]:
    """The summary of a class, or of "mean", at a number of shots: one, or none."""
    return [entry for entry in report["summary"] if entry["class"] == name and int(entry["shots"]) == k]


def published(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The published rows."""
    return list(report.get("published") or ())


def _met(report: Mapping[str, Any]) -> list[str]:
    """The metrics that occur."""
    return list(dict.fromkeys(name for entry in report["summary"] for name in entry["metrics"]))


def _columns(report: Mapping[str, Any]) -> tuple[list[str], tuple[str, ...], tuple[tuple[str, int], ...]]:
    """The metrics of the main tables, in the page's order, with their labels and groups."""
    met = [name for name in _met(report) if not name.startswith("spro") or name == _SPRO]
    names, labels, groups = [], [], []
    for group, known in {**_GROUPS, "Other": {}}.items():
        here = [name for name in known if name in met]
        here += [name for name in met if name not in _KNOWN and _group(name) == group]
        names += here
        labels += [known.get(name) or _label(name) for name in here]
        groups.append((group, len(here)))
    return names, tuple(labels), tuple(group for group in groups if group[1])


def _group(name: str) -> str:
    """Where a metric that the page does not know belongs, by its name."""
    if name.startswith("image_"):
        return "Image"
    return "Pixel" if name.startswith(("pixel_", "pro", "spro")) else "Other"


def _label(name: str) -> str:
    """A metric that the page does not know, by its own name: ``spro_0.05`` as ``sPRO 0.05``."""
    words = name.removeprefix("image_").removeprefix("pixel_").split("_")
    return " ".join(_CAPITALS.get(word, word) for word in words)


def _metric_cells(
    report: Mapping[str, Any], entry: Mapping[str, Any], names: Sequence[str], notes: Notes
) -> tuple[Cell, ...]:
    """The measured values of a row."""
    cells = []
    for name in names:
        value = entry["metrics"].get(name)
        if value is None or value["mean"] is None:
            cells.append(notes.dash(_reason(report, str(entry["class"]), int(entry["shots"]), name)))
        else:
            n = value["n"]
            title = f"mean ± standard deviation of {n}" if n and n > 1 and value["std"] is not None else ""
            cells.append(Cell(spread(value["mean"], value["std"], n), title))
    return tuple(cells)


def _reason(report: Mapping[str, Any], name: str, k: int, metric: str) -> str:
    """Why a metric is undefined: what the rows of the class say; for the mean, what the classes say."""
    for row in report["rows"]:
        if int(row["shots"]) == k and name in (row["class"], "mean"):
            reason = (row.get("undefined") or {}).get(metric)
            if reason:
                return str(reason) if name != "mean" else f"undefined for the classes: {reason}"
    return _NO_REASON


def _published_rows(
    report: Mapping[str, Any], name: str, k: int | None, names: Sequence[str], notes: Notes
) -> list[Row]:
    """The published rows that belong beside a measured one, each under the name of its source."""
    rows = []
    for entry in published(report):
        if entry["class"] == name and entry["shots"] == k and any(metric in entry["metrics"] for metric in names):
            spread = entry.get("std") or {}
            cells = tuple(_published_cell(entry["metrics"].get(metric), spread.get(metric)) for metric in names)
            note = entry.get("note")
            rows.append(
                Row(
                    str(entry["source"]), cells, "published", str(note or ""), notes.number(str(note)) if note else None
                )
            )
    return rows


def _published_cell(value: float | None, std: float | None) -> Cell:
    """A published fraction, with its deviation where that is printed, also where it is 0."""
    if value is None:
        return Cell("", "not published")
    return Cell(percent(value) if std is None else f"{percent(value)} ± {percent(std)}")
