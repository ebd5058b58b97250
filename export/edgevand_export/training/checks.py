"""Whether pictures and masks can teach heads anything, before hours are spent on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevand.errors import BadInputError
from edgevand_runtime.datasets.masks import mask_values

if TYPE_CHECKING:
    from edgevand_runtime.datasets import Dataset, DatasetClass

__all__ = ["check_data"]


def check_data(dataset: Dataset) -> list[str]:
    """Look for what heads cannot be trained on; of each class's masks no more are read than it takes to find a defect.

    Values above 0 are anomalous, whatever they are.

    Returns:
        Sentences about classes that teach little, but do no harm.

    Raises:
        BadInputError: an anomalous picture has no mask, or nothing is anomalous anywhere.
    """
    told, marked = [], False
    for each in dataset.classes:
        anomalous = [sample for sample in each.test if sample.anomalous]
        bare = [sample for sample in anomalous if not sample.masks]
        if bare:
            raise BadInputError(
                f"expected a mask for every anomalous picture of {each.name}, found none for {len(bare)} of "
                f"{len(anomalous)} ({bare[0].name}); add the masks, or choose other classes with --classes"
            )
        if not each.test:
            told.append(f"{each.name} has no picture in its test split: it is left out")
        elif not anomalous:
            told.append(f"{each.name} has no anomalous picture in its test split: only normal ones are trained on")
        elif _marks(each):
            marked = True
        else:
            told.append(f"all masks of {each.name} are empty: its anomalous pictures are trained on as normal ones")
    if not marked:
        raise BadInputError(
            f"expected an anomalous pixel in the masks of {dataset.root}, found none in any; heads that never see a "
            "defect learn nothing: check the masks (above 0 is anomalous)"
        )
    return told


def _marks(each: DatasetClass) -> bool:
    """Whether some mask of a class is not empty."""
    return any(bool((mask_values(path) > 0).any()) for sample in each.test for path in sample.masks)
