"""Evaluation: a labelled dataset becomes the field's metrics, through the path of ``score`` (docs/evaluate.md)."""

from __future__ import annotations

from edgevand_runtime.evaluation.options import EvaluateOptions
from edgevand_runtime.evaluation.run import evaluate

__all__ = ["EvaluateOptions", "evaluate"]
