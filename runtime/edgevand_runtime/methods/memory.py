"""Memory: distances of patches to the enrolled ones and nothing else (AnomalyDINO, arXiv 2405.14529; methods.md (h)).

For each stage 1 - the largest cosine to an enrolled patch, enlarged and summed over the stages; a frame's score is the
mean of the highest 1 %. Any encoder's tokens do, with text or without. Turned copies come with ``--augment``. Where a
part lies on a ground, patches of the ground can be left out of account: along the first principal component of the
enrolled tokens they fall apart into two, of which the part is the one that lies less on the border.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from pydantic import Field

from edgevand_runtime.methods.base import Method, MethodKind, Opening, RawScore
from edgevand_runtime.methods.patch_maps import PatchMaps, PatchSettings
from edgevand_runtime.methods.principal import Subspace, moments_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.engines import EncoderOutput

__all__ = ["MEMORY", "Foreground", "Memory", "MemorySettings"]

_STEPS = 256  # between which Otsu's threshold is looked for


class MemorySettings(PatchSettings):
    """Options of ``memory``."""

    foreground: bool = Field(
        default=False, description="score only the patches of the part, not the ground it lies on; not for textures"
    )


class Memory(Method):
    """A memory bank's distances, drawn and scored."""

    def __init__(self, opening: Opening) -> None:
        """Bring together what a frame is scored with.

        Raises:
            UsageError: a stage is wanted that the bundle does not have.
        """
        super().__init__(opening)
        self._maps = PatchMaps(opening.manifest, opening.settings, opening.inside)
        self._foreground: Foreground | None = None
        if opening.settings.foreground and opening.features is not None:
            last = opening.manifest.stages[-1]
            self._foreground = Foreground.of(opening.features[f"tokens_{last.index}"], last.grid)

    def score(self, outputs: EncoderOutput) -> list[RawScore]:
        """Score N encoded frames."""
        if self.opening.search is None:
            raise ValueError(outputs)  # refused before: the method needs frames
        return self.combine(outputs, self.opening.search.distances(outputs.tokens))

    def combine(self, outputs: EncoderOutput, distances: Sequence[NDArray[np.float32]] | None) -> list[RawScore]:
        """Score N frames by their distances."""
        if distances is None:
            raise ValueError(outputs)
        stages = self.opening.manifest.stages
        found = []
        for n in range(len(distances[0])):
            part = None if self._foreground is None else self._foreground.mask(np.asarray(outputs.tokens[-1][n]))
            values = []
            for stage, each in zip(stages, distances, strict=True):
                if stage in self._maps.stages:
                    values.append(each[n] if part is None else each[n] * _at(part, stage.grid))
            found.append(self._maps.raw(values))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Foreground:
    """Tells the part from the ground.

    Attributes:
        subspace: of the enrolled tokens; its first component is looked at.
        threshold: along that component.
        above: whether the part lies above it.
        grid: rows and columns of the tokens.
    """

    subspace: Subspace
    threshold: float
    above: bool
    grid: tuple[int, int]

    @classmethod
    def of(cls, frames: Sequence[NDArray[np.float32]], grid: tuple[int, int]) -> Foreground:
        """From enrolled frames, (1 + A, P, C) each; their turned copies say nothing new.

        The threshold is Otsu's. The axis is that of all frames, also for one that is left out: one frame hardly turns
        it.
        """
        own = [np.asarray(frame[0], np.float32) for frame in frames]
        whole = Subspace.of(moments_of(own), 1 - 1e-9)
        first = Subspace(whole.mean, whole.components[:, :1])
        along = np.stack([_along(first, frame) for frame in own])
        threshold = otsu(along)
        border = np.ones(grid, bool)
        border[1:-1, 1:-1] = False
        outer = float((along[:, border.ravel()] > threshold).mean())
        inner = float((along[:, ~border.ravel()] > threshold).mean()) if not border.all() else outer
        return cls(first, threshold, inner >= outer, grid)

    def mask(self, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        """(h, w) float32, 1 on the part and next to it, of a frame's tokens (P, C)."""
        along = _along(self.subspace, tokens)
        part = (along > self.threshold) == self.above
        grown = cv2.dilate(part.reshape(self.grid).astype(np.uint8), np.ones((3, 3), np.uint8))
        return np.asarray(grown, np.float32)


def otsu(values: NDArray[np.float32]) -> float:
    """The threshold that parts values into two classes with the most variance between them (Otsu 1979)."""
    flat = np.sort(np.asarray(values, np.float64), axis=None)
    steps = np.linspace(flat[0], flat[-1], _STEPS + 1)[1:-1]
    below = np.searchsorted(flat, steps, side="right")
    sums = np.concatenate([[0.0], np.cumsum(flat)])
    counts = (below, len(flat) - below)
    means = sums[below] / np.maximum(counts[0], 1), (sums[-1] - sums[below]) / np.maximum(counts[1], 1)
    between = counts[0] * counts[1] * (means[0] - means[1]) ** 2
    return float(steps[between >= between.max() * (1 - 1e-9)].mean())  # the middle of a gap between the classes


def _along(first: Subspace, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """Places of tokens (P, C) along a subspace's only component."""
    if first.components.shape[1] == 0:
        return np.zeros(len(tokens), np.float32)
    return np.asarray((tokens - first.mean) @ first.components[:, 0], np.float32)


def _at(mask: NDArray[np.float32], grid: tuple[int, int]) -> NDArray[np.float32]:
    """A mask on another grid, flat: 1 wherever it touches the part."""
    rows, columns = grid
    enlarged = cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(enlarged > 0, np.float32).ravel()


MEMORY = MethodKind(
    name="memory",
    summary="distance of each patch to the nearest enrolled one, with any encoder, no text; a plain baseline",
    settings=MemorySettings,
    open=Memory,
    searches=True,
    usual_spread=True,
    needs_frames=True,
)
