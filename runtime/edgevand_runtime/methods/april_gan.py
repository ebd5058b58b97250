"""APRIL-GAN: zero-shot maps from linear heads, few-shot maps from a memory bank (arXiv 2305.17382; methods.md (a)).

::

    s   = softmax(100 F_c F_t)[abnormal]                           text score
    M   = sum over stages of sigmoid(upsample(l_abnormal - l_normal))
    M_f = sum over stages of upsample(1 - max cos to the bank)
    raw = s + max(M + M_f)                                          with a bank
    raw = s                                                         without

Upsampling comes before the sigmoid, as in the reference. A bundle may sum fewer terms (``manifest.score.terms``)
or take the mean of the top 1 % in place of the maximum (``manifest.score.image``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgevand_runtime.maps import sigmoid, top_mean, upsample
from edgevand_runtime.methods.base import Method, MethodKind, Opening, RawScore, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.engines import EncoderOutput

__all__ = ["APRIL_GAN", "AprilGan"]

_TOP = 0.01


class AprilGan(Method):
    """One bundle's scoring rule with its text and, where enrolled, its memory bank."""

    def __init__(self, opening: Opening) -> None:
        """Bring together what a frame is scored with."""
        super().__init__(opening)
        manifest, inside = opening.manifest, opening.inside
        self._memory = memory = opening.search
        self._text = text = opening.text
        self._size = (manifest.image.height, manifest.image.width)
        self._grids = [stage.grid for stage in manifest.stages]
        self._logit_scale = manifest.logit_scale
        self._image_rule = manifest.score.image
        terms = manifest.score.terms if memory is not None else ("text", "zero-shot-map")
        self._sums_text = "text" in terms and text is not None
        self._sums_zero_shot = "zero-shot-map" in terms and manifest.has_heads
        # A map outlives its frame; what is needed on the way to it is kept, so that frames take one thread at a time.
        self._enlarged = np.empty((1, *self._size), np.float32)
        self._kept = None if inside is None else np.flatnonzero(inside)
        self._outside = None if inside is None else ~inside
        self._scratch = np.empty((2, *self._size), np.float32)

    def score(self, outputs: EncoderOutput) -> list[RawScore]:
        """Score N encoded frames."""
        distances = None if self._memory is None else self._memory.distances(outputs.tokens)
        return self.combine(outputs, distances)

    def combine(self, outputs: EncoderOutput, distances: Sequence[NDArray[np.float32]] | None) -> list[RawScore]:
        """Score N frames by their distances; one after another, as a batch of maps would bring no speed."""
        texts = self._text_scores(outputs.embedding)
        return [
            self._one(
                text,
                self._map(
                    [stage[n] for stage in outputs.logits],
                    None if distances is None else [stage[n] for stage in distances],
                ),
            )
            for n, text in enumerate(texts)
        ]

    def _text_scores(self, embedding: NDArray[np.float32]) -> list[float] | list[None]:
        if self._text is None:
            return [None] * len(embedding)
        difference = self._logit_scale * (embedding @ (self._text[1] - self._text[0]))
        # In double precision, and at most 200 either way: a float32 is 1 from 17 on, where frames lose their order.
        return [1 / (1 + math.exp(-each)) for each in difference.tolist()]

    def _map(
        self, logits: list[NDArray[np.float32]], distances: list[NDArray[np.float32]] | None
    ) -> NDArray[np.float32] | None:
        total = None
        if self._sums_zero_shot:
            for stage in logits:
                enlarged = upsample(stage[None], self._size, out=self._enlarged)[0]
                total = _add(total, sigmoid(enlarged, out=self._scratch[0]))
        if distances is not None:
            for grid, stage in zip(self._grids, distances, strict=True):
                total = _add(total, upsample(stage.reshape(1, *grid), self._size, out=self._enlarged)[0])
        if total is not None and self._outside is not None:
            np.copyto(total, np.float32(0), where=self._outside)
        return total

    def _one(self, text: float | None, raw_map: NDArray[np.float32] | None) -> RawScore:
        raw = text if self._sums_text and text is not None else 0.0
        if raw_map is None:
            return RawScore(text, None, None, raw)
        map_max = float(raw_map.max())
        if self._memory is not None:
            raw += map_max if self._image_rule == "max" else self._top(raw_map)
        return RawScore(text, raw_map, map_max, raw)

    def _top(self, raw_map: NDArray[np.float32]) -> float:
        if self._kept is None:
            return top_mean(raw_map, _TOP, self._scratch[0])
        inside = self._scratch[1].reshape(-1)[: self._kept.size]
        # Whatever is not "raise" writes into `out` itself; the positions are within the map.
        np.take(raw_map.reshape(-1), self._kept, out=inside, mode="clip")
        return top_mean(inside, _TOP, self._scratch[0])


def _add(total: NDArray[np.float32] | None, part: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sum so far and a part; the first part is copied."""
    return part.copy() if total is None else np.add(total, part, out=total)


APRIL_GAN = MethodKind(
    name="april-gan",
    summary="linear heads and text for the first frame, a memory bank of patch tokens for enrolled ones; all-round",
    settings=Settings,
    open=AprilGan,
    searches=True,
)
