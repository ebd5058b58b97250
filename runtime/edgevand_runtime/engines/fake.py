"""An engine without a network, for tests and for trying sources and sinks: patch statistics as tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevand_runtime.engines import EncoderOutput

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevand.bundle import Manifest, Precision

__all__ = ["FakeEngine"]

_PROBE = 4
"""A patch is described by its mean colour in _PROBE x _PROBE cells."""


class FakeEngine:
    """Deterministic stand-in with the shapes of a manifest.

    A token is a fixed random projection of the patch's 4 x 4 thumbnail, so that a changed patch really moves away
    from the enrolled ones: scores rise where the picture changes.
    """

    name = "fake"

    def __init__(self, manifest: Manifest, seed: int = 0) -> None:
        """Draw the projections.

        Args:
            manifest: gives image size, stages, widths, grids and heads.
            seed: of the projections.
        """
        self.precision: Precision = manifest.graph.precision
        random = np.random.default_rng(seed)
        pixels = 3 * _PROBE * _PROBE + 1
        self._stages = manifest.stages
        self._maps = manifest.maps
        self._projections = [random.standard_normal((pixels, stage.width)).astype(np.float32) for stage in self._stages]
        self._embedding = random.standard_normal((pixels, manifest.embedding_dim)).astype(np.float32)

    def run(self, images: NDArray[np.float32], text: NDArray[np.float32] | None) -> EncoderOutput:
        """Describe (N, 3, H, W) float32 images; see ``Engine.run``. The text plays no part."""
        del text
        tokens = tuple(
            _unit(_cells(images, stage.grid) @ projection)
            for stage, projection in zip(self._stages, self._projections, strict=True)
        )
        logits = tuple(
            found[..., 0].reshape(len(images), *stage.grid)
            for stage, found in zip(self._stages, tokens, strict=True)
            if stage.head
        )
        maps = {each.name: _cells(images, each.grid).mean(axis=2).reshape(-1, *each.grid) for each in self._maps}
        return EncoderOutput(_unit(_cells(images, (1, 1))[:, 0] @ self._embedding), tokens, logits, maps)

    def close(self) -> None:
        """Nothing is held."""


def _cells(images: NDArray[np.float32], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Every patch: its thumbnail and a constant that gives black a direction; (N, patches, 3 * _PROBE**2 + 1)."""
    rows, columns = grid[0] * _PROBE, grid[1] * _PROBE
    n, channels, height, width = images.shape
    row = np.linspace(0, height, rows, endpoint=False, dtype=np.intp)
    column = np.linspace(0, width, columns, endpoint=False, dtype=np.intp)
    sums = np.add.reduceat(np.add.reduceat(images, row, axis=2), column, axis=3)
    means = sums * (rows * columns / (height * width))
    patches = means.reshape(n, channels, grid[0], _PROBE, grid[1], _PROBE).transpose(0, 2, 4, 1, 3, 5)
    flat = patches.reshape(n, grid[0] * grid[1], -1)
    constant = np.ones((*flat.shape[:2], 1), np.float32)
    return np.concatenate([flat, constant], axis=2).astype(np.float32)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
    return unit
