"""How far apart the text holds normal and abnormal, and which states work against the others.

A frame's text score is ``sigmoid(scale * F . (t_a - t_n))``: F the unit image embedding, t_n and t_a the pooled sides.
So ``cosine(t_n, t_a)`` says how alike the sides are (1: the text can tell nothing), and ``scale * |t_a - t_n|`` is the
largest difference of logits that any image could cause.

Two faults are named:

- **astray**: a state that lies nearer the mean of the other side than the mean of its own, its pair left out of both.
  An image that looked exactly like this very sentence would be called the opposite of what it says by the other
  states, so the state pulls its side towards the other and takes separation away. Where most states of a group are
  astray, the tower does not tell the group's two sides apart at all.
- **opposed**: two pairs whose directions (abnormal minus normal state) have a cosine below -1/2: averaged, less than
  half of either is left (the mean of two unit vectors has the length ``sqrt((1 + cosine) / 2)``). They belong into
  different groups.

``agreement`` is the length of the mean of a group's unit directions, 1 where all pairs point one way; directions that
know nothing of each other have ``1 / sqrt(pairs)`` on average, and below that averaging costs more than it would for
chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand.prompts.ensembles import Ensemble

__all__ = ["OPPOSED", "Embedded", "Fault", "GroupSeparation", "Separation", "separate"]

OPPOSED = -0.5

_TINY = 1e-12
_SHOWN = 4


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """One ensemble after the text tower.

    Attributes:
        ensemble: its states.
        normal: (states, D) float, the mean of each normal state's unit sentence embeddings, of length 1 again.
        abnormal: likewise.
        sides: (2, D) float, the pooled sides, rows (normal, abnormal).
    """

    ensemble: Ensemble
    normal: NDArray[np.floating]
    abnormal: NDArray[np.floating]
    sides: NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class GroupSeparation:
    """What one ensemble's text can tell.

    Attributes:
        name: of the ensemble.
        normal: number of normal states.
        abnormal: number of abnormal states.
        cosine: between the pooled sides.
        swing: largest difference of logits that an image could cause.
        agreement: of the directions of its pairs; None with fewer than two pairs.
    """

    name: str
    normal: int
    abnormal: int
    cosine: float
    swing: float
    agreement: float | None


@dataclass(frozen=True, slots=True)
class Fault:
    """States of one ensemble that work against the others.

    Attributes:
        group: name of the ensemble.
        kind: see the top of this module.
        states: that are at fault: one side's, or the abnormal halves of two pairs.
        sentence: for people.
    """

    group: str
    kind: Literal["astray", "opposed"]
    states: tuple[str, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class Separation:
    """Separation by ensemble, and the faults found."""

    groups: tuple[GroupSeparation, ...]
    faults: tuple[Fault, ...]


def separate(embedded: Sequence[Embedded], logit_scale: float = 100.0) -> Separation:
    """Measure ensembles and name the states that cancel each other.

    Args:
        embedded: the ensembles of one object.
        logit_scale: factor on cosines, 1 / temperature.
    """
    return Separation(
        tuple(_measure(one, logit_scale) for one in embedded),
        tuple(fault for one in embedded for fault in (*_astray(one), *_opposed(one))),
    )


def _measure(one: Embedded, scale: float) -> GroupSeparation:
    normal, abnormal = one.sides.astype(np.float64)
    lengths = np.linalg.norm(normal) * np.linalg.norm(abnormal)
    directions = _directions(one)
    return GroupSeparation(
        one.ensemble.name,
        len(one.normal),
        len(one.abnormal),
        float(normal @ abnormal / max(lengths, _TINY)),
        float(scale * np.linalg.norm(abnormal - normal)),
        float(np.linalg.norm(directions.mean(axis=0))) if len(directions) > 1 else None,
    )


def _directions(one: Embedded) -> NDArray[np.float64]:
    """(pairs, D) unit directions from the normal to the abnormal half of each pair, 0 where they are the same."""
    pairs = len(one.ensemble.pairs)
    if pairs == 0:
        return np.empty((0, one.sides.shape[1]))
    # The pairs' halves are the last states of either side, in the same order.
    return _unit(one.abnormal[-pairs:].astype(np.float64) - one.normal[-pairs:])


def _astray(one: Embedded) -> list[Fault]:
    """States nearer the other side than their own, in one fault for each side."""
    faults = []
    sides = {
        "normal": (one.ensemble.normal, one.normal, one.abnormal),
        "abnormal": (one.ensemble.abnormal, one.abnormal, one.normal),
    }
    for side, (states, own, other) in sides.items():
        lost = tuple(
            state for place, state in enumerate(states) if _is_astray(place, own, other, len(one.ensemble.pairs))
        )
        if lost:
            named = ", ".join(map(repr, lost[:_SHOWN])) + (f" and {len(lost) - _SHOWN} more" if lost[_SHOWN:] else "")
            verb = "lies" if len(lost) == 1 else "lie"
            sentence = (
                f"{one.ensemble.name}: {len(lost)} of {len(states)} {side} states {verb} nearer the other side than "
                f"their own: {named}; leave out or reword"
            )
            faults.append(Fault(one.ensemble.name, "astray", lost, sentence))
    return faults


def _is_astray(place: int, own: NDArray[np.floating], other: NDArray[np.floating], pairs: int) -> bool:
    """Whether a state of ``own`` is nearer the mean of ``other``, without its own half and its pair's other half.

    The last ``pairs`` rows of both sides belong together, from the end.
    """
    from_end = len(own) - place
    rest = np.delete(own, place, axis=0)
    others = np.delete(other, len(other) - from_end, axis=0) if from_end <= pairs else other
    if not len(rest) or not len(others):
        return False
    near, far = (float(own[place] @ _unit(rows.mean(axis=0, dtype=np.float64)[None])[0]) for rows in (rest, others))
    return far > near


def _opposed(one: Embedded) -> list[Fault]:
    """Pairs that take each other away when they are averaged."""
    directions = _directions(one)
    faults = []
    for (i, first), (j, second) in combinations(enumerate(one.ensemble.pairs), 2):
        cosine = float(directions[i] @ directions[j])
        if cosine < OPPOSED:
            sentence = (
                f"{one.ensemble.name}: {first.abnormal!r} and {second.abnormal!r} point against each other (cosine "
                f"{cosine:.2f}) and cancel when averaged; put them into different groups"
            )
            faults.append(Fault(one.ensemble.name, "opposed", (first.abnormal, second.abnormal), sentence))
    return faults


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of length 1; a row of zeros stays."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), _TINY), np.float64)
