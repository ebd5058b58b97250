"""What can be wrong with the files of a dataset: sizes from headers always, pixels on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevand.errors import BadInputError, FrameError
from edgevand_runtime.datasets.listing import relative
from edgevand_runtime.datasets.masks import header_size, mask_values
from edgevand_runtime.preprocess import load_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgevand_runtime.datasets.records import DatasetClass, Sample

__all__ = ["pixel_faults", "size_faults"]


def size_faults(one: DatasetClass, root: Path) -> Iterator[str]:
    """Masks that cannot be read or are not as large as their picture, by their headers.

    A picture that cannot be read is no fault here: a run over the dataset passes over it and says so.
    """
    for sample in one.test:
        size = header_size(sample.image) if sample.masks else None
        for path in sample.masks:
            its_size = header_size(path)
            name = relative(path, root)
            if its_size is None:
                yield f"expected the mask {name} to be a readable image, found none; copy it again"
            elif size is not None and its_size != size:
                yield (
                    f"expected the mask {name} to have the size of its image, {size[1]}x{size[0]}, found "
                    f"{its_size[1]}x{its_size[0]}; export it again at the image's size"
                )


def pixel_faults(sample: Sample, one: DatasetClass, root: Path) -> Iterator[str]:
    """What reading every pixel of a sample tells: damaged files, masks that mark nothing, values without a meaning."""
    try:
        load_image(sample.image)
    except FrameError as error:
        yield _from_root(error, sample.image, sample.name)
    listed = {entry.pixel_value for entry in one.defects}
    for path in sample.masks:
        name = relative(path, root)
        try:
            values = mask_values(path)
        except BadInputError as error:
            if header_size(path) is not None:  # otherwise told by size_faults
                yield _from_root(error, path, name)
            continue
        found = [int(value) for value in np.unique(values) if value > 0]
        if not found:
            yield f"expected the mask {name} to mark at least one pixel, found none; draw it or label the image good"
        elif listed and (len(found) > 1 or found[0] not in listed):
            told = ", ".join(map(str, found[:5]))
            yield (
                f"expected the mask {name} to hold one pixel value that defects_config.json lists, found {told}; "
                "copy it again from the dataset"
            )


def _from_root(error: BadInputError, path: Path, name: str) -> str:
    """A sentence with the path from the dataset's root, as all faults have it."""
    return str(error).replace(str(path), name).rstrip(".")
