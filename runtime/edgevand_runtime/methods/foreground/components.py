"""The foreground of a picture and its components (Variance Vigilance Vanguard, methods.md (d), steps 1 and 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["Component", "components", "overlapping"]


class Component(NamedTuple):
    """A connected piece of the foreground."""

    box: tuple[int, int, int, int]
    """x, y, width, height in pixels."""
    parts: int
    """Annotations that lie inside it: what it is made of."""


def overlapping(
    salient: NDArray[np.bool_], annotations: Iterable[NDArray[np.bool_]], overlap: float
) -> NDArray[np.bool_]:
    """Union of the annotations A with ``|A and D| >= overlap |A|``: DIS takes shadows in, which SAM cuts off.

    Args:
        salient: D, (H, W), the object as DIS sees it.
        annotations: (H, W) each, as SAM draws them; empty ones are left out.
        overlap: in [0, 1]; 0.8 in the report.

    Returns:
        (H, W); nowhere true where no annotation is kept.
    """
    found = np.zeros_like(salient)
    for each in annotations:
        area = np.count_nonzero(each)
        if area and np.count_nonzero(each & salient) >= overlap * area:
            found |= each
    return found


def components(
    foreground: NDArray[np.bool_], annotations: Iterable[NDArray[np.bool_]], overlap: float, least: float
) -> list[Component]:
    """The 8-connected components of a foreground, in the order of their first pixel, row by row.

    Args:
        foreground: (H, W).
        annotations: (H, W) each; one is part of a component that holds ``overlap`` of its area.
        overlap: in (0.5, 1].
        least: share of the picture that a component needs.

    Returns:
        Those that are large enough.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(foreground.astype(np.uint8), connectivity=8)
    parts = np.zeros(len(stats), np.int64)
    for each in annotations:
        inside = np.bincount(labels[each], minlength=len(stats))
        parts += inside >= max(1.0, overlap * np.count_nonzero(each))
    enough = stats[:, cv2.CC_STAT_AREA] >= least * foreground.size
    return [
        Component((int(row[0]), int(row[1]), int(row[2]), int(row[3])), int(parts[label]))
        for label, row in enumerate(stats)
        if label > 0 and enough[label]
    ]
