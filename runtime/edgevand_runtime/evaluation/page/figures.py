"""The figures of each class, and its worst mistakes as pictures."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand_runtime.evaluation.page.geometry import Chart, Histogram, draw_curves, draw_histogram
from edgevand_runtime.evaluation.page.threshold import seed_rate
from edgevand_runtime.evaluation.page.words import shots_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["ClassFigures", "Mistake", "Scores", "class_figures", "find_mistakes"]


@dataclass(frozen=True, slots=True)
class Scores:
    """The histogram of one class and number of shots, and what its threshold would have caught, in words."""

    name: str
    histogram: Histogram | None
    verdict: str


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """The figures of one class."""

    name: str
    roc: Chart | None
    pro: Chart | None
    scores: tuple[Scores, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One of the worst misses or false alarms; ``source`` is its picture as a data address, None without one."""

    kind: str
    class_name: str
    image: str
    detail: str
    source: str | None


def class_figures(rows: Sequence[Mapping[str, Any]], name: str, *, points: bool) -> ClassFigures:
    """Curves of a class, averaged over seeds, with or without the threshold's points; histograms of its first seed."""
    members = [row for row in rows if row["class"] == name]
    shots = sorted({int(row["shots"]) for row in members})
    of_shots = {k: [row for row in members if int(row["shots"]) == k] for k in shots}
    marked = {}
    for k in shots if points else ():
        alarms, hits = seed_rate(of_shots[k], "false_alarm_rate"), seed_rate(of_shots[k], "detection_rate")
        if alarms and hits:
            marked[shots_words(k)] = alarms[0], hits[0]
    return ClassFigures(
        name=name,
        roc=draw_curves({shots_words(k): _curves(of_shots[k], "roc") for k in shots}, points=marked),
        pro=draw_curves({shots_words(k): _curves(of_shots[k], "pro") for k in shots}, limit=0.3),
        scores=tuple(_scores(min(of_shots[k], key=lambda row: int(row["seed"]))) for k in shots),
    )


def find_mistakes(report: Mapping[str, Any], pictures: Mapping[str, bytes], kind: str) -> list[Mistake]:
    """The worst frames of a kind, in the report's order."""
    found = []
    for entry in report.get("worst") or ():
        if entry["kind"] != kind:
            continue
        threshold = entry["threshold"]
        detail = f"{shots_words(int(entry['shots']))}, seed {entry['seed']}: raw score {entry['score']:.3g}"
        detail += f", threshold {threshold:.3g}" if threshold is not None else ", no threshold"
        jpeg = pictures.get(entry["picture"]) if entry["picture"] else None
        source = None if jpeg is None else "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
        found.append(Mistake(kind, str(entry["class"]), str(entry["image"]), detail, source))
    return found


def _curves(rows: Iterable[Mapping[str, Any]], kind: str) -> list[Any]:
    """The curves of a kind that these rows have."""
    curves = [(row.get("curves") or {}).get(kind) for row in rows]
    return [(np.asarray(curve[0], np.float64), np.asarray(curve[1], np.float64)) for curve in curves if curve]


def _scores(row: Mapping[str, Any]) -> Scores:
    """A row's histogram and verdict."""
    histogram, calibration = row.get("histogram") or {}, row.get("calibration") or {}
    threshold = histogram.get("threshold")
    drawn = None
    if histogram:
        drawn = draw_histogram(histogram["edges"], histogram["normal"], histogram["anomalous"], threshold)
    if calibration.get("threshold") is None:
        verdict = "No threshold was calibrated." if int(row["shots"]) else "Without good frames there is no threshold."
    else:
        where = "on another scale" if threshold is None else f"{threshold:.3g}"
        verdict = (
            f"Threshold {where}: finds {_part(calibration, 'detections', 'anomalies')} anomalous frames, "
            f"calls {_part(calibration, 'false_alarms', 'normals')} good ones anomalous."
        )
    return Scores(shots_words(int(row["shots"])), drawn, verdict)


def _part(calibration: Mapping[str, Any], part: str, whole: str) -> str:
    """``38 of 40``."""
    return f"{calibration[part] or 0} of {calibration[whole] or 0}"
