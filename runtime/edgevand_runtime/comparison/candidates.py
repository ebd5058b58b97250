"""Which methods there are to compare: every method on every bundle that has what it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevand.errors import UsageError
from edgevand_runtime.methods import METHODS
from edgevand_runtime.methods.choosing import find_kind, seen_as

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevand.bundle import Bundle

__all__ = ["Candidate", "LeftOut", "find_candidates"]


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A method with its options on a bundle.

    Attributes:
        label: what to call it in tables.
        view: the bundle, as the method sees it.
    """

    label: str
    view: Bundle


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was not compared, and why."""

    label: str
    reason: str


def find_candidates(
    bundles: Sequence[Bundle], wanted: Sequence[str] = ()
) -> tuple[tuple[Candidate, ...], tuple[LeftOut, ...]]:
    """Methods to compare.

    Args:
        bundles: at least one.
        wanted: ``NAME`` or ``NAME:key=value:key=value`` each; empty takes every method that a bundle is ready for.

    Returns:
        What can be tried, and what is left out because no bundle was prepared for it.

    Raises:
        UsageError: a method or option that does not exist, or one that was asked for and that no bundle is ready for.
    """
    found, left_out = [], []
    for text in wanted or tuple(METHODS):
        name, *pairs = text.split(":")
        kind = find_kind(name)
        ready = [bundle for bundle in bundles if not kind.prepared or bundle.prepared_for(name) is not None]
        if not ready:
            reason = f"needs a bundle prepared with edgevand export --method {name}"
            if wanted:
                raise UsageError(f"expected a --bundle that is ready for {name}, found none; it {reason}")
            left_out.append(LeftOut(name, reason))
        for bundle in ready:
            label = text if len(bundles) == 1 else f"{text} on {bundle.path.name}"
            found.append(Candidate(label, seen_as(bundle, name, pairs=pairs)))
    return tuple(found), tuple(left_out)
