"""APRIL-GAN: zero-shot maps from linear heads, few-shot maps from a memory bank (arXiv 2305.17382; methods.md (a)).

::

    s   = softmax(100 F_c F_t)[abnormal]                           text score
    M   = sum over stages of sigmoid(upsample(l_abnormal - l_normal))
    M_f = sum over stages of upsample(1 - max cos to the bank)
    raw = s + max(M + M_f)                                          with a bank
    raw = s                                                         without

Upsampling comes before the sigmoid, as in the reference. A bundle may sum fewer terms (``manifest.score.terms``)
or take the mean of the top 1 % in place of the maximum (``manifest.score.image``).

Options are levers of methods.md (h), each off unless asked for (docs/methods/april-gan.md). What is automatic is
settled by levers/choices.py.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field, field_validator

from edgevand.errors import UsageError
from edgevand_runtime.locality import LocalBank
from edgevand_runtime.maps import sigmoid, top_mean, upsample
from edgevand_runtime.methods.base import Enrolled, Features, Method, MethodKind, Opening, RawScore, Settings
from edgevand_runtime.methods.grids import gaussian
from edgevand_runtime.methods.levers.averaging import averaged
from edgevand_runtime.methods.levers.fusion import Scale, fused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand.bundle import Manifest
    from edgevand_runtime.coreset import Tokens
    from edgevand_runtime.engines import EncoderOutput

__all__ = ["APRIL_GAN", "AprilGan", "AprilGanSettings", "Found", "check_stages", "decide", "local_memory"]

_TOP = 0.01


class AprilGanSettings(Settings):
    """Levers on accuracy; at their defaults scores are the method's own, to the bit."""

    locality: Literal["off", "auto"] | Annotated[int, Field(ge=0, le=1000)] = Field(
        default="off",
        description="compare a patch only with enrolled patches within so many cells of its place; auto: where the "
        "view turns out to be fixed",
    )
    neighbourhood: Literal[1, 3, 5] = Field(
        default=1, description="average patch tokens over windows of so many cells a side before they are compared"
    )
    stages: Literal["all", "auto"] | tuple[int, ...] = Field(
        default="all",
        description="stages whose distances to the bank are summed, by index (6,12); auto: those whose scores of "
        "enrolled frames spread least",
    )
    smoothing: float = Field(
        default=0.0, ge=0, le=100, description="deviation in pixels of a Gaussian over the map; 4 is usual, 0 is off"
    )
    fusion: Literal["sum", "mean", "max"] = Field(
        default="sum",
        description="how text, map and image terms make the score: their sum, or the mean or maximum of their "
        "deviations from what is usual among enrolled frames",
    )
    image_bank: bool = Field(
        default=False, description="a further term: 1 - cosine of the image embedding to the nearest enrolled one"
    )
    score: Literal["bundle", "max", "top1%"] = Field(
        default="bundle", description="the map's term: its maximum, the mean of its top 1 %, or what the bundle says"
    )
    scales: dict[str, Scale] = Field(
        default={}, description="mean and deviation of each term, which enrolment finds for fusion=mean and max"
    )

    @field_validator("stages", mode="before")
    @classmethod
    def _one_stage(cls, value: object) -> object:
        """``stages=6`` is a list of one."""
        return (value,) if isinstance(value, int) else value


class Found(NamedTuple):
    """A frame's map and what its score is made of."""

    text: float | None
    """Abnormal probability, whether it counts or not."""
    raw_map: NDArray[np.float32] | None
    """(S_h, S_w)."""
    map_max: float | None
    """Its maximum."""
    terms: dict[str, float]
    """``text``, ``map`` and ``image``: those that count."""


