"""Two reports held against each other: differences B - A with paired bootstrap intervals.

Rows are paired by class, shots and seed. Two intervals answer two questions, both 95 % percentile intervals with a
fixed seed:

over rows    which classes and draws of frames happened to be taken: pairs of rows are drawn with replacement
over images  which test pictures happened to be taken: of each class, normal and anomalous pictures are drawn with
             replacement, each among themselves, the same ones for A and B and for all rows of the class; image metrics
             are computed anew from the stored scores
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["COMPARISON_SCHEMA", "bootstrap_means", "compare_reports", "resampled_image_metrics"]

COMPARISON_SCHEMA = "edgevand.comparison/1"
_SEED = 0
_RESAMPLES_OF_ROWS = 10_000
_RESAMPLES_OF_IMAGES = 1_000
_PERCENTILES = (2.5, 97.5)
_RESAMPLED = ("image_auroc", "image_ap", "image_f1_max")

_Pair = tuple["Mapping[str, Any]", "Mapping[str, Any]"]


def compare_reports(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Compare two reports (``edgevand.report/1``).

    Returns:
        ``edgevand.comparison/1``: for every number of shots, and for all of them together (``shots`` null), each metric
        that both have, with means over the pairs, their difference and its intervals; null where one pair or no stored
        score leaves nothing to draw from.

    Raises:
        UsageError: the reports have no row in common.
    """
    of_a, of_b = _by_key(a), _by_key(b)
    common = [key for key in of_a if key in of_b]
    if not common:
        raise UsageError(
            "expected two reports with rows of the same class, shots and seed, found none in common; evaluate both on "
            "the same dataset with the same --shots and --seeds"
        )
    pairs = [(of_a[key], of_b[key]) for key in common]
    images = _image_differences(pairs)
    shots = list(dict.fromkeys(row["shots"] for row, _ in pairs))
    differences = []
    for wanted in [*shots, None] if len(shots) > 1 else shots:
        chosen = [place for place, (row, _) in enumerate(pairs) if wanted is None or row["shots"] == wanted]
        differences += _differences(wanted, [pairs[place] for place in chosen], {n: images[n] for n in chosen})
    return {
        "schema": COMPARISON_SCHEMA,
        "a": _told(a),
        "b": _told(b),
        "resamples": {"rows": _RESAMPLES_OF_ROWS, "images": _RESAMPLES_OF_IMAGES, "seed": _SEED, "level": 0.95},
        "differences": differences,
        "only_a": [list(key) for key in of_a if key not in of_b],
        "only_b": [list(key) for key in of_b if key not in of_a],
    }


