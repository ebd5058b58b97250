"""Layout ``loco``: several masks for one picture, and how much of each defect must be found.

Source: MVTec LOCO AD (Bergmann et al., IJCV 2022). ``<class>/{train,validation}/good``, ``<class>/test/{good,
logical_anomalies,structural_anomalies}``, ``<class>/ground_truth/<type>/<stem>/<n>.png`` (one defect in each),
``<class>/defects_config.json``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from edgevand.errors import EdgevandError
from edgevand.files import read_limited
from edgevand_runtime.datasets.listing import folders_of, images_of, masks_of, relative
from edgevand_runtime.datasets.records import GOOD, DatasetClass, DefectConfig, Sample
from edgevand_runtime.datasets.samples import good_samples, report_orphan_folders, sample_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CONFIG_FILE", "read_class", "read_config"]

CONFIG_FILE = "defects_config.json"

_MAX_BYTES = 1 << 20


class _Entry(BaseModel):
    """An entry of the file; what else it may say is passed over."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    defect_name: str = Field(min_length=1)
    pixel_value: int = Field(ge=1, le=255)
    saturation_threshold: float = Field(gt=0)
    relative_saturation: bool


_ENTRIES = TypeAdapter(list[_Entry])


def read_class(folder: Path, root: Path, faults: list[str]) -> DatasetClass:
    """Read one class.

    Args:
        folder: of the class.
        root: of the dataset.
        faults: what is wrong is added.
    """
    defects = read_config(folder / CONFIG_FILE, root, faults)
    train = good_samples(folder / "train" / GOOD, root, faults)
    validation = good_samples(folder / "validation" / GOOD, root, faults)
    test: list[Sample] = list(good_samples(folder / "test" / GOOD, root, faults, needed=False))
    kinds = [kind for kind in folders_of(folder / "test") if kind.name != GOOD]
    for kind in kinds:
        test += _anomalous(kind, folder / "ground_truth" / kind.name, root, faults)
    report_orphan_folders(folder / "ground_truth", (kind.name for kind in kinds), root, faults)
    if not test:
        faults.append(f"expected test images below {relative(folder, root)}/test, found none; put them there")
    return DatasetClass(folder.name, train, validation, tuple(test), defects)


def read_config(path: Path, root: Path, faults: list[str]) -> tuple[DefectConfig, ...]:
    """Read ``defects_config.json``; nothing of it where something is wrong.

    Args:
        path: the file.
        root: of the dataset.
        faults: what is wrong is added.
    """
    name = relative(path, root)
    try:
        data = read_limited(path, _MAX_BYTES, f"expected the defects' saturation in {name}, found no such file; add it")
        entries = _ENTRIES.validate_json(data)
    except ValidationError as error:
        faults.append(f"expected {name} to list the defects, found {_fault(error)}; copy it again from the dataset")
        return ()
    except EdgevandError as error:
        faults.append(str(error))
        return ()
    wrong = [
        f"expected a relative saturation_threshold of at most 1 for {entry.defect_name!r} in {name}, "
        f"found {entry.saturation_threshold:g}; correct it"
        for entry in entries
        if entry.relative_saturation and entry.saturation_threshold > 1
    ]
    values = [entry.pixel_value for entry in entries]
    wrong += [
        f"expected one defect for each pixel_value in {name}, found several for {value}; correct it"
        for value in sorted(set(values))
        if values.count(value) > 1
    ]
    if wrong:
        faults += wrong
        return ()
    return tuple(
        DefectConfig(entry.defect_name, entry.pixel_value, entry.saturation_threshold, entry.relative_saturation)
        for entry in entries
    )


def _anomalous(kind: Path, masks: Path, root: Path, faults: list[str]) -> list[Sample]:
    """The anomalous pictures of one kind with all their masks."""
    images = images_of(kind)
    if not images:
        faults.append(f"expected images in {relative(kind, root)}, found none; put them there or remove the folder")
    folders = {folder.name: folder for folder in folders_of(masks)}
    stems: dict[str, Path] = {}
    samples = []
    for image in images:
        if (other := stems.setdefault(image.stem, image)) is not image:
            faults.append(
                f"expected one image for each folder of masks, found {other.name} and {image.name} in "
                f"{relative(kind, root)}; rename one of them and its folder"
            )
        found = masks_of(folders[image.stem]) if image.stem in folders else []
        if not found:
            where = f"{relative(masks, root)}/{image.stem}"
            faults.append(
                f"expected the masks of {relative(image, root)} in {where}, found none; add them or remove the image"
            )
        samples.append(sample_of(image, root, kind.name, found))
    for name, folder in folders.items():
        if name not in stems:
            faults.append(
                f"expected an image for the masks in {relative(folder, root)}, found none; add it or remove the masks"
            )
    return samples


def _fault(error: ValidationError) -> str:
    """The first fault of a validation."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"no {place}"
    if first["type"] == "json_invalid":
        return "no JSON"
    return f"{json.dumps(first['input'], default=str)[:60]} for {place}" if place else "no list"
