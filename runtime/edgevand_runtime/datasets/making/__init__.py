"""Small drawn datasets in the exact layouts of the published ones: to try a whole chain of commands without them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from edgevand.errors import UsageError
from edgevand.staging import staged_directory
from edgevand_runtime.datasets.making import layouts
from edgevand_runtime.datasets.making.boxes import BOXES, BoxCamera
from edgevand_runtime.datasets.making.camera import Camera
from edgevand_runtime.datasets.making.layouts import Counts
from edgevand_runtime.datasets.visa import PREPARED, SPLIT_FILE
from edgevand_runtime.drawn.catalogue import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["DRAWN_CLASSES", "DRAWN_LAYOUTS", "DrawnLayout", "MakeOptions", "make_dataset"]

DrawnLayout: TypeAlias = Literal["mvtec", "visa", "visa-prepared", "loco", "folder"]
"""What can be made: each layout, VisA in both its forms."""

DRAWN_LAYOUTS: tuple[DrawnLayout, ...] = get_args(DrawnLayout)

DRAWN_CLASSES: dict[DrawnLayout, tuple[str, ...]] = {
    "mvtec": ("gear", "fabric", "bracket"),
    "visa": ("bottle_cap", "dial", "key"),
    "visa-prepared": ("bottle_cap", "dial", "key"),
    "loco": ("circuit_board", "name_plate"),
    "folder": ("flange",),
}
"""Objects of each layout: others in each, so that what was trained on one is tried on objects that it has not seen."""

_LEAST_SIZE, _MOST_SIZE = 32, 4096
_WIDE = 5 / 4  # pictures of VisA and LOCO are not square


@dataclass(frozen=True, slots=True)
class MakeOptions:
    """What is drawn.

    Attributes:
        seed: designs and defects; not negative.
        images: training pictures of each class; to test there are two thirds of it normal, as many anomalous.
        size: longer side of a picture in pixels.
        classes: names of objects; None takes ``DRAWN_CLASSES``.
    """

    seed: int = 0
    images: int = 12
    size: int = 256
    classes: tuple[str, ...] | None = None


def make_dataset(
    layout: DrawnLayout,
    target: Path,
    options: MakeOptions | None = None,
    *,
    replace: bool = False,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Draw a dataset; the folder appears whole or not at all, and the same options give the same bytes.

    Args:
        layout: how it is arranged.
        target: its folder.
        options: what is drawn.
        replace: take the place of a folder that is there.
        progress: told the name of each class before it is drawn.

    Raises:
        UsageError: an option is out of range or an object is not known.
        OutputError: something is already there, or the place cannot be written.
    """
    options = options or MakeOptions()
    names = _checked(layout, options)
    counts = Counts(options.images, max(1, options.images * 2 // 3), options.images, max(1, options.images // 3))
    with staged_directory(target, replace=replace) as root:
        lines = ["object,split,label,image,mask"]
        for number, name in enumerate(names):
            if progress is not None:
                progress(name)
            if layout == "loco" and name in BOXES:
                camera_of_box = BoxCamera(name, options.seed, (options.size, round(options.size / _WIDE)))
                layouts.write_loco(root / name, camera_of_box, counts)
                continue
            camera = _camera(layout, name, number, options)
            if layout == "mvtec":
                layouts.write_mvtec(root / name, camera, counts, grey=number == 1)
            elif layout == "visa":
                lines += layouts.write_visa(root, name, camera, counts)
            elif layout == "visa-prepared":
                layouts.write_visa_prepared(root / PREPARED / name, camera, counts)
            elif layout == "loco":
                layouts.write_loco(root / name, camera, counts)
            else:
                layouts.write_folder(root, camera, counts)
        if layout == "visa":
            (root / SPLIT_FILE).parent.mkdir()
            (root / SPLIT_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _camera(layout: DrawnLayout, name: str, number: int, options: MakeOptions) -> Camera:
    """One class's camera: VisA has one class of several objects in a picture, LOCO lies straight, wide or tall."""
    long, short = options.size, round(options.size / _WIDE)
    size = (long, long) if layout in {"mvtec", "folder"} else (long, short)
    if layout == "loco" and number % 2:
        size = (short, long)
    cells = (2, 2) if layout.startswith("visa") and number == 0 else (1, 1)
    return Camera(name.replace("_", " "), options.seed, size, cells=cells, upright=layout == "loco")


def _checked(layout: DrawnLayout, options: MakeOptions) -> tuple[str, ...]:
    """The names of the classes, once everything is in range."""
    if layout not in DRAWN_LAYOUTS:
        raise UsageError(f"expected a layout among {', '.join(DRAWN_LAYOUTS)}, found {layout!r}; see docs/datasets.md")
    if options.seed < 0:
        raise UsageError(f"expected a seed of 0 or more, found {options.seed}; choose another")
    if options.images < 1:
        raise UsageError(f"expected at least 1 training image of each class, found {options.images}; choose more")
    if not _LEAST_SIZE <= options.size <= _MOST_SIZE:
        raise UsageError(
            f"expected a size of {_LEAST_SIZE} to {_MOST_SIZE} pixels, found {options.size}; choose another"
        )
    names = tuple(name.strip().replace(" ", "_") for name in options.classes or DRAWN_CLASSES[layout])
    known = sorted([*(name.replace(" ", "_") for name in CATALOGUE), *(BOXES if layout == "loco" else ())])
    for name in names:
        if name not in known:
            raise UsageError(f"expected objects among {', '.join(known)}, found {name!r}; choose one of them")
    if len(set(names)) < len(names):
        raise UsageError(f"expected each object once, found {', '.join(names)}; leave out what is repeated")
    if layout == "folder" and len(names) > 1:
        raise UsageError(f"expected one object in the layout folder, found {len(names)}; choose one or another layout")
    return names
