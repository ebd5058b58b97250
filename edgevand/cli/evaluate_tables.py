"""The tables that ``edgevand evaluate`` prints: percent, mean ± standard deviation over the seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console
    from rich.table import Table

__all__ = ["print_comparison", "print_report"]

_NAMES = {
    "image_auroc": "image\nAUROC",
    "image_ap": "\nAP",
    "image_f1_max": "\nF1-max",
    "image_f1_trivial": "trivial\nF1",
    "image_auroc_structural": "AUROC\nstruct.",
    "image_auroc_logical": "AUROC\nlogical",
    "pixel_auroc": "pixel\nAUROC",
    "pixel_ap": "\nAP",
    "pixel_f1_max": "\nF1-max",
    "pro": "\nPRO",
    "pro_released": "PRO\nreleased",
    "spro_0.05": "sPRO\n0.05",
    "vand_score": "VAND\nscore",
}
_LESS_IMPORTANT = (
    "vand_score",
    "pro_released",
    "image_f1_trivial",
    "image_ap",
    "pixel_ap",
    "image_auroc_structural",
    "image_auroc_logical",
    "image_f1_max",
)
"""Columns in the order in which a narrow terminal does without them."""

_WIDE = 400
_REASONS_SHOWN = 4
_PLACES_SHOWN = 3


def print_report(report: Mapping[str, Any]) -> None:
    """Metrics, then what is undefined and why, then what the enrolled threshold did."""
    console = _console()
    table, left_out = _fitting(report, console)
    console.print(table)
    if left_out:
        console.print(f"left out for want of width: {', '.join(left_out)}; report.csv has them", markup=False)
    for line in _remarks(report):
        console.print(line, markup=False)
    calibrated = [entry for entry in report["summary"] if entry["calibration"]["normals"] is not None]
    if calibrated:
        console.print()
        console.print(_calibration_table(calibrated))
    if any(row["ordered"] for row in report["rows"]):
        console.print(_drift_table(report["rows"]))


def print_comparison(comparison: Mapping[str, Any]) -> None:
    """One line for each metric and number of shots."""
    table = _table("B - A in percent points, 95 % intervals of a paired bootstrap")
    for name in ("shots", "metric"):
        table.add_column(name)
    for name in ("A", "B", "B - A", "over rows", "rows", "over images", "images"):
        table.add_column(name, justify="right")
    for entry in comparison["differences"]:
        table.add_row(
            "all" if entry["shots"] is None else str(entry["shots"]),
            entry["metric"],
            _percent(entry["a"]),
            _percent(entry["b"]),
            f"{100 * entry['difference']:+.2f}",
            _interval(entry["interval_rows"]),
            str(entry["rows"]),
            _interval(entry["interval_images"]),
            str(entry["images"] or ""),
        )
    console = _console()
    console.print(table)
    for name in ("only_a", "only_b"):
        if comparison[name]:
            which = name[-1].upper()
            console.print(f"{len(comparison[name])} rows are only in {which} and were left out", markup=False)


def _console() -> Console:
    """A console; a pipe or a file is as wide as a table needs."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDE)


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")


def _fitting(report: Mapping[str, Any], console: Console) -> tuple[Table, list[str]]:
    """The table of metrics with as many columns as fit, and the names of those that do not."""
    from rich.console import Console

    left_out: list[str] = []
    while True:
        table = _metrics_table(report, left_out)
        wide = Console(width=_WIDE).measure(table).maximum
        if wide <= console.width or len(left_out) == len(_LESS_IMPORTANT):
            return table, left_out
        left_out.append(_LESS_IMPORTANT[len(left_out)])


