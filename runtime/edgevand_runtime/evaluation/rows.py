"""From a judged case to a row of the report: metrics, what the threshold did, curves, histogram, every score."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand_runtime.evaluation.draws import time_order
from edgevand_runtime.evaluation.loco import loco_image_metrics, loco_pixel_metrics
from edgevand_runtime.evaluation.scores import image_scores
from edgevand_runtime.metrics import harmonic_mean, image_metrics, rank_pixels, roc_curve
from edgevand_runtime.metrics.pixels import PIXEL_NAMES, PRO_LIMIT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.datasets import DatasetClass
    from edgevand_runtime.evaluation.judging import Judged
    from edgevand_runtime.evaluation.options import EvaluateOptions
    from edgevand_runtime.metrics import Figures

__all__ = ["IMAGE_METRICS", "PIXEL_METRICS", "make_row"]

IMAGE_METRICS = ("image_auroc", "image_ap", "image_f1_max", "image_f1_trivial")
PIXEL_METRICS = PIXEL_NAMES

_BINS = 40
_THIRDS = ("first", "middle", "last")


@dataclass(slots=True)
class _Metrics:
    """Metrics of a row and, for each that is undefined, why."""

    values: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, figures: Figures) -> None:
        """Take over what was computed."""
        for name, value in figures.values.items():
            self.put(name, value, figures.reasons.get(name, "undefined"))

    def undefined(self, names: Sequence[str], reason: str) -> None:
        """All of these are undefined for one reason."""
        for name in names:
            self.put(name, None, reason)

    def put(self, name: str, value: float | None, reason: str) -> None:
        """One metric; a number that is not finite is undefined."""
        finite = value is not None and math.isfinite(value)
        self.values[name] = float(value) if finite and value is not None else None
        if not finite:
            self.reasons[name] = reason


def make_row(
    dataset_class: DatasetClass, judged: Judged, options: EvaluateOptions, unreadable: int, *, loco: bool
) -> dict[str, Any]:
    """One row of ``edgevand.report/1`` (docs/evaluate.md).

    Args:
        dataset_class: what was judged.
        judged: by which case, and what it said.
        options: of the evaluation.
        unreadable: test pictures of the class that could not be read.
        loco: whether the layout is LOCO's, which asks for further metrics.
    """
    case, pictures, results = judged.case, judged.pictures, judged.results
    anomalous = np.array([picture.sample.anomalous for picture in pictures], bool)
    scores, why = image_scores(results, options.score_rule) if case.detector is not None else (None, case.reason)
    metrics = _Metrics()
    _image(metrics, judged, anomalous, scores, why, loco=loco)
    curves: dict[str, Any] = {"roc": None, "pro": None}
    if scores is not None:
        curves["roc"] = _points(roc_curve(anomalous, scores))
    curves["pro"] = _pixel(metrics, dataset_class, judged, loco=loco)
    image_f1, pixel_f1 = metrics.values["image_f1_max"], metrics.values["pixel_f1_max"]
    reason = "needs image F1-max and pixel F1-max"
    metrics.put("vand_score", harmonic_mean(image_f1, pixel_f1) if None not in {image_f1, pixel_f1} else None, reason)
    calibration = _calibration(judged, anomalous, options)
    return {
        "class": dataset_class.name,
        "object": case.object_name,
        "shots": case.shots,
        "seed": case.seed,
        "enrolled": [sample.name for sample in case.enrolled],
        "decided": list(case.decided),
        "images": {**_counts(dataset_class, judged), "unreadable": unreadable},
        "metrics": metrics.values,
        "undefined": metrics.reasons,
        "latency_ms": _latency(judged),
        "calibration": calibration,
        "ordered": _thirds(judged) if options.ordered and case.detector is not None else None,
        "curves": curves,
        "histogram": _histogram(
            scores, anomalous, calibration["threshold"] if options.score_rule == "max" or case.shots == 0 else None
        ),
        "scores": _every_score(judged, scores),
    }


def _counts(dataset_class: DatasetClass, judged: Judged) -> dict[str, int]:
    """Normal and anomalous pictures that were judged; of a row that could not judge, those that were there."""
    samples = [picture.sample for picture in judged.pictures] if judged.case.detector else dataset_class.test
    anomalous = sum(sample.anomalous for sample in samples)
    return {"normal": len(samples) - anomalous, "anomalous": anomalous}


def _image(
    metrics: _Metrics,
    judged: Judged,
    anomalous: NDArray[np.bool_],
    scores: NDArray[np.float64] | None,
    why: str,
    *,
    loco: bool,
) -> None:
    """Metrics of one score for each picture."""
    if scores is None:
        metrics.undefined(IMAGE_METRICS, why)
    else:
        metrics.add(image_metrics(anomalous, scores))
    if loco:
        metrics.add(loco_image_metrics([picture.sample.kind for picture in judged.pictures], scores, why))


def _pixel(metrics: _Metrics, dataset_class: DatasetClass, judged: Judged, *, loco: bool) -> list[list[float]] | None:
    """Metrics of the maps; gives the PRO curve."""
    reason = _why_no_pixels(dataset_class, judged)
    curve = None
    if reason or judged.maps is None:
        metrics.undefined(PIXEL_METRICS, reason)
    else:
        ranking = rank_pixels([picture.mask for picture in judged.pictures], judged.maps)
        metrics.add(ranking.figures())
        curve = _points(ranking.pro_curve(limit=PRO_LIMIT))
    if loco:
        metrics.add(loco_pixel_metrics(judged.pictures, judged.maps, dataset_class.defects, reason))
    return curve


def _why_no_pixels(dataset_class: DatasetClass, judged: Judged) -> str:
    """Why there are no pixel metrics; empty where they can be computed."""
    if judged.case.detector is None:
        return judged.case.reason
    if not judged.pictures:
        return "no picture could be read"
    if judged.maps is None:
        return "there is no map: the bundle has no heads and no frame is enrolled"
    anomalous = any(sample.anomalous for sample in dataset_class.test)
    return "the dataset has no masks" if anomalous and not dataset_class.has_masks else ""


def _points(curve: tuple[NDArray[np.float64], NDArray[np.float64]] | None) -> list[list[float]] | None:
    """A curve as two lists, to six digits."""
    return None if curve is None else [[round(float(value), 6) for value in axis] for axis in curve]


def _calibration(judged: Judged, anomalous: NDArray[np.bool_], options: EvaluateOptions) -> dict[str, Any]:
    """What the enrolled threshold did on pictures that it was not made from."""
    bank = None if judged.case.detector is None else judged.case.detector.bank
    record = None if bank is None else bank.record.calibration
    limit = None if record is None else record.image
    decided = np.array([result.anomalous is True for result in judged.results], bool)
    normals, anomalies = int(np.count_nonzero(~anomalous)), int(np.count_nonzero(anomalous))
    alarms, found = int(np.count_nonzero(decided & ~anomalous)), int(np.count_nonzero(decided & anomalous))
    return {
        "kind": "none" if record is None else record.kind,
        "n": 0 if record is None else record.n,
        "threshold": None if limit is None else limit.threshold,
        "wanted": options.false_alarm_rate,
        "false_alarm_rate": alarms / normals if limit is not None and normals else None,
        "false_alarms": alarms if limit is not None else None,
        "normals": normals,
        "detection_rate": found / anomalies if limit is not None and anomalies else None,
        "detections": found if limit is not None else None,
        "anomalies": anomalies,
    }


def _thirds(judged: Judged) -> list[dict[str, Any]]:
    """The normal pictures in order of time, in three parts: drift shows as scores and false alarms that grow."""
    results = {
        picture.sample.name: result
        for picture, result in zip(judged.pictures, judged.results, strict=True)
        if not picture.sample.anomalous
    }
    order = time_order(picture.sample for picture in judged.pictures if not picture.sample.anomalous)
    parts = np.array_split(np.array([results[sample.name] for sample in order], object), len(_THIRDS))
    thirds = []
    for name, part in zip(_THIRDS, parts, strict=True):
        calibrated = len(part) > 0 and part[0].anomalous is not None
        alarms = sum(result.anomalous is True for result in part)
        thirds.append(
            {
                "third": name,
                "false_alarm_rate": alarms / len(part) if calibrated else None,
                "false_alarms": alarms if calibrated else None,
                "normals": len(part),
                "median_score": float(np.median([result.raw_score for result in part])) if len(part) else None,
            }
        )
    return thirds


def _latency(judged: Judged) -> dict[str, float | None]:
    """Milliseconds a picture: preprocessing, encoder, search, decision; reading is not counted, as in ``score``."""
    times = [result.latency_ms for result in judged.results]
    if not times:
        return {"p50": None, "p95": None}
    half, tail = np.percentile(times, [50, 95])
    return {"p50": round(float(half), 3), "p95": round(float(tail), 3)}


def _histogram(
    scores: NDArray[np.float64] | None, anomalous: NDArray[np.bool_], threshold: float | None
) -> dict[str, Any] | None:
    """Counts of the image scores, normal and anomalous apart; the threshold where it is of the same scale."""
    if scores is None or not scores.size:
        return None
    low, high = float(scores.min()), float(scores.max())
    edges = np.linspace(low, high if high > low else low + 1e-6, _BINS + 1)
    return {
        "edges": [float(edge) for edge in edges],
        "normal": np.histogram(scores[~anomalous], edges)[0].tolist(),
        "anomalous": np.histogram(scores[anomalous], edges)[0].tolist(),
        "threshold": threshold,
    }


def _every_score(judged: Judged, scores: NDArray[np.float64] | None) -> list[Mapping[str, Any]]:
    """What was said of every picture; ``used`` is the score that the metrics were taken of."""
    rows: list[Mapping[str, Any]] = []
    for number, (picture, result) in enumerate(zip(judged.pictures, judged.results, strict=True)):
        rows.append(
            {
                "image": picture.sample.name,
                "kind": picture.sample.kind,
                "anomalous": picture.sample.anomalous,
                "raw_score": result.raw_score,
                "score": result.score,
                "used": None if scores is None else float(scores[number]),
                "text_score": result.text_score,
                "map_max": result.map_max,
                "called_anomalous": result.anomalous,
            }
        )
    return rows
