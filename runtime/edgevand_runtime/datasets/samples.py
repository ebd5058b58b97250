"""Samples of one folder, matched with their masks; what does not fit is added to a list of faults, one sentence each.

Readers of all layouts use these. Paths in faults are those from the dataset's root, which the caller names.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from edgevand_runtime.datasets.listing import folders_of, images_of, masks_of, relative
from edgevand_runtime.datasets.records import GOOD, Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = ["NORMAL_NAMES", "anomalous_samples", "good_samples", "report_orphan_folders", "sample_of"]

NORMAL_NAMES = frozenset({"good", "normal"})
"""Names of folders of normal pictures, in lower case; ``normal`` only in the layout ``folder``."""


def sample_of(image: Path, root: Path, kind: str, masks: Sequence[Path] = ()) -> Sample:
    """The record of one picture."""
    return Sample(image, relative(image, root), kind, kind != GOOD, tuple(masks))


def good_samples(folder: Path, root: Path, faults: list[str], *, needed: bool = True) -> tuple[Sample, ...]:
    """The normal pictures of a folder.

    Args:
        folder: where they lie.
        root: of the dataset.
        faults: what is wrong is added.
        needed: whether the folder must be there; an empty one is a fault either way.
    """
    images = images_of(folder)
    name = relative(folder, root)
    if not folder.is_dir():
        if needed:
            faults.append(f"expected normal images in {name}, found no such folder; put them there")
    elif not images:
        faults.append(f"expected normal images in {name}, found none; put them there or remove the folder")
    return tuple(sample_of(image, root, GOOD) for image in images)


def anomalous_samples(folder: Path, masks: Path | None, root: Path, faults: list[str]) -> tuple[Sample, ...]:
    """The anomalous pictures of a folder.

    Args:
        folder: where they lie; its name is their kind.
        masks: folder of their masks, ``<stem>_mask.png`` or ``<stem>.png``; None where there are none to expect.
        root: of the dataset.
        faults: what is wrong is added.
    """
    images = images_of(folder)
    if not images:
        faults.append(f"expected images in {relative(folder, root)}, found none; put them there or remove the folder")
    if masks is None:
        return tuple(sample_of(image, root, folder.name) for image in images)
    matched = _match(images, masks, root, faults)
    return tuple(sample_of(image, root, folder.name, [matched[image]] if image in matched else []) for image in images)


def report_orphan_folders(masks: Path, tested: Iterable[str], root: Path, faults: list[str]) -> None:
    """Add a fault for each folder of masks whose pictures are not there; masks of normal pictures are passed over."""
    passed = set(tested) | {folder.name for folder in folders_of(masks) if folder.name.lower() in NORMAL_NAMES}
    faults += [
        f"expected images for the masks in {relative(folder, root)}, found no folder {folder.name!r} of test images; "
        "add it or remove the masks"
        for folder in folders_of(masks)
        if folder.name not in passed
    ]


def _match(images: Sequence[Path], folder: Path, root: Path, faults: list[str]) -> dict[Path, Path]:
    """The mask of each picture that has one."""
    masks = dict.fromkeys(masks_of(folder), False)
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in masks:
        by_stem[path.stem].append(path)
    matched: dict[Path, Path] = {}
    missing = []
    taken: dict[str, Path] = {}
    for image in images:
        if (other := taken.setdefault(image.stem, image)) is not image:
            faults.append(
                f"expected one image for each mask, found {other.name} and {image.name} in "
                f"{relative(image.parent, root)}; rename one of them and its mask"
            )
            continue
        found = [*by_stem[f"{image.stem}_mask"], *by_stem[image.stem]]
        masks |= dict.fromkeys(found, True)
        if not found:
            missing.append(image)
            continue
        if len(found) > 1:
            names = " and ".join(path.name for path in found)
            faults.append(f"expected one mask of {relative(image, root)}, found {names}; remove one of them")
        matched[image] = found[0]
    faults += _missing(missing, len(images), folder, root)
    for path, used in masks.items():
        if not used:
            faults.append(
                f"expected an image for the mask {relative(path, root)}, found none; add it or remove the mask"
            )
    return matched


def _missing(images: Sequence[Path], total: int, folder: Path, root: Path) -> list[str]:
    """A sentence for each picture without a mask, or one where no picture of the folder has one."""
    where = relative(folder, root)
    if len(images) == total > 1:
        tested = relative(images[0].parent, root)
        return [f"expected PNG masks of the {total} images of {tested} in {where}, found none; add them"]
    return [
        f"expected the mask of {relative(image, root)} at {where}/{image.stem}_mask.png, found none; "
        "add it or remove the image"
        for image in images
    ]
