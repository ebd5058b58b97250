"""Prompt packs: the sentences that tell normal from abnormal.

A pack has states (``flawless {}``), templates (``a photo of a {}.``) and the rule by which the embeddings of one
side become one vector. A sentence is ``template(state(object))``, the object's name as written. The packs of
``prompts.json``: ``april-gan`` (arXiv 2305.17382), ``winclip``, ``anovl``, ``vvv``, ``loco``.

A pack may have groups besides: pairs of a normal and an abnormal state for one kind of mistake (a part in the wrong
place, one missing, one too many, a wrong size), for every object and for single categories (``ensembles``).
"""

from __future__ import annotations

from edgevand.prompts.ensembles import Combine, Domain, Ensemble, Wording, word
from edgevand.prompts.packs import (
    DEFAULT_PACK,
    Category,
    Groups,
    Pair,
    Pooling,
    PromptPack,
    compile_prompts,
    load_pack,
    pack_names,
)
from edgevand.prompts.separation import Embedded, Fault, GroupSeparation, Separation, separate

__all__ = [
    "DEFAULT_PACK",
    "Category",
    "Combine",
    "Domain",
    "Embedded",
    "Ensemble",
    "Fault",
    "GroupSeparation",
    "Groups",
    "Pair",
    "Pooling",
    "PromptPack",
    "Separation",
    "Wording",
    "compile_prompts",
    "load_pack",
    "pack_names",
    "separate",
    "word",
]
