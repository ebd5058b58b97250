"""Regions: connected components of the anomaly map above the map's own threshold, in pixels of the source frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgevand_runtime.results import Region

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["find_regions"]


def find_regions(
    raw_map: NDArray[np.float32], threshold: float, frame_size: tuple[int, int], peak_score: Callable[[float], float]
) -> tuple[Region, ...]:
    """Find what lies above the threshold.

    Args:
        raw_map: (h, w) float32.
        threshold: raw map value; pixels strictly above it belong to a region (8-connected).
        frame_size: width and height of the source frame in pixels; boxes cover the map's pixels entirely.
        peak_score: turns a region's highest raw value into its ``peak`` in [0, 1].

    Returns:
        Regions, the highest peak first.
    """
    if not raw_map.max() > threshold:
        return ()
    above = (raw_map > threshold).view(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    peaks = np.zeros(count, np.float32)
    np.maximum.at(peaks, labels.ravel().astype(np.intp), raw_map.ravel())
    scale_x, scale_y = frame_size[0] / raw_map.shape[1], frame_size[1] / raw_map.shape[0]
    regions = []
    for label in 1 + np.argsort(-peaks[1:], kind="stable"):  # calibrated peaks tie at 1 for every gross defect
        left, top, width, height, area = (int(value) for value in stats[label])
        x, y = int(left * scale_x), int(top * scale_y)
        right = min(frame_size[0], int(np.ceil((left + width) * scale_x)))
        bottom = min(frame_size[1], int(np.ceil((top + height) * scale_y)))
        regions.append(
            Region(
                x=x,
                y=y,
                w=right - x,
                h=bottom - y,
                area=max(1, round(area * scale_x * scale_y)),
                peak=peak_score(float(peaks[label])),
            )
        )
    return tuple(regions)
