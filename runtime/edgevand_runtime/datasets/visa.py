"""Layout ``visa``: as published, with a split file, or prepared (``1cls/<class>/…``, which is ``mvtec``).

Source: VisA (Zou et al., ECCV 2022). As published: pictures in ``<class>/Data/Images/{Normal,Anomaly}``, masks in
``<class>/Data/Masks/Anomaly``, small integers for kinds of defects, above 0 is anomalous; ``split_csv/1cls.csv`` says
what is train and what is test: object,split,label,image,mask with paths from the root, no mask for normal pictures.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from edgevand.errors import BadInputError
from edgevand_runtime.datasets.listing import images_of, masks_of, relative
from edgevand_runtime.datasets.records import GOOD, DatasetClass, Sample
from edgevand_runtime.sources.files import natural_key

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PREPARED", "SPLIT_FILE", "Split", "read_class", "read_split"]

SPLIT_FILE = Path("split_csv", "1cls.csv")
PREPARED = "1cls"

_HEADER = ["object", "split", "label", "image", "mask"]
_ANOMALY = "Anomaly"
_NAME = SPLIT_FILE.as_posix()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the split file."""

    line: int
    name: str
    split: str
    label: str
    image: str
    mask: str


@dataclass(slots=True)
class Split:
    """The split file: its lines by class, and what is wrong with lines of no class."""

    classes: dict[str, list[Row]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def read_split(root: Path) -> Split:
    """Read the split file.

    Args:
        root: of the dataset.

    Raises:
        BadInputError: it cannot be read at all: not there, no text, another header, no lines.
    """
    remedy = "copy it again from the dataset"
    try:
        with (root / SPLIT_FILE).open(encoding="utf-8-sig", newline="") as file:
            header, *lines = list(csv.reader(file)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInputError(f"cannot read {root / SPLIT_FILE}: {error}; {remedy}") from error
    if header != _HEADER:
        found = ",".join(header)[:80] or "nothing"
        raise BadInputError(f"expected {root / SPLIT_FILE} to begin with {','.join(_HEADER)}, found {found}; {remedy}")
    split = Split()
    for number, cells in enumerate(lines, 2):
        fault = None
        if cells and len(cells) != len(_HEADER):
            fault = f"has {len(cells)} cells, expected {len(_HEADER)}"
        elif cells and not _is_name(cells[0]):
            fault = f"has the object {cells[0]!r}, expected the name of a class"
        elif cells:
            row = Row(number, *(cell.strip() for cell in cells))
            split.classes.setdefault(row.name, []).append(row)
        if fault is not None:
            split.faults.append(f"line {number} of {_NAME} {fault}; correct it or {remedy}")
    if not split.classes:
        raise BadInputError(f"expected {root / SPLIT_FILE} to list images, found none; {remedy}")
    return split


def read_class(name: str, rows: Iterable[Row], root: Path, faults: list[str]) -> DatasetClass:
    """Read one class of the published form.

    Args:
        name: of the class.
        rows: its lines of the split file.
        root: of the dataset.
        faults: what is wrong is added.
    """
    samples: dict[str, list[Sample]] = {"train": [], "test": []}
    seen: dict[str, int] = {}
    for row in rows:
        fault = _wrong_cell(row) or _wrong_path(row, root)
        if fault is None and (first := seen.setdefault(row.image, row.line)) != row.line:
            fault = f"names {row.image} again, which line {first} has"
        if fault is not None:
            faults.append(f"line {row.line} of {_NAME} {fault}; correct it or copy the dataset again")
            continue
        kind = GOOD if row.label == "normal" else _ANOMALY
        masks = (root / row.mask,) if row.mask else ()
        samples[row.split].append(Sample(root / row.image, row.image, kind, row.label != "normal", masks))
    _report_orphans(root / name / "Data", root, faults)
    for split, its in samples.items():
        if not its:
            faults.append(f"expected {split} images of {name} in {_NAME}, found none; copy it again from the dataset")
        its.sort(key=lambda each: (each.anomalous, natural_key(each.name)))
    return DatasetClass(name, tuple(samples["train"]), (), tuple(samples["test"]))


def _is_name(cell: str) -> bool:
    """Whether this can be the folder of a class in the dataset."""
    return cell.isprintable() and bool(cell.strip(" .")) and not {"/", "\\"} & set(cell)


def _is_file(path: Path) -> bool:
    """Whether there is such a file; also where its name is too long for one."""
    try:
        return path.is_file()
    except OSError:
        return False


def _wrong_cell(row: Row) -> str | None:
    """What is wrong with the words of a line, for ``line N of … <this>``."""
    faults = {
        f"has the split {row.split!r}, expected train or test": row.split not in {"train", "test"},
        f"has the label {row.label!r}, expected normal or anomaly": row.label not in {"normal", "anomaly"},
        "puts an anomaly into train, expected normal images only": (row.split, row.label) == ("train", "anomaly"),
        "names no image, expected one": not row.image,
        f"gives the normal image {row.image} a mask, expected none": row.label == "normal" and bool(row.mask),
        f"gives the anomaly {row.image} no mask, expected one": row.label == "anomaly" and not row.mask,
    }
    return next((sentence for sentence, wrong in faults.items() if wrong), None)


def _wrong_path(row: Row, root: Path) -> str | None:
    """What is wrong with the files of a line, for ``line N of … <this>``."""
    for path in filter(None, (row.image, row.mask)):
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts:
            return f"names {path!r}, expected a path that stays in the dataset"
        if not _is_file(root / path):
            return f"names {path}, which is not there"
    return None


def _report_orphans(data: Path, root: Path, faults: list[str]) -> None:
    """Add a fault for each mask whose picture is not there."""
    stems = {path.stem for path in images_of(data / "Images" / _ANOMALY)}
    faults += [
        f"expected an image for the mask {relative(mask, root)}, found none; add it or remove the mask"
        for mask in masks_of(data / "Masks" / _ANOMALY)
        if mask.stem not in stems
    ]
