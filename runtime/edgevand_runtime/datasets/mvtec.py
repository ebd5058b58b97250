"""Layout ``mvtec``: ``<class>/train/good``, ``<class>/test/{good,<defect>}``, ``<class>/ground_truth/<defect>``.

Source: MVTec AD (Bergmann et al., CVPR 2019). Masks are ``<stem>_mask.png``, above 0 is anomalous. The prepared form of
VisA is the same below ``1cls/``, with ``<stem>.png``; either name is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevand_runtime.datasets.listing import folders_of, relative
from edgevand_runtime.datasets.records import GOOD, DatasetClass, Sample
from edgevand_runtime.datasets.samples import anomalous_samples, good_samples, report_orphan_folders

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["class_folders", "read_class"]

_PARTS = ("train", "test", "ground_truth")


def class_folders(root: Path) -> dict[str, Path]:
    """The folders of classes by name: those with ``train``, ``test`` or ``ground_truth`` in them."""
    return {folder.name: folder for folder in folders_of(root) if any((folder / part).is_dir() for part in _PARTS)}


def read_class(folder: Path, root: Path, faults: list[str]) -> DatasetClass:
    """Read one class.

    Args:
        folder: of the class.
        root: of the dataset.
        faults: what is wrong is added.
    """
    train = good_samples(folder / "train" / GOOD, root, faults)
    test: list[Sample] = list(good_samples(folder / "test" / GOOD, root, faults, needed=False))
    kinds = [kind for kind in folders_of(folder / "test") if kind.name != GOOD]
    for kind in kinds:
        test += anomalous_samples(kind, folder / "ground_truth" / kind.name, root, faults)
    report_orphan_folders(folder / "ground_truth", (kind.name for kind in kinds), root, faults)
    if not test:
        faults.append(f"expected test images below {relative(folder, root)}/test, found none; put them there")
    return DatasetClass(folder.name, train, (), tuple(test))
