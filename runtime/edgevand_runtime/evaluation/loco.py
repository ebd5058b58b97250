"""What MVTec LOCO asks beside the common metrics: each kind of anomaly by itself, and AU-sPRO at the original size.

Source: Bergmann et al., IJCV 2022, and the official evaluation (methods.md (b)): sPRO is computed on the normal and
structural pictures and on the normal and logical ones, and the mean of the two is reported. Maps are enlarged to their
pictures bilinearly (pixel centres aligned, as OpenCV does); masks are never shrunk. Image scores are those of the other
metrics, where the official script takes the map's maximum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar, overload

import cv2
import numpy as np

from edgevand_runtime.datasets import read_defects
from edgevand_runtime.metrics import SPRO_LIMITS, Figures, image_metrics, spro_metrics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevand_runtime.datasets import DefectConfig
    from edgevand_runtime.evaluation.judging import Picture

__all__ = ["KINDS", "LOCO_IMAGE_METRICS", "LOCO_PIXEL_METRICS", "loco_image_metrics", "loco_pixel_metrics"]

KINDS = {"structural": "structural_anomalies", "logical": "logical_anomalies"}
"""Short names of the kinds and the folders that they are in."""

LOCO_IMAGE_METRICS = (*(f"image_auroc_{kind}" for kind in KINDS), "image_auroc_kinds")
LOCO_PIXEL_METRICS = tuple(
    f"{name}_{limit}" for limit in SPRO_LIMITS for name in (*(f"spro_{kind}" for kind in KINDS), "spro")
)

T = TypeVar("T")


class _Lazy(Sequence[T], Generic[T]):
    """A sequence whose items are made when they are asked for, and not kept."""

    def __init__(self, makers: Sequence[Callable[[], T]]) -> None:
        self._makers = makers

    def __len__(self) -> int:
        return len(self._makers)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return _Lazy(self._makers[index])
        return self._makers[index]()


def loco_image_metrics(kinds: Sequence[str], scores: NDArray[np.float64] | None, why: str) -> Figures:
    """Image AUROC of each kind of anomaly against the normal pictures, and the mean of the two.

    Args:
        kinds: of each picture, ``good`` or the folder of its anomaly.
        scores: (N,) image scores; None where there are none.
        why: the reason for that.
    """
    if scores is None:
        return Figures.undefined(LOCO_IMAGE_METRICS, why)
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for short, folder in KINDS.items():
        chosen = np.array([kind not in KINDS.values() or kind == folder for kind in kinds], bool)
        labels = np.array([kind == folder for kind in kinds], bool)
        figures = image_metrics(labels[chosen], scores[chosen])
        values[f"image_auroc_{short}"] = figures.values["image_auroc"]
        if "image_auroc" in figures.reasons:
            reasons[f"image_auroc_{short}"] = figures.reasons["image_auroc"]
    _add_mean(values, reasons, "image_auroc_kinds", [f"image_auroc_{short}" for short in KINDS])
    return Figures(values, reasons)


def loco_pixel_metrics(
    pictures: Sequence[Picture],
    maps: NDArray[np.float32] | None,
    config: Sequence[DefectConfig],
    why: str,
) -> Figures:
    """AU-sPRO of each kind of anomaly together with the normal pictures, and the mean of the two, for every limit.

    Args:
        pictures: in the order of the maps.
        maps: (N, S_h, S_w) float32; None where there are none.
        config: saturation of the class's defects.
        why: the reason for there being no maps.
    """
    if maps is None or why:
        return Figures.undefined(LOCO_PIXEL_METRICS, why or "there is no map")
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for short, folder in KINDS.items():
        chosen = [
            place
            for place, picture in enumerate(pictures)
            if picture.sample.kind not in KINDS.values() or picture.sample.kind == folder
        ]
        figures = spro_metrics(
            _Lazy([partial(read_defects, pictures[place].sample, config) for place in chosen]),
            _Lazy([partial(_enlarged, maps, place, pictures[place].size) for place in chosen]),
        )
        for name, value in figures.values.items():
            values[name.replace("spro", f"spro_{short}")] = value
        reasons.update({name.replace("spro", f"spro_{short}"): reason for name, reason in figures.reasons.items()})
    for limit in SPRO_LIMITS:
        _add_mean(values, reasons, f"spro_{limit}", [f"spro_{short}_{limit}" for short in KINDS])
    return Figures({name: values[name] for name in LOCO_PIXEL_METRICS}, reasons)


def _add_mean(values: dict[str, float | None], reasons: dict[str, str], name: str, parts: Sequence[str]) -> None:
    """The mean of the kinds, defined where each of them is."""
    known = [value for part in parts if (value := values[part]) is not None]
    values[name] = sum(known) / len(known) if len(known) == len(parts) else None
    if values[name] is None:
        reasons[name] = next(reasons[part] for part in parts if part in reasons)


def _enlarged(maps: NDArray[np.float32], place: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """A map at its picture's size, (width, height)."""
    return np.asarray(cv2.resize(np.asarray(maps[place]), size, interpolation=cv2.INTER_LINEAR), np.float32)
