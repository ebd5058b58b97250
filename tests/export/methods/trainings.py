"""Trainings of a second, and how the tests run them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand_export.methods import TRAINERS
from edgevand_runtime.stop import Stop
from tests.tiny import draw_part

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["SETTINGS", "lit_part", "run"]

_GCAD = {
    "backbone": "resnet18",
    "image_size": 64,
    "tile": 16,
    "channels": [4, 4, 4, 4, 4],
    "epochs": 2,
    "copies": 1,
    "batch": 4,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "simplenet": {"backbone": "resnet18", "image_size": 64, "dim": 12, "hidden": 8, "passes": 2, "batch": 2},
    "gcad": _GCAD,
    "gcad-self": _GCAD,
}


def lit_part(number: int) -> Any:
    """A good part, (96, 128, 3) uint8 BGR, in a light of its own: no two are copies of one another."""
    return draw_part(number) + np.uint8(4 * number)


def run(
    method: str,
    frames: Sequence[Any],
    weights: Path,
    output: Path,
    *,
    report: Callable[[str], None] = lambda _: None,
    stop: Stop | None = None,
    resume: bool = False,
    **changes: Any,
) -> Path | None:
    """Train with the small settings and some changes."""
    settings = {**SETTINGS[method], **changes}
    nothing: Any = None  # no trainer looks at the bundle
    return TRAINERS[method](
        nothing, frames, settings, (weights,), output, report=report, stop=stop or Stop(), resume=resume
    )
