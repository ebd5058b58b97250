"""A folder on the disk as a ``Dataset``: which layout it has, what its classes are, all that is wrong with it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from edgevand.errors import BadInputError, UsageError
from edgevand_runtime.datasets import folder as folder_layout
from edgevand_runtime.datasets import loco, mvtec, visa
from edgevand_runtime.datasets.checks import pixel_faults, size_faults
from edgevand_runtime.datasets.listing import folders_of, images_of
from edgevand_runtime.datasets.recognise import recognise
from edgevand_runtime.datasets.records import LAYOUTS, Dataset, DatasetClass
from edgevand_runtime.sources.files import natural_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from edgevand_runtime.datasets.records import Layout

__all__ = ["Examination", "check", "detect", "examine", "open_dataset"]

_LISTED = 20
_NAMED = 5
_LOGICAL = "logical_anomalies"


@dataclass(frozen=True, slots=True)
class Examination:
    """What is in a dataset and what is wrong with it.

    Attributes:
        dataset: its classes as far as they could be read.
        faults: one sentence each, with paths from the root.
    """

    dataset: Dataset
    faults: tuple[str, ...]


def open_dataset(
    root: Path, layout: Layout | Literal["auto"] = "auto", classes: Sequence[str] | None = None
) -> Dataset:
    """Read the folders of a dataset; no pixel is decoded.

    Args:
        root: its folder.
        layout: how it is arranged; ``auto`` finds out.
        classes: which classes; None takes all. What is wrong with others does not matter.

    Raises:
        BadInputError: something is wrong with it; the message lists everything.
        UsageError: a class of that name is not there.
    """
    found = examine(root, layout, classes)
    if found.faults:
        raise BadInputError(_all_faults(found.dataset, found.faults))
    return found.dataset


def check(root: Path, layout: Layout | Literal["auto"] = "auto", *, deep: bool = True) -> list[str]:
    """Everything that is wrong with a dataset, one sentence each; empty where nothing is.

    Args:
        root: its folder.
        layout: how it is arranged; ``auto`` finds out.
        deep: also decode every picture and every mask.
    """
    try:
        return list(examine(root, layout, deep=deep).faults)
    except BadInputError as error:
        return [str(error)]


def examine(
    root: Path,
    layout: Layout | Literal["auto"] = "auto",
    classes: Sequence[str] | None = None,
    *,
    deep: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Examination:
    """Read a dataset and list what is wrong with it.

    Args:
        root: its folder.
        layout: how it is arranged; ``auto`` finds out.
        classes: which classes; None takes all.
        deep: also decode every picture and every mask.
        progress: told after each picture how many of how many are read.

    Raises:
        BadInputError: there is no dataset to read: no folder, no known layout, an unusable split file.
        UsageError: a class of that name is not there.
    """
    found = detect(root) if layout == "auto" else _must_be_folder(root, layout)
    faults: list[str] = []
    readers = _readers(root, found, faults)
    chosen = [reader() for _, reader in _chosen(readers, classes, root)]
    for one in chosen:
        faults += size_faults(one, root)
    if deep:
        faults += _read_all(chosen, root, progress)
    names = [one.name for one in chosen]
    return Examination(Dataset(root, found, tuple(chosen), recognise(found, names)), tuple(faults))


def detect(root: Path) -> Layout:
    """Find out how a dataset is arranged.

    Raises:
        BadInputError: there is no such folder, or it has none of the layouts.
    """
    found = _layout_of(_must_be_folder_at(root))
    if found is not None:
        return found
    below = [each for each in folders_of(root) if _layout_of(each) not in {None, "folder"}]
    if below:
        told = f"found none; give its sub-folder {below[0]}"
    else:
        entries = [each.name for each in (*folders_of(root), *images_of(root))]
        shown = ", ".join(entries[:_NAMED]) + (", …" if len(entries) > _NAMED else "")
        told = f"found {shown or 'nothing'}; arrange it like one of them (docs/datasets.md) or name its layout"
    raise BadInputError(f"expected {root} to be a dataset of the layout {', '.join(LAYOUTS[:-1])} or folder, {told}")


def _layout_of(root: Path) -> Layout | None:
    """The layout of a folder, by the names in it; None where it is none."""
    if (root / visa.SPLIT_FILE.parent).is_dir() or (root / visa.PREPARED).is_dir():
        return "visa"
    if (root / "train").is_dir() or (root / "test").is_dir() or folder_layout.normal_folder(root):
        return "folder"
    classes = list(mvtec.class_folders(root).values())
    if any((each / loco.CONFIG_FILE).is_file() or (each / "test" / _LOGICAL).is_dir() for each in classes):
        return "loco"
    if any((each / "train").is_dir() or (each / "test").is_dir() for each in classes):
        names = [each.name for each in classes]
        return "visa" if recognise("visa", names) and not recognise("mvtec", names) else "mvtec"
    return None


def _readers(root: Path, layout: Layout, faults: list[str]) -> dict[str, Callable[[], DatasetClass]]:
    """What reads each class, by name; faults of no class are added at once."""
    if layout == "folder":
        return {root.resolve().name: partial(folder_layout.read_class, root, faults)}
    if layout == "visa" and (root / visa.SPLIT_FILE.parent).is_dir():
        split = visa.read_split(root)
        faults += split.faults
        return {name: partial(visa.read_class, name, rows, root, faults) for name, rows in split.classes.items()}
    base = root / visa.PREPARED if layout == "visa" and (root / visa.PREPARED).is_dir() else root
    read = loco.read_class if layout == "loco" else mvtec.read_class
    return {name: partial(read, each, root, faults) for name, each in mvtec.class_folders(base).items()}


def _chosen(
    readers: dict[str, Callable[[], DatasetClass]], classes: Sequence[str] | None, root: Path
) -> Iterable[tuple[str, Callable[[], DatasetClass]]]:
    """The readers of the classes that are wanted, in natural order."""
    if not readers:
        raise BadInputError(
            f"expected folders of classes with train and test in {root}, found none; check the path and the layout"
        )
    if classes is not None and not classes:
        raise UsageError(f"expected classes among {', '.join(sorted(readers))}, found none; name at least one")
    unknown = [name for name in classes or () if name not in readers]
    if unknown:
        raise UsageError(
            f"expected classes among {', '.join(sorted(readers))}, found {unknown[0]!r}; check the spelling"
        )
    wanted = readers if classes is None else set(classes)
    return sorted(((n, r) for n, r in readers.items() if n in wanted), key=lambda each: natural_key(each[0]))


def _read_all(
    classes: Sequence[DatasetClass], root: Path, progress: Callable[[int, int], None] | None
) -> Iterable[str]:
    """Decode everything."""
    samples = [(one, sample) for one in classes for sample in (*one.train, *one.validation, *one.test)]
    faults: list[str] = []
    for number, (one, sample) in enumerate(samples, 1):
        faults += pixel_faults(sample, one, root)
        if progress is not None:
            progress(number, len(samples))
    return faults


def _all_faults(dataset: Dataset, faults: Sequence[str]) -> str:
    """The message that lists everything."""
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    lines = [f"expected {dataset.root} to be a whole {dataset.layout} dataset, found {count}; mend what is listed:"]
    lines += [f"  - {fault}" for fault in faults[:_LISTED]]
    if len(faults) > _LISTED:
        command = f"edgevand dataset check {shlex.quote(str(dataset.root))}"
        lines.append(f"  and {len(faults) - _LISTED} more, which `{command}` lists")
    return "\n".join(lines)


def _must_be_folder_at(root: Path) -> Path:
    """Refuse what is no folder."""
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise BadInputError(f"expected the folder of a dataset at {root}, found {found}; check the path")
    return root


def _must_be_folder(root: Path, layout: Layout) -> Layout:
    """The layout that was named, once the folder is there."""
    if layout not in LAYOUTS:
        raise UsageError(f"expected a layout among auto, {', '.join(LAYOUTS)}, found {layout!r}; see docs/datasets.md")
    _must_be_folder_at(root)
    return layout
