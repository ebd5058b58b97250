"""What a labelled dataset is, once its folders are read: classes, splits, samples, masks (docs/datasets.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["GOOD", "LAYOUTS", "Dataset", "DatasetClass", "DefectConfig", "DefectMask", "Layout", "Sample"]

Layout: TypeAlias = Literal["mvtec", "visa", "loco", "folder"]
"""How the folders of a dataset are arranged; ``visa`` is both the published form (split CSV) and the prepared one."""

LAYOUTS: tuple[Layout, ...] = get_args(Layout)

GOOD = "good"
"""The kind of a normal sample, whatever its folder is called."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture.

    Attributes:
        image: its file.
        name: its path from the dataset's root, with ``/``: unique in the dataset, the same on every machine.
        kind: ``good``, or the name of the folder of defects that it lies in.
        anomalous: whether it is labelled anomalous.
        masks: files that mark where, as large as the picture, above 0 is anomalous; several only for LOCO, in natural
            order; none for normal samples and for datasets that have no masks.
    """

    image: Path
    name: str
    kind: str
    anomalous: bool
    masks: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class DefectConfig:
    """One entry of LOCO's ``defects_config.json``.

    Attributes:
        defect_name: what it is.
        pixel_value: the value of its pixels in a mask, 1..255.
        saturation_threshold: how much of it must be found for it to count as found whole: a share in (0, 1] where
            ``relative_saturation``, else pixels.
        relative_saturation: see above.
    """

    defect_name: str
    pixel_value: int
    saturation_threshold: float
    relative_saturation: bool


@dataclass(frozen=True, slots=True, eq=False)
class DefectMask:
    """One defect of one picture, for sPRO.

    Attributes:
        name: ``defect_name`` of its entry.
        pixels: (H, W) where it is, at the picture's size.
        saturation: pixels that must be found for it to count as found whole, at least 1.
    """

    name: str
    pixels: NDArray[np.bool_]
    saturation: int


@dataclass(frozen=True, slots=True)
class DatasetClass:
    """One kind of object, in natural order of its files.

    Attributes:
        name: its name as written by the dataset.
        train: normal samples to learn from.
        validation: normal samples to calibrate on; none where the layout has no such split.
        test: normal and anomalous samples, the normal ones first.
        defects: LOCO's ``defects_config.json``; empty for other layouts.
    """

    name: str
    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    test: tuple[Sample, ...]
    defects: tuple[DefectConfig, ...] = ()

    @property
    def has_masks(self) -> bool:
        """Whether pixel metrics can be computed: there are anomalous samples and each has a mask."""
        anomalous = [sample for sample in self.test if sample.anomalous]
        return bool(anomalous) and all(sample.masks for sample in anomalous)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A labelled dataset on the disk.

    Attributes:
        root: its folder.
        layout: how it is arranged.
        classes: in natural order of their names.
        recognised: ``MVTec AD``, ``VisA`` or ``MVTec LOCO`` where layout and class names are those of that dataset.
    """

    root: Path
    layout: Layout
    classes: tuple[DatasetClass, ...]
    recognised: str | None
