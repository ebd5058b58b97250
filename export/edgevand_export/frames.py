"""Frames for another precision: some set the scales of int8, the others judge it (docs/precision.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevand.errors import BadInputError
from edgevand_runtime.gate import MIN_FRAMES
from edgevand_runtime.shots import STREAM_INTERVAL, ShotTaker
from edgevand_runtime.sources import open_source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["DRAWN", "Frames", "take_frames"]

WANTED = 16
FEWEST = 2 * MIN_FRAMES
"""Half of them judge, and a judgement needs ``gate.MIN_FRAMES``."""

DRAWN = "test://conveyor"
"""Parts drawn by the program, where nobody gives frames and none set scales (fp16)."""


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Frames of one scene, (H, W, 3) uint8 BGR each.

    Attributes:
        scaling: set the scales.
        judging: every second one, which no scale has seen.
        groups: of the judging frames; near-copies share a number.
    """

    scaling: tuple[NDArray[np.uint8], ...]
    judging: tuple[NDArray[np.uint8], ...]
    groups: tuple[int, ...]


def take_frames(uri: str) -> Frames:
    """Take the first 16 fit frames of a source, as enrolment takes them, and share them out in turn.

    Args:
        uri: folder, video, camera, …; see ``sources.open_source``.

    Raises:
        BadInputError: fewer than ``FEWEST`` independent frames, or none at all.
        SourceError: the source cannot be opened.
    """
    with open_source(uri) as source:
        taker = ShotTaker(source, STREAM_INTERVAL, lambda _: None, lambda _: None)
        taker.take(WANTED)
    judging = taker.shots[1::2]
    if len({shot.group for shot in judging}) < MIN_FRAMES:
        refused = (
            f", {len(taker.refused)} were refused, the first as {taker.refused[0].reason}" if taker.refused else ""
        )
        raise BadInputError(
            f"expected at least {FEWEST} different frames in {source.uri} to calibrate with (half set the scales, half "
            f"judge), found {len({shot.group for shot in taker.shots})}{refused}; give more frames of good parts"
        )
    return Frames(
        scaling=tuple(shot.frame.image for shot in taker.shots[::2]),
        judging=tuple(shot.frame.image for shot in judging),
        groups=tuple(shot.group for shot in judging),
    )
