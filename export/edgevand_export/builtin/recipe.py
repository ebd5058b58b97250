"""What the built-in bundle is made of: the choices that docs/builtin.md measures and explains."""

from __future__ import annotations

from edgevand.bundle import EnrolRecord, ScoreRecord
from edgevand_export.builtin.corpus import Plan
from edgevand_export.builtin.descriptor import LEVELS
from edgevand_export.builtin.metric import FitPlan
from edgevand_export.builtin.train import Recipe

__all__ = ["DURATION", "ENROL", "FIT", "KNOWN", "RECIPE", "SCORE", "STAGES", "TRAINING", "UNKNOWN"]

STAGES = LEVELS
"""The two descriptions (``descriptor``): the surface, stride 16, and the context, stride 32."""

FIT = FitPlan()

ENROL = EnrolRecord(augment=("rotate",))
"""Every enrolled frame in eight poses: surfaces have no upright (docs/builtin.md)."""

SCORE = ScoreRecord(terms=("memory-map",), image="top1%", usual_sd=0.32)
"""Text and heads know drawings only; summed in, they spoil the ranking of photographs (docs/builtin.md). The usual
deviation is that of ``bench/calibration.py`` on scenes of all kinds (docs/calibration.md)."""

RECIPE = Recipe(steps=1500)

TRAINING = Plan(seeds=tuple(range(10)), normal=3, defective=4)
"""Ten designs of each trained object; 25 make little difference (docs/builtin.md)."""

KNOWN = Plan(seeds=(1000, 1001), normal=2, defective=3)
"""Held out: further designs of the trained objects."""

UNKNOWN = Plan(seeds=(1000, 1001, 1002, 1003), normal=4, defective=6)
"""Held out: objects that are never trained on."""

DURATION = "about 10 minutes of one core"
"""Of the whole run, as measured, for the model card."""