def _metrics_table(report: Mapping[str, Any], left_out: Sequence[str]) -> Table:
    """Summaries, with published rows below the measured one of the same class and shots."""
    entries = report["summary"]
    several = len({entry["class"] for entry in entries}) > 2  # noqa: PLR2004 (one class and the mean)
    shown = [entry for entry in entries if several or entry["class"] != "mean"]
    known = [name for name in _NAMES if name not in left_out]
    names = [name for name in known if any((entry["metrics"].get(name) or {}).get("n") for entry in shown)]
    rule = ", score rule released: offline only" if report["options"]["score_rule"] == "released" else ""
    table = _table(f"{report['bundle']['model']} on {report['dataset']['root']}, percent{rule}")
    table.add_column("\nclass", no_wrap=True)
    table.add_column("\nshots", justify="right")
    for name in names:
        table.add_column(_NAMES[name], justify="right", no_wrap=True)
    for position, entry in enumerate(shown):
        last = position + 1 == len(shown) or shown[position + 1]["class"] != entry["class"]
        published = [
            row
            for row in report["published"]
            if row["class"] == entry["class"]
            and (row["shots"] == entry["shots"] or (last and row["shots"] is None))
            and set(names) & set(row["metrics"])
        ]
        table.add_row(
            entry["class"],
            str(entry["shots"]),
            *(_spread(entry["metrics"].get(name)) for name in names),
            end_section=last and not published,
        )
        for place, row in enumerate(published):
            values = [row["metrics"].get(name) for name in names]
            table.add_row(
                f"  published: {row['source'].partition(' (')[0]}",
                str(entry["shots"]) if row["shots"] is not None else "?",
                *("" if value is None else _percent(value) for value in values),
                style="dim",
                end_section=last and place + 1 == len(published),
            )
    return table


def _calibration_table(entries: Sequence[Mapping[str, Any]]) -> Table:
    """What the threshold of enrolment did: good pictures called anomalous, and anomalous ones found."""
    several = len({entry["class"] for entry in entries}) > 2  # noqa: PLR2004 (one class and the mean)
    table = _table("The enrolled threshold, percent of the test pictures")
    for name in ("class", "shots", "alarms\nasked", "false\nalarms", "", "anomalies\nfound", ""):
        table.add_column(name, justify="left" if name == "class" else "right")
    for entry in entries:
        if not several and entry["class"] == "mean":
            continue
        figures = entry["calibration"]
        table.add_row(
            entry["class"],
            str(entry["shots"]),
            _percent(figures["wanted"]),
            _spread(figures["false_alarm_rate"]),
            f"{figures['false_alarms']} of {figures['normals']}",
            _spread(figures["detection_rate"]),
            f"{figures['detections']} of {figures['anomalies']}",
        )
    return table


def _drift_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """False alarms and scores by thirds of the sequence."""
    table = _table("Normal pictures in order of time, by thirds: false alarms in percent, median raw score")
    for name in ("class", "shots", "alarms\nfirst", "\nmiddle", "\nlast", "score\nfirst", "\nmiddle", "\nlast"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for row in rows:
        if row["ordered"]:
            alarms = [
                "-" if part["false_alarm_rate"] is None else _percent(part["false_alarm_rate"])
                for part in row["ordered"]
            ]
            scores = ["-" if part["median_score"] is None else f"{part['median_score']:.3g}" for part in row["ordered"]]
            table.add_row(row["class"], str(row["shots"]), *alarms, *scores)
    return table


def _remarks(report: Mapping[str, Any]) -> list[str]:
    """What the table cannot say."""
    found = []
    if report["aufc"]:
        area = report["aufc"]
        found.append(
            f"AUFC over 1, 2, 4, 8 shots: {area['normalised']:.4f} (raw {area['raw']:.4f}, mean {area['mean']:.4f})"
        )
    reasons: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for row in report["rows"]:
        for name, reason in row["undefined"].items():
            if name in _NAMES and name != "vand_score":
                names, where = reasons.setdefault(reason, ({}, {}))
                names[name] = where[row["class"]] = None
    for reason, (names, where) in list(reasons.items())[:_REASONS_SHOWN]:
        place = ", ".join(where) if len(where) <= _PLACES_SHOWN else f"{len(where)} classes"
        found.append(f"undefined: {', '.join(names)}: {reason.rstrip('.')} ({place})")
    if len(reasons) > _REASONS_SHOWN:
        found.append("and more undefined figures; report.json has every reason")
    return found


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _spread(figure: Mapping[str, Any] | None) -> str:
    """``95.1 ± 0.2``; a dash where undefined."""
    if not figure or figure["mean"] is None:
        return "-"
    return _percent(figure["mean"]) + (f" ± {_percent(figure['std'])}" if figure["std"] is not None else "")


def _interval(pair: Sequence[float] | None) -> str:
    return "" if pair is None else f"{100 * pair[0]:+.2f} … {100 * pair[1]:+.2f}"
