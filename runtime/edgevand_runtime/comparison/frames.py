"""The frames that methods are compared on: enrolled ones, normal ones that were not, and anomalous ones.

Normal frames are taken as enrolment takes them (fit, not copies of each other). The first are enrolled, the later ones
judged, as on a line. Without anomalous frames, defects are drawn onto the judged normal ones (``drawn.blemish``):
scratches, stains and displaced pieces, which real defects need not resemble.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevand.errors import BadInputError, EndOfSourceError, FrameError
from edgevand_runtime.drawn.blemish import blemish
from edgevand_runtime.shots import STREAM_INTERVAL, ShotTaker
from edgevand_runtime.sources import open_source
from edgevand_runtime.sources.base import new_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgevand_runtime.frame import Frame
    from edgevand_runtime.sources import Source

__all__ = ["LEAST_JUDGED", "ComparedFrames", "take_frames"]

LEAST_JUDGED = 3
"""Normal frames that are judged and not enrolled; with fewer, an order of frames says nothing."""

_DRAWN_FOR_EACH = 3
"""Defects drawn for each judged frame where those are few: one of each kind."""

_MANY = 12


@dataclass(frozen=True, slots=True, eq=False)
class ComparedFrames:
    """What methods are compared on.

    Attributes:
        enrolled: good frames that every method is enrolled with.
        normal: further good frames.
        anomalous: frames that a method should find.
        drawn: the defects of ``anomalous`` were drawn.
    """

    enrolled: tuple[Frame, ...]
    normal: tuple[Frame, ...]
    anomalous: tuple[Frame, ...]
    drawn: bool


def take_frames(
    source: str, anomalous: str | None, shots: int, limit: int, told: Callable[[str], None] = lambda _: None
) -> ComparedFrames:
    """Take the frames.

    Args:
        source: URI of good frames.
        anomalous: URI of frames with something wrong; None draws defects.
        shots: frames to enrol.
        limit: most frames to judge of either kind.
        told: called with a line for people.

    Raises:
        BadInputError: too few frames, or none that can be read.
        SourceError: a source cannot be opened.
    """
    with open_source(source) as opened:
        good = _good_frames(opened, shots + limit)
    if len(good) < shots + LEAST_JUDGED:
        shots = len(good) - max(LEAST_JUDGED, len(good) // 3)
        if shots < 1:
            raise BadInputError(
                f"expected at least {LEAST_JUDGED + 1} different good frames in {source}, found {len(good)}; give more "
                "with --source"
            )
        told(f"{len(good)} good frames: {shots} are enrolled, and {len(good) - shots} judged")
    enrolled, normal = tuple(good[:shots]), tuple(good[shots:])
    if anomalous is None:
        told("no anomalous frames were given: defects are drawn onto good ones, which real defects need not resemble")
        return ComparedFrames(enrolled, normal, _blemished(normal), drawn=True)
    with open_source(anomalous) as opened:
        bad = _all_frames(opened, limit)
    if not bad:
        raise BadInputError(
            f"expected anomalous frames in {anomalous}, found none that can be read; change --anomalous"
        )
    return ComparedFrames(enrolled, normal, tuple(bad), drawn=False)


def _good_frames(source: Source, wanted: int) -> list[Frame]:
    """Up to ``wanted`` fit frames, as enrolment takes them."""
    taker = ShotTaker(source, STREAM_INTERVAL, lambda _: None, lambda _: None)
    taker.take(wanted)
    if not taker.shots:
        raise taker.nothing_taken()
    return [shot.frame for shot in taker.shots]


def _all_frames(source: Source, limit: int) -> list[Frame]:
    """Every readable frame up to ``limit``."""
    frames: list[Frame] = []
    while len(frames) < limit:
        try:
            frame = source.read(timeout=1.0)
        except EndOfSourceError:
            break
        except FrameError:
            continue
        if frame is not None:
            frames.append(frame)
    return frames


def _blemished(normal: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """Drawn defects, every kind in turn."""
    each = _DRAWN_FOR_EACH if len(normal) < _MANY else 1
    return tuple(
        new_frame(blemish(frame.image, number), number, frame.source)
        for number, frame in enumerate(frame for frame in normal for _ in range(each))
    )
