"""Sentences for drawn pictures, from the prompt packs that the bundle's text embeddings are made with."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from edgevand.prompts import PromptPack, load_pack
from edgevand_runtime.drawn.catalogue import CATALOGUE

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["HELD_OUT", "OBJECTS", "TRAINED", "sentence", "spoken_name"]

HELD_OUT = ("gear", "key", "leather", "dial")
"""Drawn objects that are never trained on: their pictures judge what the heads do on the unknown."""

TRAINED = tuple(name for name in CATALOGUE if name not in HELD_OUT)

GENERIC = ("object", "part", "product", "item", "thing", "component", "workpiece", "surface", "piece")

OTHERS = (
    "metal_nut", "bolt", "nut", "ring", "plate", "casting", "board", "pcb", "chip", "cap", "can", "box",
    "package", "tube", "pipe", "wheel", "bearing", "spring", "toy", "capsule", "grid", "toothbrush",
    "transistor", "zipper", "paper", "glass", "textile",
)  # fmt: skip

OBJECTS = (*GENERIC, *CATALOGUE, *OTHERS)
"""Names whose text embeddings the bundle stores. Those that are neither generic nor drawn were never seen."""

_PACKS = ("april-gan", "winclip")
_GENERIC_SHARE = 0.3
_FREE_SHARE = 0.15


def spoken_name(name: str, rng: Generator) -> str:
    """What a picture's object is called in one caption: its name, a generic word, or now and then any word.

    Without the last two the heads would know what a scratch is only beside the names of the drawn parts.
    """
    share = rng.random()
    if share < _GENERIC_SHARE:
        return GENERIC[rng.integers(len(GENERIC))]
    if share < _GENERIC_SHARE + _FREE_SHARE:
        return OBJECTS[rng.integers(len(OBJECTS))]
    return name


def sentence(name: str, rng: Generator, *, abnormal: bool) -> str:
    """A sentence of a prompt pack about an object.

    Args:
        name: as spoken.
        rng: chooses pack, state and template.
        abnormal: which side.
    """
    pack = _packs()[rng.integers(len(_PACKS))]
    states = pack.abnormal_states if abnormal else pack.normal_states
    state = states[rng.integers(len(states))].replace("{}", name)
    return pack.templates[rng.integers(len(pack.templates))].replace("{}", state)


@cache
def _packs() -> tuple[PromptPack, ...]:
    """The packs, read once."""
    return tuple(map(load_pack, _PACKS))
