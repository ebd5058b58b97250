"""Numbers as a person reads them: percentages, means with their deviations, lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DASH", "machine", "moment", "numbers", "percent", "percent_words", "shots_words", "spread"]

DASH = "\N{EN DASH}"
"""What stands for a value that is undefined."""


def moment(text: str) -> str:
    """A time of ISO 8601 to the minute."""
    return text[:16].replace("T", " ") + (" UTC" if text.endswith(("Z", "+00:00")) else "")


def numbers(values: object) -> str:
    """A list as a person writes it."""
    return ", ".join(str(value) for value in values) if isinstance(values, list | tuple) else str(values)


def machine(machine: Mapping[str, Any]) -> str:
    """Processor, cores and engine."""
    cores = machine["cores"]
    return f"{machine['cpu']}, {cores} {'core' if cores == 1 else 'cores'}, {machine['engine']}"


def shots_words(k: int) -> str:
    """``1 shot``, ``4 shots``."""
    return f"{k} shot" if k == 1 else f"{k} shots"


def percent(value: float) -> str:
    """A fraction as a percentage with one digit after the point."""
    return f"{100 * value:.1f}"


def percent_words(rate: float | None) -> str:
    """A rate as ``1 %``, with as many digits as it needs."""
    return DASH if rate is None else f"{100 * rate:.3g} %"


def spread(mean: float, std: float | None, n: int | None) -> str:
    """``95.1 ± 0.3``, or the mean alone where there is nothing to spread."""
    return percent(mean) if not std or (n or 0) <= 1 else f"{percent(mean)} ± {percent(std)}"
