"""Engines run the encoder graph of a bundle. Two methods, so that a new one is one small module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EncoderOutput", "Engine"]


@dataclass(frozen=True, slots=True, eq=False)
class EncoderOutput:
    """What the encoder says of N frames; stages in the manifest's order.

    Attributes:
        embedding: (N, D) float32, unit rows: the class embedding.
        tokens: for each stage (N, P, C) float32, unit vectors, row-major over the grid.
        logits: for each stage (N, h, w) float32, logit of abnormal minus normal; empty without heads.
    """

    embedding: NDArray[np.float32]
    tokens: tuple[NDArray[np.float32], ...]
    logits: tuple[NDArray[np.float32], ...]


class Engine(Protocol):
    """Runs one graph."""

    @property
    def name(self) -> str:
        """What runs, for people and results: ``onnxruntime:cpu``."""

    def run(self, images: NDArray[np.float32], text: NDArray[np.float32] | None) -> EncoderOutput:
        """Encode images (N, 3, H, W) float32, normalised; text (2, D) float32 rows (normal, abnormal) where the graph has heads."""

    def close(self) -> None:
        """Free what it holds."""
