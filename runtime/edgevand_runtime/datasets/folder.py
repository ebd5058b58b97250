"""Layout ``folder``: one class, anybody's own pictures.

Normal pictures in ``train/good`` or ``good``, anomalous ones in ``test/<defect>`` or, where there is no ``test``, in
any other sub-folder; masks in ``ground_truth/<defect>/<stem>{,_mask}.png``, for all anomalous pictures or for none.
``normal`` means the same as ``good``. Where ``good`` is all there is of normal pictures, the first half of them
(natural order) is train and the second half is test, so that nothing is tested that was learnt from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevand_runtime.datasets.listing import folders_of
from edgevand_runtime.datasets.records import DatasetClass, Sample
from edgevand_runtime.datasets.samples import (
    NORMAL_NAMES,
    anomalous_samples,
    good_samples,
    report_orphan_folders,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["normal_folder", "read_class"]

_NOT_DEFECTS = {"train", "test", "validation", "ground_truth"}


def normal_folder(folder: Path) -> Path | None:
    """The sub-folder ``good`` or ``normal``; None where there is neither."""
    return next((each for each in folders_of(folder) if each.name.lower() in NORMAL_NAMES), None)


def read_class(root: Path, faults: list[str]) -> DatasetClass:
    """Read the dataset.

    Args:
        root: its folder, whose name is the class's.
        faults: what is wrong is added.
    """
    split_off = normal_folder(root / "train")
    flat = normal_folder(root)
    train = good_samples(split_off or flat or root / "train" / "good", root, faults)
    validation = _optional(normal_folder(root / "validation"), root, faults)
    tested = root / "test" if (root / "test").is_dir() else root
    test = list(_optional(normal_folder(tested) if tested != root or split_off else None, root, faults))
    if not test and split_off is None and len(train) > 1:
        half = (len(train) + 1) // 2
        train, test = train[:half], list(train[half:])
    test += _anomalous(tested, root, faults)
    if not test:
        faults.append("expected anomalous images in test/<defect> or <defect>, found none; put them there")
    return DatasetClass(root.resolve().name or "images", train, validation, tuple(test))


def _optional(folder: Path | None, root: Path, faults: list[str]) -> tuple[Sample, ...]:
    """The normal pictures of a folder that need not be there."""
    return () if folder is None else good_samples(folder, root, faults)


def _anomalous(tested: Path, root: Path, faults: list[str]) -> list[Sample]:
    """The anomalous pictures of all kinds."""
    masks = root / "ground_truth"
    has_masks = masks.is_dir()
    kinds = [
        kind
        for kind in folders_of(tested)
        if kind.name.lower() not in NORMAL_NAMES and (tested != root or kind.name not in _NOT_DEFECTS)
    ]
    samples: list[Sample] = []
    for kind in kinds:
        samples += anomalous_samples(kind, masks / kind.name if has_masks else None, root, faults)
    if has_masks:
        report_orphan_folders(masks, (kind.name for kind in kinds), root, faults)
    return samples