class AprilGan(Method):
    """One bundle's scoring rule with its text and, where enrolled, its memory bank."""

    def __init__(self, opening: Opening) -> None:
        """Bring together what a frame is scored with.

        Raises:
            UsageError: stages are wanted that the bundle does not have.
        """
        super().__init__(opening)
        manifest, inside, settings = opening.manifest, opening.inside, opening.settings
        self._memory = memory = opening.search
        self._text = text = opening.text
        self._size = (manifest.image.height, manifest.image.width)
        self._grids = [stage.grid for stage in manifest.stages]
        self._summed = [stage.index in check_stages(manifest, settings) for stage in manifest.stages]
        self._logit_scale = manifest.logit_scale
        self._image_rule = manifest.score.image if settings.score == "bundle" else settings.score
        terms = manifest.score.terms if memory is not None else ("text", "zero-shot-map")
        self._sums_text = "text" in terms and text is not None
        self._sums_zero_shot = "zero-shot-map" in terms and manifest.has_heads
        self._averages, self._sigma = settings.neighbourhood > 1, settings.smoothing
        self._fusion, self._scales = settings.fusion, settings.scales
        features = opening.features or {}
        self._embeddings = features.get("embedding") if settings.image_bank and memory is not None else None
        # A map outlives its frame; what is needed on the way to it is kept, so that frames take one thread at a time.
        self._enlarged = np.empty((1, *self._size), np.float32)
        self._kept = None if inside is None else np.flatnonzero(inside)
        self._outside = None if inside is None else ~inside
        self._scratch = np.empty((2, *self._size), np.float32)
        smoothes = inside is not None and self._sigma > 0
        self._coverage = gaussian(inside.astype(np.float32), self._sigma) if smoothes and inside is not None else None

    @staticmethod
    def keep(manifest: Manifest, outputs: EncoderOutput) -> Features:
        """As ``Method.keep``; tokens are kept as they are compared."""
        return Method.keep(manifest, replace(outputs, tokens=tuple(AprilGan.compared(manifest, outputs))))

    @staticmethod
    def compared(manifest: Manifest, outputs: EncoderOutput) -> Sequence[NDArray[np.float32]]:
        """The encoder's tokens, averaged over their neighbourhood where that is asked for."""
        side = _settings(manifest).neighbourhood
        if side == 1:
            return outputs.tokens
        pairs = zip(outputs.tokens, manifest.stages, strict=True)
        return [averaged(np.asarray(tokens), stage.grid, side) for tokens, stage in pairs]

    @property
    def summed_maps(self) -> int:
        """One for each stage with a head."""
        return sum(stage.head for stage in self.opening.manifest.stages)

    def score(self, outputs: EncoderOutput) -> list[RawScore]:
        """Score N encoded frames."""
        if self._memory is None:
            return self.combine(outputs, None)
        tokens = self.compared(self.opening.manifest, outputs) if self._averages else outputs.tokens
        return self.combine(outputs, self._memory.distances(tokens))

    def combine(self, outputs: EncoderOutput, distances: Sequence[NDArray[np.float32]] | None) -> list[RawScore]:
        """Score N frames by their distances; one after another, as a batch of maps would bring no speed."""
        return [self._scored(found) for found in self._find(outputs, distances, self._embeddings)]

    def combine_without(
        self, outputs: EncoderOutput, distances: Sequence[NDArray[np.float32]], left_out: NDArray[np.bool_]
    ) -> list[RawScore]:
        """As ``combine``; the image embeddings of some enrolled frames do not count."""
        return [self._scored(found) for found in self.find_without(outputs, distances, left_out)]

    def find_without(
        self, outputs: EncoderOutput, distances: Sequence[NDArray[np.float32]], left_out: NDArray[np.bool_]
    ) -> list[Found]:
        """What ``combine_without`` makes the scores of."""
        kept = None if self._embeddings is None else np.asarray(self._embeddings)[~left_out]
        return self._find(outputs, distances, kept)

    def _find(
        self,
        outputs: EncoderOutput,
        distances: Sequence[NDArray[np.float32]] | None,
        enrolled: NDArray[np.float32] | None,
    ) -> list[Found]:
        """Maps and terms of N frames; ``enrolled`` are image embeddings (F, D) to compare with."""
        found = []
        for n, text in enumerate(self._text_scores(outputs.embedding)):
            raw_map = self._map(
                [stage[n] for stage in outputs.logits],
                None if distances is None else [stage[n] for stage in distances],
            )
            map_max = None if raw_map is None else float(raw_map.max())
            terms = {"text": text} if self._sums_text and text is not None else {}
            if raw_map is not None and map_max is not None and self._memory is not None:
                terms["map"] = map_max if self._image_rule == "max" else self._top(raw_map)
            if enrolled is not None and len(enrolled):
                terms["image"] = max(1 - float((enrolled @ outputs.embedding[n]).max()), 0.0)
            found.append(Found(text, raw_map, map_max, terms))
        return found

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
            for grid, stage, summed in zip(self._grids, distances, self._summed, strict=True):
                if summed:
                    total = _add(total, upsample(stage.reshape(1, *grid), self._size, out=self._enlarged)[0])
        if total is not None and self._sigma > 0:
            total = self._smooth(total)
        if total is not None and self._outside is not None:
            np.copyto(total, np.float32(0), where=self._outside)
        return total

    def _smooth(self, total: NDArray[np.float32]) -> NDArray[np.float32]:
        """The map under a Gaussian; within a region of interest, of what lies in it alone."""
        if self._outside is None or self._coverage is None:
            return gaussian(total, self._sigma)
        np.copyto(total, np.float32(0), where=self._outside)
        smoothed = gaussian(total, self._sigma)
        return np.divide(smoothed, np.maximum(self._coverage, np.float32(1e-6)), out=smoothed)

    def _scored(self, found: Found) -> RawScore:
        terms = found.terms
        if self._fusion == "sum" or "map" not in terms or not terms.keys() <= self._scales.keys():
            raw = sum(terms.values(), 0.0)
        else:
            raw = fused(terms, self._scales, self._fusion)
        return RawScore(found.text, found.raw_map, found.map_max, raw)

    def _top(self, raw_map: NDArray[np.float32]) -> float:
        if self._kept is None:
            return top_mean(raw_map, _TOP, self._scratch[0])
        inside = self._scratch[1].reshape(-1)[: self._kept.size]
        # Whatever is not "raise" writes into `out` itself; the positions are within the map.
        np.take(raw_map.reshape(-1), self._kept, out=inside, mode="clip")
        return top_mean(inside, _TOP, self._scratch[0])


