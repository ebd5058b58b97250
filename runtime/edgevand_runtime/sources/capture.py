"""One connection to a device or stream. A live source makes a new one after each outage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Capture", "OpenCvCapture", "as_bgr", "has_backend"]


class Capture(Protocol):
    """An open connection."""

    def read(self) -> NDArray[np.uint8] | None:
        """The next picture, (H, W, 3) uint8 BGR, waiting for it; None where the connection is lost.

        Raises:
            EndOfSourceError: it ended as it was meant to, and connecting again would be wrong.
        """

    def release(self) -> None:
        """Close the connection."""


class OpenCvCapture:
    """A connection through ``cv2.VideoCapture``."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        """Take over an open capture."""
        self._capture = capture

    def read(self) -> NDArray[np.uint8] | None:
        """See ``Capture.read``."""
        try:
            done, image = self._capture.read()
        except cv2.error:  # drivers that deliver half a picture make OpenCV's colour conversion fail
            return None
        return as_bgr(image) if done and image.size else None

    def release(self) -> None:
        """See ``Capture.release``."""
        self._capture.release()


def as_bgr(image: NDArray[Any]) -> NDArray[np.uint8]:
    """A captured picture as (H, W, 3) uint8 BGR, whatever the driver delivers: grey, with alpha, 16 bits.

    Args:
        image: (H, W) or (H, W, 1 | 3 | 4), uint8 or uint16; channels B, G, R(, A).
    """
    eight = (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image.astype(np.uint8, copy=False)
    if eight.ndim == 2:  # noqa: PLR2004 - (H, W)
        eight = eight[:, :, np.newaxis]
    colour = np.repeat(eight, 3, axis=2) if eight.shape[2] == 1 else eight[:, :, :3]
    return np.ascontiguousarray(colour)


def has_backend(backend: int) -> bool:
    """Whether this OpenCV can open captures through a backend, ``cv2.CAP_GSTREAMER`` for instance."""
    return bool(cv2.videoio_registry.hasBackend(backend))
