"""USTC-IAT-United on MVTec LOCO: APRIL-GAN with text that knows logical mistakes (methods.md (c)).

::

    append           t_n, t_a of all states together; scored as APRIL-GAN
    per-group-max    s = max over g of sigmoid(100 F_c . (t_a^g - t_n^g)), g among structural and the pack's groups

The graph draws its zero-shot map with one pair of vectors: that of all states or, in ``per-group-max``, of the plain
ones (structural); the groups speak of the whole frame. What fired is told in words: the group with the largest
probability and, of its states, the one whose direction the frame follows furthest.

The text is a table in the bundle, made by ``edgevand export --method ustc-loco``: for each object a tensor
``sides:<object>`` (1 + G, 2, D), of all states and then of each group, and ``directions:<object>`` (P, D), from
normal to each abnormal state, group after group; ``words`` says in JSON what these are called (``Table``).
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from edgevand.errors import FormatError, UsageError
from edgevand_runtime.methods.april_gan import AprilGan, AprilGanSettings, decide, local_memory
from edgevand_runtime.methods.base import MethodKind, Opening, RawScore, Worded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.engines import EncoderOutput

__all__ = ["USTC_LOCO", "Table", "UstcLoco", "UstcLocoSettings", "pack_json"]


class UstcLocoSettings(AprilGanSettings):
    """What APRIL-GAN has, and how its text is made."""

    combine: Literal["append", "per-group-max"] = Field(
        default="append",
        description="all states into one pair of vectors; or each group by itself and the largest probability, which "
        "also tells what fired",
    )
    pack: str = Field(
        default="loco",
        description="at export: prompt pack or prompts file (`edgevand prompts`) that the text is made of",
    )
    domain: Literal["none", "auto", "object", "texture"] = Field(
        default="auto",
        description="at export: templates after AnoVL besides the pack's own; auto: texture for classes that are one",
    )


class Table(BaseModel):
    """``words``: what the rows of the tensors are called.

    Attributes:
        pack: that the text was made of.
        domain: that its templates were chosen for.
        objects: by name, the wording that each has.
        wordings: for each group its name and abnormal states in order, the object left out.
    """

    pack: str
    domain: str
    objects: dict[str, str]
    wordings: dict[str, tuple[tuple[str, tuple[str, ...]], ...]]


class UstcLoco(AprilGan):
    """APRIL-GAN with the text of groups."""

    def __init__(self, opening: Opening) -> None:
        """Take the groups' text out of the object's tensors.

        Raises:
            FormatError: bundle or bank hold other tensors.
        """
        super().__init__(opening)
        self._grouped = opening.settings.combine == "per-group-max"
        if not self._grouped:
            return
        sides = np.asarray(_tensor(opening.own, "sides"), np.float32)[1:]
        self._differences = sides[:, 1] - sides[:, 0]
        self._directions = np.asarray(_tensor(opening.own, "directions"), np.float32)
        (self._words,) = _table(opening.own).wordings.values()
        self._rows = list(pairwise(accumulate((len(states) for _, states in self._words), initial=0)))
        if len(self._words) != len(sides) or self._rows[-1][1] != len(self._directions):
            raise _damaged()

    def combine(self, outputs: EncoderOutput, distances: Sequence[NDArray[np.float32]] | None) -> list[RawScore]:
        """As APRIL-GAN's, with the reason."""
        return self._told(outputs, super().combine(outputs, distances))

    def combine_without(
        self, outputs: EncoderOutput, distances: Sequence[NDArray[np.float32]], left_out: NDArray[np.bool_]
    ) -> list[RawScore]:
        """As APRIL-GAN's, with the reason."""
        return self._told(outputs, super().combine_without(outputs, distances, left_out))

    def _text_scores(self, embedding: NDArray[np.float32]) -> list[float] | list[None]:
        if not self._grouped:
            return super()._text_scores(embedding)
        return [float(each.max()) for each in self._probabilities(embedding)]

    def _told(self, outputs: EncoderOutput, raws: list[RawScore]) -> list[RawScore]:
        if not self._grouped:
            return raws
        found = zip(raws, outputs.embedding, self._probabilities(outputs.embedding), strict=True)
        return [replace(raw, reason=self._reason(one, each)) for raw, one, each in found]

    def _probabilities(self, embedding: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N, G) abnormal probability that each group gives to each of N unit embeddings."""
        logits = self.opening.manifest.logit_scale * (embedding @ self._differences.T)
        # In double precision: a float32 is 1 from 17 on, where frames lose their order.
        return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))))

    def _reason(self, embedding: NDArray[np.float32], probabilities: NDArray[np.float64]) -> str:
        """The group that says anomalous most, its state that speaks loudest, and the probability."""
        group = int(probabilities.argmax())
        name, states = self._words[group]
        first, last = self._rows[group]
        state = states[int((self._directions[first:last] @ embedding).argmax())]
        return f"{name}: {state!r} ({probabilities[group]:.2f})"


def pack_json(table: Table) -> NDArray[np.uint8]:
    """A table as a tensor: UTF-8 of JSON."""
    return np.frombuffer(json.dumps(table.model_dump(), ensure_ascii=False).encode(), np.uint8)


def _worded(settings: UstcLocoSettings, own: Mapping[str, NDArray[Any]]) -> dict[str, Worded]:
    """Text of every object in the bundle."""
    table = _table(own)
    for option, made, wanted in (("pack", table.pack, settings.pack), ("domain", table.domain, settings.domain)):
        if made != wanted:
            raise UsageError(
                f"expected --set {option}={made}, which the bundle's text was made with, found {wanted}; prepare "
                f"another bundle with edgevand export --method ustc-loco --set {option}={wanted}"
            )
    found = {}
    for name, wording in table.objects.items():
        if wording not in table.wordings:
            raise _damaged()
        words = table.model_copy(update={"objects": {name: wording}, "wordings": {wording: table.wordings[wording]}})
        tensors = {
            "sides": _tensor(own, f"sides:{name}"),
            "directions": _tensor(own, f"directions:{name}"),
            "words": pack_json(words),
        }
        row = 1 if settings.combine == "per-group-max" else 0
        found[name] = Worded(np.asarray(tensors["sides"][row], np.float32), tensors)
    return found


def _table(own: Mapping[str, NDArray[Any]]) -> Table:
    try:
        return Table.model_validate_json(np.asarray(_tensor(own, "words"), np.uint8).tobytes())
    except ValidationError as error:
        raise _damaged() from error


def _tensor(own: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name not in own:
        raise _damaged()
    return own[name]


def _damaged() -> FormatError:
    return FormatError(
        "expected the text of ustc-loco in bundle or bank, found other tensors; prepare the bundle again with edgevand "
        "export --method ustc-loco, then enrol again"
    )


USTC_LOCO = MethodKind(
    name="ustc-loco",
    summary="april-gan with text for logical mistakes (misplaced, missing, surplus, misshapen parts), told apart",
    settings=UstcLocoSettings,
    open=UstcLoco,
    searches=True,
    usual_spread=True,
    memory=local_memory,
    poses=False,
    prepared=True,
    worded=_worded,
    decide=decide,
)
