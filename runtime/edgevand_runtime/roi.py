"""The region of interest: a rectangle or a mask picture, at frame size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from edgevand.errors import BadInputError, UsageError
from edgevand_runtime.preprocess import load_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Roi"]

_SIDES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Roi:
    """What a person gave as ``--roi``.

    Attributes:
        text: as given, for messages.
        rectangle: x, y, width, height in pixels; None for a mask.
        picture: (H, W) uint8, above 0 inside; None for a rectangle.
    """

    text: str
    rectangle: tuple[int, int, int, int] | None
    picture: NDArray[np.uint8] | None

    @classmethod
    def parse(cls, text: str) -> Roi:
        """Read ``x,y,w,h`` or the path of a mask image.

        Raises:
            UsageError: neither four whole numbers nor a file.
            BadInputError: the file is no image.
        """
        parts = text.split(",")
        if len(parts) == _SIDES and all(part.strip().lstrip("-").isdigit() for part in parts):
            x, y, w, h = (int(part) for part in parts)
            return cls(text, (x, y, w, h), None)
        if not Path(text).is_file():
            message = (
                f"expected --roi x,y,w,h in whole pixels or a mask image, found {text!r}; for example --roi "
                "100,50,640,480."
            )
            raise UsageError(message)
        return cls(text, None, load_image(Path(text)).max(axis=2))

    @property
    def record(self) -> tuple[int, int, int, int] | Literal["roi.png"]:
        """What ``bank.json`` says of it."""
        return "roi.png" if self.rectangle is None else self.rectangle

    @property
    def png(self) -> bytes | None:
        """The mask as PNG (0 or 255) for the bank; None for a rectangle."""
        if self.picture is None:
            return None
        return cv2.imencode(".png", np.where(self.picture > 0, 255, 0).astype(np.uint8))[1].tobytes()

    def mask(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """(H, W) uint8, 255 inside, for frames of this width and height.

        Raises:
            BadInputError: the region is empty, leaves the frame, or the mask has another size.
        """
        width, height = size
        if self.picture is not None:
            found = self.picture.shape[1], self.picture.shape[0]
            if found != size:
                message = (
                    f"expected a mask of the frames' size {width}x{height}, found {found[0]}x{found[1]} in "
                    f"{self.text}; draw it on a frame."
                )
                raise BadInputError(message)
            if not self.picture.any():
                message = (
                    f"expected a mask with white pixels where to look, found {self.text} all black; paint the region "
                    "white."
                )
                raise BadInputError(message)
            return np.where(self.picture > 0, 255, 0).astype(np.uint8)
        x, y, w, h = self.rectangle or (0, 0, 0, 0)
        if w < 1 or h < 1 or x < 0 or y < 0 or x + w > width or y + h > height:
            message = (
                f"expected --roi x,y,w,h with w and h above 0 inside the frame of {width}x{height}, found "
                f"{self.text}; keep x + w and y + h within it."
            )
            raise BadInputError(message)
        mask = np.zeros((height, width), np.uint8)
        mask[y : y + h, x : x + w] = 255
        return mask
