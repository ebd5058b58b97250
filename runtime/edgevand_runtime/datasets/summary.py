"""A dataset in numbers, ``edgevand.dataset/1``: what ``edgevand dataset`` prints."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from edgevand_runtime.datasets.records import GOOD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevand_runtime.datasets.records import Dataset, DatasetClass

__all__ = ["DATASET_SCHEMA", "describe"]

DATASET_SCHEMA = "edgevand.dataset/1"


def describe(dataset: Dataset, faults: Sequence[str] = ()) -> dict[str, Any]:
    """The JSON document of a dataset: layout, pictures by class and kind, faults."""
    classes = [_class(one) for one in dataset.classes]
    return {
        "schema": DATASET_SCHEMA,
        "root": str(dataset.root),
        "layout": dataset.layout,
        "recognised": dataset.recognised,
        "images": sum(one["train"] + one["validation"] + one["good"] + one["anomalous"] for one in classes),
        "classes": classes,
        "faults": list(faults),
    }


def _class(one: DatasetClass) -> dict[str, Any]:
    """One class."""
    kinds = Counter(sample.kind for sample in one.test)
    return {
        "name": one.name,
        "train": len(one.train),
        "validation": len(one.validation),
        "good": kinds.pop(GOOD, 0),
        "anomalous": sum(kinds.values()),
        "kinds": dict(kinds),
        "masks": sum(len(sample.masks) for sample in one.test),
    }
