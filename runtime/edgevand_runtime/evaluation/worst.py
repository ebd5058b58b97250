"""The worst misses and false alarms of a class, as pictures with their maps: where to look first.

They are those of one row, the one with the most enrolled frames and the first seed. With a threshold a miss is an
anomalous picture at or under it and a false alarm a normal one above it; without one, the anomalous pictures with the
lowest scores and the normal ones with the highest are shown, where they overlap.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand_runtime.datasets import read_mask
from edgevand_runtime.evaluation.pictures import draw_worst
from edgevand_runtime.overlay import uncalibrated_scale
from edgevand_runtime.preprocess import load_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevand_runtime.evaluation.judging import Judged

__all__ = ["find_worst"]

_SHOWN = 3
"""Of each kind and class."""


def find_worst(number: int, class_name: str, judged: Sequence[Judged]) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """The worst mistakes and their pictures.

    Args:
        number: of the class, which makes the names of the pictures unique.
        class_name: its name.
        judged: all cases of the class, in the order of shots and seeds, while their maps are there.

    Returns:
        Entries of the report's ``worst``, and JPEG bytes by the name that an entry gives.
    """
    usable = [item for item in judged if item.results]
    if not usable:
        return [], {}
    most = max(item.case.shots for item in usable)
    row = next(item for item in usable if item.case.shots == most)
    entries: list[dict[str, Any]] = []
    pictures: dict[str, bytes] = {}
    for kind, places in _mistakes(row).items():
        for place in places:
            name = f"{number:04d}-{kind.replace(' ', '-')}-{len(pictures)}"
            pictures[name] = _picture(row, place)
            bank = None if row.case.detector is None else row.case.detector.bank
            limit = None if bank is None else bank.record.calibration.image
            entries.append(
                {
                    "class": class_name,
                    "shots": row.case.shots,
                    "seed": row.case.seed,
                    "kind": kind,
                    "image": row.pictures[place].sample.name,
                    "score": row.results[place].raw_score,
                    "threshold": None if limit is None else limit.threshold,
                    "picture": name,
                }
            )
    return entries, pictures


def _mistakes(row: Judged) -> dict[str, list[int]]:
    """Places of the worst pictures of each kind, the worst first."""
    scores = np.array([result.raw_score for result in row.results])
    anomalous = np.array([picture.sample.anomalous for picture in row.pictures], bool)
    if row.results[0].anomalous is not None:
        called = np.array([result.anomalous for result in row.results], bool)
        missed, alarmed = anomalous & ~called, ~anomalous & called
    elif anomalous.all() or not anomalous.any():
        missed = alarmed = np.zeros(len(scores), bool)
    else:
        missed = anomalous & (scores <= scores[~anomalous].max())
        alarmed = ~anomalous & (scores >= scores[anomalous].min())
    order = np.argsort(scores, kind="stable")
    return {
        "miss": [int(place) for place in order if missed[place]][:_SHOWN],
        "false alarm": [int(place) for place in order[::-1] if alarmed[place]][:_SHOWN],
    }


def _picture(row: Judged, place: int) -> bytes:
    picture, result = row.pictures[place], row.results[place]
    raw_map = None if row.maps is None else np.asarray(row.maps[place])
    mask = read_mask(picture.sample, (picture.size[1], picture.size[0])) if picture.sample.masks else None
    detector = row.case.detector
    scale = None if detector is None else uncalibrated_scale(detector.bundle.manifest, bank=detector.bank is not None)
    return draw_worst(
        load_image(picture.sample.image), replace(result, raw_map=raw_map), mask, uncalibrated_scale=scale
    )
