"""What the thresholds of enrolment really did: false alarms and detections, and how they change with time."""

from __future__ import annotations

from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from edgevand_runtime.evaluation.page.tables import Cell, Notes, Row, Table
from edgevand_runtime.evaluation.page.words import DASH, numbers, percent, percent_words, shots_words, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["calibration_tables", "drift_table", "seed_rate"]

_KINDS = {"conformal": "rank of the enrolled scores", "extrapolated": "extrapolated", "manual": "set by hand"}
_NEVER_CALIBRATED = "nothing was calibrated: too few enrolled frames for a threshold"


def calibration_tables(
    rows: Sequence[Mapping[str, Any]], classes: Sequence[str], shots: Sequence[int], notes: Notes
) -> list[Table]:
    """What the thresholds really did: over all classes by shots, then class by class."""
    columns = ("kind", "asked", "false alarms", "times the asked", "frames", "found", "frames")
    groups = (("Threshold", 2), ("Good frames", 3), ("Anomalous frames", 2))
    total = [
        Row(shots_words(k), _calibration_cells([row for row in rows if int(row["shots"]) == k], notes))
        for k in shots
        if k
    ]
    single = [
        Row(name, _calibration_cells(members, notes), tag=shots_words(k))
        for name in classes
        for k in shots
        if calibrated(members := [row for row in rows if row["class"] == name and int(row["shots"]) == k])
    ]
    tables = [
        Table(
            "All classes: rates are means over classes, frames are counted over classes and seeds",
            "Shots",
            columns,
            tuple(total),
            groups,
        )
    ]
    if len(classes) > 1:
        tables.append(Table("Class by class, frames counted over seeds", "Class", columns, tuple(single), groups))
    return [table for table in tables if table.rows]


def drift_table(rows: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> Table | None:
    """False alarms in the first, middle and last third of the good frames in order of time; None without an order."""
    thirds = ("first", "middle", "last")
    found = []
    for name in classes:
        for k in sorted({int(row["shots"]) for row in rows}):
            members = [
                row["ordered"] for row in rows if row["class"] == name and row["shots"] == k and row.get("ordered")
            ]
            if not members:
                continue
            parts = [[entry for each in members for entry in each if entry["third"] == third] for third in thirds]
            rates = [_mean_of(part, "false_alarm_rate", lambda value: f"{percent(value)} %") for part in parts]
            scores = [_mean_of(part, "median_score", lambda value: f"{value:.3g}") for part in parts]
            found.append(Row(name, (*rates, *scores), tag=shots_words(k)))
    if not found:
        return None
    columns = tuple(f"{third} third" for third in thirds) * 2
    groups = (("False alarms", 3), ("Median raw score", 3))
    return Table("Good frames in order of time, mean over seeds", "Class", columns, tuple(found), groups)


def seed_rate(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[float, float | None] | None:
    """Mean over classes for each seed, then mean and standard deviation over seeds (None of one seed)."""
    of_seed: dict[int, list[float]] = {}
    for row in rows:
        value = (row.get("calibration") or {}).get(name)
        if value is not None:
            of_seed.setdefault(int(row["seed"]), []).append(float(value))
    means = [fmean(values) for values in of_seed.values()]
    if not means:
        return None
    return fmean(means), stdev(means) if len(means) > 1 else None


def calibrated(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The calibrations that these rows have."""
    return [each for row in rows if (each := row.get("calibration")) and each["threshold"] is not None]


def _calibration_cells(rows: Sequence[Mapping[str, Any]], notes: Notes) -> tuple[Cell, ...]:
    """Of the rows of one number of shots: kind, asked rate, real rate, their ratio, counts; the same of detections."""
    known = calibrated(rows)
    if not known:
        dash = notes.dash(_NEVER_CALIBRATED)
        return (Cell("none"), *[dash] * 6)
    kinds = " / ".join(dict.fromkeys(_KINDS.get(str(each["kind"]), str(each["kind"])) for each in known))
    frames = sorted({int(each["n"]) for each in known if each["n"] is not None})
    wanted = next((each["wanted"] for each in known if each["wanted"] is not None), None)
    alarms, hits = seed_rate(rows, "false_alarm_rate"), seed_rate(rows, "detection_rate")
    alarm_counts = _count(known, "false_alarms"), _count(known, "normals")
    hit_counts = _count(known, "detections"), _count(known, "anomalies")
    ratio = f"{alarms[0] / wanted:.1f}" if alarms and wanted else DASH
    return (
        Cell(kinds, f"from {numbers(frames)} scores of enrolled frames"),
        Cell(percent_words(wanted)),
        notes.dash("there are no good frames in the test") if alarms is None else Cell(_of(alarms)),
        Cell(ratio),
        Cell(f"{alarm_counts[0]} of {alarm_counts[1]}"),
        notes.dash("there are no anomalous frames in the test") if hits is None else Cell(_of(hits)),
        Cell(f"{hit_counts[0]} of {hit_counts[1]}"),
    )


def _of(rate: tuple[float, float | None]) -> str:
    """A rate with its spread over seeds, in percent."""
    return f"{spread(rate[0], rate[1], 2)} %"


def _count(known: Iterable[Mapping[str, Any]], name: str) -> int:
    return sum(int(each[name] or 0) for each in known)


def _mean_of(entries: Sequence[Mapping[str, Any]], name: str, write: Callable[[float], str]) -> Cell:
    """The mean of a field over the entries that have it."""
    values = [float(entry[name]) for entry in entries if entry[name] is not None]
    return Cell(write(fmean(values)) if values else DASH)
