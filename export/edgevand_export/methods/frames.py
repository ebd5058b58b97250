"""Frames that a method is trained on: what the network sees of them, and by what they are known again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgevand_runtime.preprocess import to_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand.bundle import ImageRecord

__all__ = ["View", "digest", "pictures", "view_grid"]

_CELL = 4
"""Pixels for a side of a view's cell."""


def digest(image: NDArray[np.uint8]) -> str:
    """Hex sha256 of a frame's decoded pixels and of its size.

    Args:
        image: (H, W, 3) uint8 BGR.
    """
    found = hashlib.sha256(repr(image.shape).encode())
    found.update(np.ascontiguousarray(image).tobytes())
    return found.hexdigest()


def pictures(frames: Sequence[NDArray[np.uint8]], record: ImageRecord) -> Tensor:
    """Frames (H, W, 3) uint8 BGR to (F, 3, S_h, S_w) float32, by the runtime's own preprocessing."""
    return torch.from_numpy(np.stack([to_tensor(frame, record) for frame in frames]))


def view_grid(record: ImageRecord) -> tuple[int, int]:
    """Rows and columns of a view."""
    return record.height // _CELL, record.width // _CELL


class View(nn.Module):
    """A small grey copy of a picture, by which a frame is known again: the mean of every 4x4 pixels, in [0, 1].

    It is an output of the graph, so that a device knows the training's frames whatever decoded them: the hash of the
    pixels differs between two JPEG decoders, this hardly does.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, record: ImageRecord) -> None:
        """Remember how the picture was normalised."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(record.mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(record.std).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Normalised pictures (N, 3, H, W) to (N, H / 4, W / 4)."""
        grey = (image * self.std + self.mean).mean(dim=1, keepdim=True)
        return functional.avg_pool2d(grey, _CELL).squeeze(1)
