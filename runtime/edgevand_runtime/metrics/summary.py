"""Figures over figures: harmonic mean, the VAND 2023 score, the AUFC of the VAND few-shot track."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from edgevand.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Aufc", "aufc", "harmonic_mean", "vand_score"]


@dataclass(frozen=True, slots=True)
class Aufc:
    """Area under F1-max over the number of shots.

    ``raw``: trapezoids over k itself, at most 7 for k = 1..8; ``normalised``: over k brought to [0, 1], at most 1;
    ``mean``: the plain mean of the F(k). All None where an F(k) is.
    """

    raw: float | None
    normalised: float | None
    mean: float | None


def harmonic_mean(a: float | None, b: float | None) -> float | None:
    """2ab / (a + b) of two values in [0, 1], 0 where both are 0; None where one is None."""
    if a is None or b is None:
        return None
    return 2 * a * b / (a + b) if a + b else 0.0


def vand_score(image_f1: Sequence[float | None], pixel_f1: Sequence[float | None]) -> float | None:
    """The VAND 2023 score: the harmonic mean of image and pixel F1-max of each class, averaged over classes.

    Args:
        image_f1: image F1-max of each class.
        pixel_f1: pixel F1-max of the same classes in the same order.

    Returns:
        A value in [0, 1]; None where there is no class, or one lacks a figure: a mean over fewer would be another.

    Raises:
        UsageError: the numbers of classes differ.
    """
    if len(image_f1) != len(pixel_f1):
        raise UsageError(
            f"the VAND score needs both F1-max of each class, but got {len(image_f1)} of images and {len(pixel_f1)} "
            "of pixels; pass None where one is undefined"
        )
    found = [harmonic_mean(a, b) for a, b in zip(image_f1, pixel_f1, strict=True)]
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if known and len(known) == len(found) else None


def aufc(by_shots: Mapping[int, float | None]) -> Aufc:
    """Area under the F1-max curve over the number of shots.

    Args:
        by_shots: for each number of shots k (the track's are 1, 2, 4, 8) image F1-max, first averaged over seeds,
            then over categories.

    Raises:
        UsageError: fewer than two numbers of shots.
    """
    shots = sorted(by_shots)
    if len(shots) < 2:  # noqa: PLR2004 - a curve has two ends
        raise UsageError(f"AUFC needs at least two numbers of shots, but got {shots}; the track's are 1, 2, 4 and 8")
    found = [value for k in shots if (value := by_shots[k]) is not None]
    if len(found) < len(shots):
        return Aufc(raw=None, normalised=None, mean=None)
    widths = [after - before for before, after in pairwise(shots)]
    raw = sum(width * (a + b) / 2 for width, (a, b) in zip(widths, pairwise(found), strict=True))
    return Aufc(raw=raw, normalised=raw / (shots[-1] - shots[0]), mean=sum(found) / len(found))