def check_stages(manifest: Manifest, settings: AprilGanSettings) -> tuple[int, ...]:
    """Indices of the stages whose distances count; all of them while that is to be decided.

    Raises:
        UsageError: one that the bundle does not have, or none.
    """
    indices = tuple(stage.index for stage in manifest.stages)
    if isinstance(settings.stages, str):
        return indices
    unknown = set(settings.stages) - set(indices)
    if unknown or not settings.stages:
        message = (
            f"expected stages among {', '.join(map(str, indices))} of the bundle, found "
            f"{', '.join(map(str, settings.stages)) or 'none'}; change --set stages."
        )
        raise UsageError(message)
    return settings.stages


def local_memory(manifest: Manifest, tokens: Sequence[Tokens], limit: float | None) -> LocalBank | None:
    """The position-aware search, where it is on."""
    radius = _settings(manifest).locality
    if isinstance(radius, str):
        return None
    return LocalBank(tokens, [stage.grid for stage in manifest.stages], radius, limit=limit)


def decide(enrolled: Enrolled) -> tuple[Settings, tuple[str, ...]]:
    """Settle what is automatic (levers/choices.py)."""
    from edgevand_runtime.methods.levers.choices import choose

    return choose(enrolled, _settings(enrolled.manifest))


def _settings(manifest: Manifest) -> AprilGanSettings:
    """Options of the method, or of one that has more of them."""
    from edgevand_runtime.methods import read_settings

    settings = read_settings(manifest)
    return settings if isinstance(settings, AprilGanSettings) else AprilGanSettings()


def _add(total: NDArray[np.float32] | None, part: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sum so far and a part; the first part is copied."""
    return part.copy() if total is None else np.add(total, part, out=total)


APRIL_GAN = MethodKind(
    name="april-gan",
    summary="linear heads and text for the first frame, a memory bank of patch tokens for enrolled ones; all-round",
    settings=AprilGanSettings,
    open=AprilGan,
    searches=True,
    usual_spread=True,
    memory=local_memory,
    decide=decide,
)
