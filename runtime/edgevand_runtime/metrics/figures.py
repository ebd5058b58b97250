"""Named figures, each a number or None with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Figures"]


@dataclass(frozen=True, slots=True)
class Figures:
    """Metrics by name.

    ``values`` are fractions in [0, 1], None where undefined; ``reasons`` has one sentence for each None.
    """

    values: dict[str, float | None]
    reasons: dict[str, str]

    @classmethod
    def undefined(cls, names: Iterable[str], reason: str) -> Figures:
        """All of them undefined for one reason."""
        names = tuple(names)
        return cls(dict.fromkeys(names), dict.fromkeys(names, reason))
