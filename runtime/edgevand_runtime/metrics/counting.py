"""How many of very many scores lie below some values: sorted block by block, in bounded memory.

Every exact metric here needs only this of the negatives: how many of them score above, and how many at, each score
that a positive has. So negatives are never kept in order, nor paired with labels: all scores pass through one buffer
of ``BLOCK`` values, which is sorted by value alone (vectorised in NumPy) and searched for the wanted values, and what
the positives add to the counts is taken off again by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgevand.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import DTypeLike, NDArray

    from edgevand_runtime.metrics.steps import Floats

__all__ = ["BLOCK", "Counts", "count", "score_type"]

BLOCK = 1 << 24
"""Scores that are sorted at a time: 64 MiB of float32."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Of all scores, how many are ``below`` and how many ``up_to`` (below or equal) each wanted value: (M,) int64."""

    below: NDArray[np.int64]
    up_to: NDArray[np.int64]


def score_type(who: str, dtypes: Iterable[DTypeLike]) -> np.dtype[np.floating]:
    """The floating type that holds all these scores without changing their order.

    Raises:
        UsageError: scores that are not numbers.
    """
    found = np.result_type(np.float32, *dtypes)
    if found.kind != "f":
        raise UsageError(f"{who} needs scores that are real numbers, but found {found}; leave out what has no score")
    return found


def count(scores: Iterable[Floats], total: int, wanted: Sequence[Floats], dtype: np.dtype[np.floating]) -> list[Counts]:
    """Count the scores around each wanted value.

    Args:
        scores: arrays of any shape, without NaN, read once, one after the other.
        total: how many scores these are in all.
        wanted: for each result its values, (M,) in ascending order, of ``dtype``.
        dtype: type in which scores are compared.

    Returns:
        One ``Counts`` for each of ``wanted``. Beside them it holds min(total, BLOCK) values.
    """
    found = [Counts(np.zeros(values.size, np.int64), np.zeros(values.size, np.int64)) for values in wanted]
    buffer = np.empty(min(total, BLOCK), dtype)
    held = 0
    for array in scores:
        flat = array.reshape(-1)
        start = 0
        while start < flat.size:
            taken = min(flat.size - start, buffer.size - held)
            buffer[held : held + taken] = flat[start : start + taken]
            start, held = start + taken, held + taken
            if held == buffer.size:
                _add(buffer, wanted, found)
                held = 0
    if held:
        _add(buffer[:held], wanted, found)
    return found


def _add(block: Floats, wanted: Sequence[Floats], found: list[Counts]) -> None:
    block.sort()
    for values, counts in zip(wanted, found, strict=True):
        counts.below[...] += block.searchsorted(values, side="left")
        counts.up_to[...] += block.searchsorted(values, side="right")
