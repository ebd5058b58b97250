"""Subspace: what of a patch the principal components of the enrolled patches do not explain (methods.md (h)).

SubspaceAD (PCA residual of patch tokens): for each stage the mean mu and the components C that keep 99 % of the
variance of all enrolled patches::

    d(p) = ||(x_p - mu) - C C^T (x_p - mu)||²

maps of the stages are enlarged and summed, a frame's score is the mean of the highest 1 %. What is written is the
moments of each stage: a bank that stays as small with a thousand frames, to which frames are added exactly, and which
encodes and searches nothing. Leave-one-out scores at enrolment are exact too: the moments of a group are taken out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from edgevand.errors import UsageError
from edgevand_runtime.methods.base import Method, MethodKind, Opening, RawScore
from edgevand_runtime.methods.patch_maps import PatchMaps, PatchSettings
from edgevand_runtime.methods.principal import Moments, Subspace, moments_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.engines import EncoderOutput
    from edgevand_runtime.methods.base import Features

__all__ = ["SUBSPACE", "SubspaceMethod", "SubspaceSettings", "extend"]

_SCORES = "scores"
"""(F, 2) float32 in a bank: raw score and maximum of the map of each frame, as when it was enrolled."""


class SubspaceSettings(PatchSettings):
    """Options of ``subspace``."""

    variance: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.99, description="share of the enrolled patches' variance that counts as normal"
    )


class SubspaceMethod(Method):
    """The subspaces of a bundle's stages."""

    def __init__(self, opening: Opening) -> None:
        """Take in what the frames left: their tokens, what a bank keeps of them, or both.

        Raises:
            UsageError: a stage is wanted that the bundle does not have.
        """
        super().__init__(opening)
        self._maps = PatchMaps(opening.manifest, opening.settings, opening.inside)
        self._positions = [
            position for position, stage in enumerate(opening.manifest.stages) if stage in self._maps.stages
        ]
        features = opening.features or {}
        self._tokens = [features.get(f"tokens_{stage.index}", ()) for stage in self._maps.stages]
        self._former = np.asarray(features.get(_SCORES, np.empty((0, 2))), np.float64)
        self._moments = [
            _kept(features, stage.index, stage.width).plus(_of(tokens, stage.width))
            for stage, tokens in zip(self._maps.stages, self._tokens, strict=True)
        ]
        self._subspaces = [Subspace.of(moments, opening.settings.variance) for moments in self._moments]

    def score(self, outputs: EncoderOutput) -> list[RawScore]:
        """Score N encoded frames."""
        stages = [np.asarray(outputs.tokens[position]) for position in self._positions]
        return [self._one([stage[n] for stage in stages], self._subspaces) for n in range(len(outputs.embedding))]

    def leave_out(self, groups: Sequence[int]) -> list[RawScore]:
        """Score each enrolled frame without its group's moments; a frame of a former enrolment keeps its score.

        Its tokens are gone. The score was found with fewer frames, so it is rather too large than too small.
        """
        found = [
            RawScore(text_score=None, raw_map=None, map_max=float(highest), raw_score=float(score))
            for score, highest in self._former
        ]
        former, share = len(found), self.opening.settings.variance
        new = list(groups)[former:]
        subspaces = {
            group: [
                Subspace.of(
                    moments.minus(_of([tokens[n] for n, its in enumerate(new) if its == group], stage.width)), share
                )
                for stage, moments, tokens in zip(self._maps.stages, self._moments, self._tokens, strict=True)
            ]
            for group in dict.fromkeys(new)
        }
        found += [
            self._one([np.asarray(tokens[n][0], np.float32) for tokens in self._tokens], subspaces[group])
            for n, group in enumerate(new)
        ]
        return found

    def summarise(self, raws: Sequence[RawScore]) -> Features:
        """Number, mean and scatter of each stage's patches, and each frame's left-out score."""
        kept: Features = {}
        if raws:
            kept[_SCORES] = np.array([(raw.raw_score, raw.map_max) for raw in raws], np.float32)
        for stage, moments in zip(self._maps.stages, self._moments, strict=True):
            kept[f"count_{stage.index}"] = np.array([moments.count], np.int64)
            kept[f"mean_{stage.index}"] = _halves(moments.mean)
            kept[f"scatter_{stage.index}"] = _halves(moments.packed())
        return kept

    def _one(self, tokens: Sequence[NDArray[np.float32]], subspaces: Sequence[Subspace]) -> RawScore:
        """Score one frame, (P, C) of each stage."""
        return self._maps.raw([subspace.residual(each) for subspace, each in zip(subspaces, tokens, strict=True)])


def extend(former: Features, added: Features, groups: Sequence[int]) -> Features:
    """What a bank holds, and the tokens of further frames: ``SubspaceMethod`` takes both.

    Raises:
        UsageError: the bank is of one frame, which was held against nothing and is not kept.
    """
    if _SCORES not in former:
        message = (
            "expected --append on a subspace bank of at least 2 independent frames, found one of a single one, which "
            f"has no score of its own; enrol all {len(groups)} frames anew."
        )
        raise UsageError(message)
    return {**former, **{name: each for name, each in added.items() if name.startswith("tokens_")}}


def _kept(features: Features, stage: int, width: int) -> Moments:
    """Moments that a bank holds; of no rows where it holds none."""
    if f"count_{stage}" not in features:
        return Moments.none(width)
    mean, scatter = (np.asarray(features[f"{name}_{stage}"], np.float64).sum(axis=0) for name in ("mean", "scatter"))
    return Moments.unpacked(int(features[f"count_{stage}"][0]), mean, scatter)


def _halves(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """(2, …) float32 whose sum is the float64 values to 48 bits: a file of tensors has no doubles."""
    upper = values.astype(np.float32)
    return np.stack([upper, (values - upper).astype(np.float32)])


def _of(frames: Sequence[NDArray[np.float32]], width: int) -> Moments:
    """Moments of the patches of frames (1 + A, P, C), all poses."""
    return moments_of(frames) if len(frames) else Moments.none(width)


SUBSPACE = MethodKind(
    name="subspace",
    summary="principal components of the enrolled patches explain a normal one; a tiny bank, fast on any device",
    settings=SubspaceSettings,
    open=SubspaceMethod,
    layout="summary",
    needs_frames=True,
    extend=extend,
)