def bootstrap_means(values: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Means of (N,) values drawn N at a time with replacement: (resamples,) float64."""
    drawn = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    means: NDArray[np.float64] = values[drawn].mean(axis=1)
    return means


def resampled_image_metrics(
    anomalous: NDArray[np.bool_], scores: NDArray[np.float64], counts: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Image metrics of many resamples at once.

    A picture drawn c times counts c times, so each resample is a row of weights and the scores are sorted once.

    Args:
        anomalous: (N,) labels.
        scores: (N,) image scores.
        counts: (B, N) how often each picture was drawn; in every row both labels occur.

    Returns:
        For ``image_auroc``, ``image_ap`` and ``image_f1_max`` (B,) values.
    """
    distinct, place = np.unique(-scores, return_inverse=True)
    steps = np.zeros((len(scores), len(distinct)))
    steps[np.arange(len(scores)), place.ravel()] = 1
    found = (counts * anomalous) @ steps  # (B, distinct scores, highest first)
    false = (counts * ~anomalous) @ steps
    hits, alarms = found.cumsum(axis=1), false.cumsum(axis=1)
    positives, negatives = hits[:, -1:], alarms[:, -1:]
    area = (false * (hits - found / 2)).sum(axis=1) / (positives * negatives)[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(hits + alarms > 0, hits / (hits + alarms), 0.0)
    recall = hits / positives
    f1 = 2 * hits / (hits + alarms + positives)
    return {
        "image_auroc": area,
        "image_ap": (np.diff(recall, axis=1, prepend=0) * precision).sum(axis=1),
        "image_f1_max": f1.max(axis=1),
    }


def _by_key(report: Mapping[str, Any]) -> dict[tuple[str, int, int], Mapping[str, Any]]:
    return {(row["class"], row["shots"], row["seed"]): row for row in report["rows"]}


def _told(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a report is of."""
    return {name: report[name] for name in ("created", "bundle", "dataset", "options")}


def _differences(
    shots: int | None, pairs: Sequence[_Pair], images: Mapping[int, dict[str, NDArray[np.float64]]]
) -> list[dict[str, Any]]:
    """Every metric that some pair has on both sides."""
    entries = []
    figures = [(_figures(row), _figures(other)) for row, other in pairs]
    for metric in dict.fromkeys(name for one, _ in figures for name in one):
        known = [
            (one[metric], other[metric])
            for one, other in figures
            if one.get(metric) is not None and other.get(metric) is not None
        ]
        if not known:
            continue
        values = np.array(known, np.float64)
        differences = values[:, 1] - values[:, 0]
        resampled = [found[metric] for found in images.values() if metric in found]
        entries.append(
            {
                "shots": shots,
                "metric": metric,
                "a": float(values[:, 0].mean()),
                "b": float(values[:, 1].mean()),
                "difference": float(differences.mean()),
                "rows": len(known),
                "interval_rows": _interval(bootstrap_means(differences, _RESAMPLES_OF_ROWS, _SEED))
                if len(known) > 1
                else None,
                "images": _pictures(pairs) if resampled else None,
                "interval_images": _interval(np.mean(resampled, axis=0)) if resampled else None,
            }
        )
    return entries


def _figures(row: Mapping[str, Any]) -> dict[str, float | None]:
    """What is compared of a row: its metrics, but for the one that only labels decide, and the threshold's rates."""
    rates = row.get("calibration") or {}
    metrics = {name: value for name, value in row["metrics"].items() if name != "image_f1_trivial"}
    return {**metrics, **{name: rates.get(name) for name in ("false_alarm_rate", "detection_rate")}}


def _interval(values: NDArray[np.float64]) -> list[float]:
    return [float(value) for value in np.percentile(values, _PERCENTILES)]


def _pictures(pairs: Sequence[_Pair]) -> int:
    """Different pictures that both sides have scored."""
    return len({name for row, other in pairs for name in _shared(row, other)})


def _shared(row: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[bool, float, float]]:
    """Label and both scores of every picture that both rows have judged."""
    theirs = {entry["image"]: entry for entry in other.get("scores") or ()}
    return {
        entry["image"]: (entry["anomalous"], entry["used"], theirs[entry["image"]]["used"])
        for entry in row.get("scores") or ()
        if entry["image"] in theirs and entry["used"] is not None and theirs[entry["image"]]["used"] is not None
    }


def _image_differences(pairs: Sequence[_Pair]) -> dict[int, dict[str, NDArray[np.float64]]]:
    """For each pair the differences of its image metrics over the resamples; empty where nothing can be drawn."""
    drawn: dict[tuple[str, tuple[str, ...]], NDArray[np.int64]] = {}
    found: dict[int, dict[str, NDArray[np.float64]]] = {}
    for place, (row, other) in enumerate(pairs):
        shared = _shared(row, other)
        names = tuple(sorted(shared))
        anomalous = np.array([shared[name][0] for name in names], bool)
        if not names or anomalous.all() or not anomalous.any():
            found[place] = {}
            continue
        key = (row["class"], names)
        if key not in drawn:
            drawn[key] = _drawn(anomalous, row["class"])
        sides = [
            resampled_image_metrics(anomalous, np.array([shared[name][side] for name in names], np.float64), drawn[key])
            for side in (1, 2)
        ]
        found[place] = {metric: sides[1][metric] - sides[0][metric] for metric in _RESAMPLED}
    return found


def _drawn(anomalous: NDArray[np.bool_], class_name: str) -> NDArray[np.int64]:
    """How often each picture is drawn in each resample, normal and anomalous ones apart: (resamples, N) int64."""
    generator = np.random.default_rng([_SEED, *class_name.encode()])
    counts = np.zeros((_RESAMPLES_OF_IMAGES, len(anomalous)), np.int64)
    for places in (np.flatnonzero(anomalous), np.flatnonzero(~anomalous)):
        share = np.full(len(places), 1 / len(places))
        counts[:, places] = generator.multinomial(len(places), share, _RESAMPLES_OF_IMAGES)
    return counts
