"""Labelled datasets on the disk: MVTec AD, VisA, MVTec LOCO, a folder of one's own (docs/datasets.md).

Needs no torch: the evaluator runs on a device, training imports it from here. ``open_dataset`` reads the folders and
refuses a dataset with everything that is wrong with it in one message; pixels are read by who needs them, through
``read_mask``, ``mask_at`` and ``read_defects``.
"""

from edgevand_runtime.datasets.masks import mask_at, read_defects, read_mask
from edgevand_runtime.datasets.opening import check, detect, examine, open_dataset
from edgevand_runtime.datasets.records import (
    GOOD,
    LAYOUTS,
    Dataset,
    DatasetClass,
    DefectConfig,
    DefectMask,
    Layout,
    Sample,
)

__all__ = [
    "GOOD",
    "LAYOUTS",
    "Dataset",
    "DatasetClass",
    "DefectConfig",
    "DefectMask",
    "Layout",
    "Sample",
    "check",
    "detect",
    "examine",
    "mask_at",
    "open_dataset",
    "read_defects",
    "read_mask",
]
