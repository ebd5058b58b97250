"""A frame: what every source yields and everything downstream reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Frame", "iso_time"]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture with its origin.

    Attributes:
        image: (H, W, 3) uint8, BGR.
        index: 0-based count within the source (frames dropped by a live source count).
        source: path of the image file, or the URI of the stream.
        time: when it was grabbed, UTC.
        monotonic: the same instant on ``time.monotonic()``, seconds; the age of a frame is counted from here.
        media_time: seconds into the video or the live stream; None for images.
    """

    image: NDArray[np.uint8]
    index: int
    source: str
    time: datetime
    monotonic: float
    media_time: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.shape[1], self.image.shape[0]


def iso_time(time: datetime) -> str:
    """UTC, ISO 8601 with milliseconds and Z: ``2026-11-21T20:18:00.123Z``."""
    return time.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
