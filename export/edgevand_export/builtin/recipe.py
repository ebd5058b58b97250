"""What the built-in bundle is made of: the choices that docs/builtin.md measures and explains."""

from __future__ import annotations

from edgevand.bundle import ScoreRecord
from edgevand_export.builtin.corpus import Plan
from edgevand_export.builtin.train import Recipe

__all__ = ["DURATION", "KNOWN", "RECIPE", "SCORE", "STAGES", "TRAINING", "UNKNOWN"]

STAGES = (3, 4, 5)
"""Feature levels: strides 8, 16 and 32."""

SCORE = ScoreRecord(terms=("memory-map",), image="max")
"""Text and heads know drawings only; summed in, they spoil the ranking of photographs (docs/builtin.md)."""

RECIPE = Recipe()

TRAINING = Plan(seeds=tuple(range(25)), normal=3, defective=4)
"""Twenty-five designs of each trained object."""

KNOWN = Plan(seeds=(1000, 1001), normal=2, defective=3)
"""Held out: further designs of the trained objects."""

UNKNOWN = Plan(seeds=(1000, 1001, 1002, 1003), normal=4, defective=6)
"""Held out: objects that are never trained on."""

DURATION = "about 10 minutes of one core"
"""Of the whole run, as measured, for the model card."""
