"""What april-gan settles at enrolment, from normal frames alone: locality, stages and the scales of a fusion.

Of many frames eight are looked at, of different groups and spread evenly, each held against the others.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, cast

import numpy as np

from edgevand_runtime.engines import EncoderOutput
from edgevand_runtime.methods.april_gan import check_stages
from edgevand_runtime.methods.levers.alignment import LEAST_FRAMES, bare_search, choose_radius, spread_frames
from edgevand_runtime.methods.levers.fusion import scale_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from edgevand_runtime.methods.april_gan import AprilGan, AprilGanSettings
    from edgevand_runtime.methods.base import Enrolled
    from edgevand_runtime.methods.levers.fusion import Scale

__all__ = ["choose"]

_CLEARLY = 0.75
"""Eight frames tell a deviation to a quarter: what spreads less by less than that may be chance."""


def choose(enrolled: Enrolled, settings: AprilGanSettings) -> tuple[AprilGanSettings, tuple[str, ...]]:
    """Settle automatic settings.

    Args:
        enrolled: the frames.
        settings: as wished.

    Returns:
        The settings without an ``auto``, and a sentence on each choice.

    Raises:
        UsageError: stages are wanted that the bundle does not have.
    """
    manifest = enrolled.manifest
    told: list[str] = []
    check_stages(manifest, settings)
    if settings.locality == "auto":
        tokens = [enrolled.features[f"tokens_{stage.index}"] for stage in manifest.stages]
        grids = [stage.grid for stage in manifest.stages]
        radius, why = choose_radius(tokens, grids, enrolled.groups, enrolled.inside)
        settings = settings.model_copy(update={"locality": "off" if radius is None else radius})
        told.append(why)
    if settings.stages != "auto" and settings.fusion == "sum":
        return settings, tuple(told)
    frames = spread_frames(enrolled.groups)
    if len(frames) < LEAST_FRAMES:
        told.append(
            f"stages all and fusion sum: {len(frames)} independent frame{'s' if len(frames) > 1 else ''} tell nothing "
            f"of how scores spread, {LEAST_FRAMES} do."
        )
        usual = {"stages": "all" if settings.stages == "auto" else settings.stages, "fusion": "sum"}
        return settings.model_copy(update=usual), tuple(told)
    trial = _Trial(enrolled, settings, frames)
    if settings.stages == "auto":
        stages, why = _choose_stages(trial, settings)
        settings = settings.model_copy(update={"stages": stages})
        told.append(why)
    if settings.fusion != "sum":
        settings, why = _choose_scales(trial, settings)
        told.append(why)
    return settings, tuple(told)


class _Trial:
    """Some enrolled frames, each held against the others."""

    def __init__(self, enrolled: Enrolled, settings: AprilGanSettings, frames: Sequence[int]) -> None:
        manifest = enrolled.manifest
        self.stages = [stage.index for stage in manifest.stages]
        self._heads = [stage.index for stage in manifest.stages if stage.head]
        self._features = features = {name: _some(name, each, frames) for name, each in enrolled.features.items()}
        radius = None if isinstance(settings.locality, str) else settings.locality
        tokens, grids = [features[f"tokens_{stage}"] for stage in self.stages], [s.grid for s in manifest.stages]
        search = bare_search(tokens, grids, radius)
        self._manifest, self._inside, self._search = manifest, enrolled.inside, search
        self._distances = search.leave_out(range(len(frames)))
        self._frames = range(len(frames))

    def terms(self, settings: AprilGanSettings) -> list[dict[str, float]]:
        """What each frame's score would be made of, by the method that it is or one made of it."""
        from edgevand_runtime.methods import open_method

        manifest = self._manifest.model_copy(update={"settings": settings.model_dump(mode="json")})
        text = self._features.get("text")
        opened = open_method(manifest, text, self._search, self._inside, features=self._features)
        method = cast("AprilGan", opened)
        terms = []
        for frame in self._frames:
            outputs = EncoderOutput(
                embedding=np.asarray(self._features["embedding"][frame : frame + 1], np.float32),
                tokens=(),
                logits=tuple(self._features[f"logits_{stage}"][frame : frame + 1] for stage in self._heads),
            )
            distances = [stage[frame : frame + 1] for stage in self._distances]
            (found,) = method.find_without(outputs, distances, np.array(self._frames) == frame)
            terms.append(found.terms)
        return terms


def _choose_stages(trial: _Trial, settings: AprilGanSettings) -> tuple[tuple[int, ...], str]:
    """The stages, at least half of them, whose map's term spreads least: sd of its logarithm."""
    least = (len(trial.stages) + 1) // 2
    spreads: dict[tuple[int, ...], float] = {}
    for count in range(len(trial.stages), least - 1, -1):
        for stages in combinations(trial.stages, count):
            tops = [terms["map"] for terms in trial.terms(settings.model_copy(update={"stages": stages}))]
            spreads[stages] = scale_of("map", tops, floor=0)[1]
    best = min(spreads, key=lambda stages: spreads[stages])
    every = tuple(trial.stages)
    whole = f"{spreads[every]:.3f} with all of {','.join(map(str, every))} (deviation of ln)"
    if spreads[best] > _CLEARLY * spreads[every]:
        return every, f"stages all: scores of normal frames spread by {whole}, and not clearly less with fewer."
    return best, f"stages {','.join(map(str, best))}: scores of normal frames spread by {spreads[best]:.3f}, {whole}."


def _choose_scales(trial: _Trial, settings: AprilGanSettings) -> tuple[AprilGanSettings, str]:
    """What is usual of each term."""
    terms = trial.terms(settings)
    names = list(terms[0])
    if "map" not in names or len(names) == 1:
        why = f"fusion sum: the score has the term {' and '.join(names) or 'of none'} alone, nothing to bring together."
        return settings.model_copy(update={"fusion": "sum"}), why
    scales: dict[str, Scale] = {name: scale_of(name, [each[name] for each in terms]) for name in names}
    usual = ", ".join(f"{name} {mean:.2f} ± {sd:.2f}" for name, (mean, sd) in scales.items())
    why = f"fusion {settings.fusion} of {', '.join(names)}: usual among these frames is {usual} (ln; logit of text)."
    return settings.model_copy(update={"scales": scales}), why


def _some(name: str, tensor: Any, frames: Sequence[int]) -> Any:  # noqa: ANN401 - an array, or a list of them
    """What a tensor of a bank says of some frames."""
    if name == "text" or name.startswith("own_"):
        return tensor
    return [tensor[frame] for frame in frames] if name.startswith("tokens_") else np.asarray(tensor)[list(frames)]
