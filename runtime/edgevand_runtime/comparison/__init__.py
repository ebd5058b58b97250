"""Which method serves this camera: the same frames through several methods, side by side (docs/compare.md).

``frames`` takes them, ``candidates`` says which methods there are to try, ``measure`` enrols and scores with one,
``recommend`` chooses, ``report`` writes it down. None of them knows a method by name.
"""

from __future__ import annotations

from edgevand_runtime.comparison.run import COMPARISON_SCHEMA, CompareOptions, compare

__all__ = ["COMPARISON_SCHEMA", "CompareOptions", "compare"]
