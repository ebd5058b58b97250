"""What a method is: it turns encoder outputs into a raw map and a raw score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgevand_runtime.engines import EncoderOutput

__all__ = ["Method", "RawScore", "Search"]


@dataclass(frozen=True, slots=True, eq=False)
class RawScore:
    """A method's verdict on one frame, before calibration.

    Attributes:
        text_score: abnormal probability that the text gives, in [0, 1]; None without text.
        raw_map: (S_h, S_w) float32 at the bundle's image size, 0 outside the region of interest; None without a map.
        map_max: maximum of the raw map; None without a map.
        raw_score: the method's image score.
    """

    text_score: float | None
    raw_map: NDArray[np.float32] | None
    map_max: float | None
    raw_score: float


class Search(Protocol):
    """A memory bank, wherever it is searched."""

    def distances(self, queries: Sequence[Any]) -> list[NDArray[np.float32]]:
        """Distance of every patch of N frames to the nearest enrolled one; see ``MemoryBank.distances``."""

    def leave_out(self, groups: Sequence[int]) -> list[NDArray[np.float32]]:
        """Distances of the enrolled frames to those of other groups; see ``MemoryBank.leave_out``."""


class Method(Protocol):
    """Scores frames; heavy state is built once in the constructor."""

    def score(self, outputs: EncoderOutput) -> list[RawScore]:
        """Score N encoded frames."""

    def leave_out(self, outputs: EncoderOutput, groups: Sequence[int]) -> list[RawScore]:
        """Score the F enrolled frames, each against the frames of the other groups (methods.md (g))."""

    def combine(self, outputs: EncoderOutput, distances: Sequence[NDArray[np.float32]] | None) -> list[RawScore]:
        """Score N frames whose distances to a bank are known: for each stage (N, P); None without a bank."""
