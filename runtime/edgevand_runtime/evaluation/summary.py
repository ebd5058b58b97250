"""Means and deviations over seeds, for each class and over the classes; AUFC.

Of a class: mean and sample standard deviation over its seeds. ``mean``: first the mean over the classes of each seed,
then mean and deviation of these over the seeds, as papers print it; a zero-shot row, which has no seed of its own,
stands alone. A metric that is undefined for a class is left out of the mean; ``n`` counts the seeds, ``classes`` the
classes that had a figure.
"""

from __future__ import annotations

from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from edgevand_runtime.metrics import aufc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["summarise", "summarise_aufc"]

_RATES = ("false_alarm_rate", "detection_rate")
_COUNTS = ("false_alarms", "normals", "detections", "anomalies")
_AUFC_SHOTS = (1, 2, 4, 8)


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The report's ``summary``: an entry for each class and number of shots, then those of ``mean``."""
    classes = list(dict.fromkeys(row["class"] for row in rows))
    shots = list(dict.fromkeys(row["shots"] for row in rows))
    entries = []
    for name in [*classes, "mean"]:
        for count in shots:
            members = [row for row in rows if row["shots"] == count and name in {row["class"], "mean"}]
            if members:
                entries.append(_entry(name, count, members))
    return entries


def summarise_aufc(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any] | None, str]:
    """Area under image F1-max over 1, 2, 4 and 8 shots (VAND, few-shot).

    Returns:
        The figures with an empty reason, or None and why there are none.
    """
    shots = {row["shots"] for row in rows}
    if not shots.issuperset(_AUFC_SHOTS):
        return None, "needs --shots with 1, 2, 4 and 8"
    found: dict[int, float] = {}
    for count in _AUFC_SHOTS:
        of_class: dict[str, list[float]] = {}
        for row in rows:
            if row["shots"] == count and row["metrics"]["image_f1_max"] is not None:
                of_class.setdefault(row["class"], []).append(row["metrics"]["image_f1_max"])
        if not of_class:
            return None, f"image F1-max is undefined with {count} shots"
        found[count] = fmean(fmean(values) for values in of_class.values())
    area = aufc(found)
    if area.raw is None:
        return None, "image F1-max is undefined"
    figures = {"raw": area.raw, "normalised": area.normalised, "mean": area.mean}
    return {**figures, "f1": {str(count): value for count, value in found.items()}}, ""


def _entry(name: str, shots: int, members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One class, or the mean of all, at one number of shots."""
    metrics = list(dict.fromkeys(metric for row in members for metric in row["metrics"]))
    calibration: dict[str, Any] = {
        rate: _spread([(row, row["calibration"][rate]) for row in members]) for rate in _RATES
    }
    judged = [row["calibration"] for row in members if row["calibration"]["threshold"] is not None]
    counts = {count: sum(each[count] or 0 for each in judged) if judged else None for count in _COUNTS}
    return {
        "class": name,
        "shots": shots,
        "metrics": {metric: _spread([(row, row["metrics"].get(metric)) for row in members]) for metric in metrics},
        "calibration": {"wanted": members[0]["calibration"]["wanted"], **calibration, **counts},
        "latency_ms": {part: _median(row["latency_ms"][part] for row in members) for part in ("p50", "p95")},
    }


def _spread(members: Iterable[tuple[Mapping[str, Any], float | None]]) -> dict[str, Any]:
    """Mean over classes for each seed, then mean, sample deviation and number over the seeds; of rows with a value."""
    of_seed: dict[int, list[float]] = {}
    classes = set()
    for row, value in members:
        if value is not None:
            of_seed.setdefault(row["seed"], []).append(value)
            classes.add(row["class"])
    means = [fmean(values) for values in of_seed.values()]
    return {
        "mean": fmean(means) if means else None,
        "std": stdev(means) if len(means) > 1 else None,
        "n": len(means),
        "classes": len(classes),
    }


def _median(values: Iterable[float | None]) -> float | None:
    known = sorted(value for value in values if value is not None)
    return known[len(known) // 2] if known else None
