"""Components: whether the right things are there, in the right number and place; for logical anomalies, untrained.

Patch tokens of the enrolled frames are clustered into visual words (words/clustering.py). A frame is described by how
much of each word it holds and where, and scored by its distance to the enrolled ones in those terms (words/layout.py).
One clustering alone is a matter of luck, so several with different numbers of words are asked and their distances
averaged. The word that deviates most gives the reason and is boxed (words/reasons.py).

Relatives: CSAD (patch histograms of trained segments), UniVAD (graphs of grouped components), LogSAD (matching of
compositions); see docs/methods/components.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, field_validator

from edgevand.errors import UsageError
from edgevand_runtime.maps import upsample
from edgevand_runtime.methods.base import Mark, Method, MethodKind, Opening, RawScore, Settings
from edgevand_runtime.methods.grids import cells_inside
from edgevand_runtime.methods.patch_maps import LEAST_SCORE
from edgevand_runtime.methods.words.clustering import k_means, nearest_word, some_rows
from edgevand_runtime.methods.words.layout import Deviation, Layout
from edgevand_runtime.methods.words.reasons import reason_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from edgevand.manifest import StageRecord
    from edgevand_runtime.engines import EncoderOutput

__all__ = ["COMPONENTS", "Components", "ComponentsSettings"]

_FOLDS = 8
"""Parts that the enrolled groups are left out in: words are found anew without each, which a hundred times is long."""

_PATCHES_A_WORD = 4
"""Fewest patches of all frames for a word; there are fewer words where patches are few."""


class ComponentsSettings(Settings):
    """Options of ``components``."""

    words: tuple[Annotated[int, Field(ge=2, le=256)], ...] = Field(
        default=(8, 12, 16, 20, 24), min_length=1, max_length=16, description="numbers of words of the clusterings"
    )
    stage: int | None = Field(
        default=None, description="stage of the bundle whose patches are words, by index; null for the lower middle one"
    )
    seed: int = Field(default=0, ge=0, description="decides where the clusterings start")

    @field_validator("words", mode="before")
    @classmethod
    def _one_clustering(cls, value: object) -> object:
        """``words=16`` is one clustering."""
        return (value,) if isinstance(value, int) else value


@dataclass(frozen=True, slots=True, eq=False)
class _Clustering:
    """Words, and how enrolled frames hold them."""

    centres: NDArray[np.float32]
    layout: Layout
    first: int
    """Number of its first word among those of all clusterings."""

    def deviation(self, tokens: NDArray[np.float32], grid: tuple[int, int]) -> Deviation:
        """Of a frame's patches (P, C)."""
        return self.layout.deviation(nearest_word(tokens, self.centres).reshape(grid))


class Components(Method):
    """Words and layouts of the enrolled frames."""

    def __init__(self, opening: Opening) -> None:
        """Find the words.

        Raises:
            UsageError: a stage is wanted that the bundle does not have.
        """
        super().__init__(opening)
        self._stage = _stage(opening.manifest.stages, opening.settings.stage)
        self._position = opening.manifest.stages.index(self._stage)
        self._size = (opening.manifest.image.height, opening.manifest.image.width)
        whole = np.ones(self._stage.grid, bool)
        self._counted = whole if opening.inside is None else cells_inside(opening.inside, self._stage.grid)
        features = opening.features or {}
        self._enrolled = _Frames(features.get(f"tokens_{self._stage.index}", ()))
        self._clusterings = self._find(self._enrolled)

    def score(self, outputs: EncoderOutput) -> list[RawScore]:
        """Score N encoded frames."""
        tokens = np.asarray(outputs.tokens[self._position])
        return [self._one(frame, self._clusterings) for frame in tokens]

    def leave_out(self, groups: Sequence[int]) -> list[RawScore]:
        """Score each enrolled frame by words and layouts of frames of other groups; of many groups, in eight parts."""
        names = list(dict.fromkeys(groups))
        fold = {name: number % _FOLDS for number, name in enumerate(names)}
        found: dict[int, RawScore] = {}
        for part in range(min(_FOLDS, len(names))):
            left = [frame for frame, group in enumerate(groups) if fold[group] == part]
            clusterings = self._find(self._enrolled.without(left))
            found |= {frame: self._one(self._enrolled[frame], clusterings) for frame in left}
        return [found[frame] for frame in range(len(groups))]

    def _find(self, frames: _Frames) -> list[_Clustering]:
        """Words and layouts of enrolled frames."""
        rows = some_rows(frames, self._counted.ravel())
        found: list[_Clustering] = []
        for number, wanted in enumerate(self.opening.settings.words):
            rng = np.random.default_rng([self.opening.settings.seed, number])
            centres = k_means(rows, max(2, min(wanted, len(rows) // _PATCHES_A_WORD)), rng)
            labels = np.stack([nearest_word(frame, centres).reshape(self._stage.grid) for frame in frames])
            first = sum(len(each.centres) for each in found)
            found.append(_Clustering(centres, Layout(labels, len(centres), self._counted), first))
        return found

    def _one(self, tokens: NDArray[np.float32], clusterings: Sequence[_Clustering]) -> RawScore:
        """Score one frame's patches (P, C)."""
        found = [(each, each.deviation(tokens, self._stage.grid)) for each in clusterings]
        painted = np.stack([each.layout.paint(deviation) for each, deviation in found]).mean(axis=0, keepdims=True)
        raw_map = upsample(painted, self._size)[0].copy()
        if self.opening.inside is not None:
            raw_map[~self.opening.inside] = 0
        worst, deviation = max(found, key=lambda pair: float(pair[1].words.max()))
        reason = reason_of(worst.layout, deviation, worst.first)
        return RawScore(
            text_score=None,
            raw_map=raw_map,
            map_max=float(raw_map.max()),
            raw_score=max(float(np.mean([each.distance for _, each in found])), LEAST_SCORE),
            reason=None if reason is None else reason.sentence,
            marks=() if reason is None else tuple(Mark(label, box) for label, box in reason.boxes),
        )


class _Frames:
    """Patches of enrolled frames, (P, C) float32 each, which may lie on the disk; turned copies are passed over."""

    def __init__(self, tokens: Sequence[NDArray[Any]]) -> None:
        self._tokens = tokens

    def without(self, left_out: Collection[int]) -> _Frames:
        """The other frames."""
        return _Frames([tokens for frame, tokens in enumerate(self._tokens) if frame not in left_out])

    def __len__(self) -> int:
        return len(self._tokens)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self[frame] for frame in range(len(self)))

    def __contains__(self, frame: object) -> bool:
        return any(frame is each for each in self._tokens)

    def __getitem__(self, frame: int) -> NDArray[np.float32]:
        return np.asarray(self._tokens[frame][0], np.float32)


def _stage(stages: Sequence[StageRecord], index: int | None) -> StageRecord:
    """The stage whose patches are words.

    Raises:
        UsageError: the bundle does not have it.
    """
    if index is None:
        return stages[(len(stages) - 1) // 2]
    for stage in stages:
        if stage.index == index:
            return stage
    known = ", ".join(str(stage.index) for stage in stages)
    raise UsageError(f"expected a stage among {known} of the bundle, found {index}; change --set stage.")


COMPONENTS = MethodKind(
    name="components",
    summary="whether the right things are there, in the right number and place; for logical anomalies, no training",
    settings=ComponentsSettings,
    open=Components,
    least_frames=4,
    poses=False,
    needs_frames=True,
)
