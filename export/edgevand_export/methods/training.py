"""``edgevand train --method``: a method trained on normal frames of a source or of a bank."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevand.bank import Bank
from edgevand.errors import BadInputError, OutputError, UsageError
from edgevand_export.methods import TRAINERS
from edgevand_runtime.methods.choosing import find_kind, parse_settings
from edgevand_runtime.preprocess import load_image
from edgevand_runtime.shots import STREAM_INTERVAL, ShotTaker
from edgevand_runtime.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgevand.bundle import Bundle
    from edgevand_runtime.stop import Stop

__all__ = ["frames_of_bank", "frames_of_source", "train_method"]


def train_method(  # noqa: PLR0913 - what a person may give
    bundle: Bundle,
    method: str,
    frames: Sequence[NDArray[np.uint8]],
    pairs: Sequence[str],
    weights: Sequence[Path],
    output: Path,
    *,
    report: Callable[[str], None],
    stop: Stop,
    resume: bool = False,
) -> Path | None:
    """Train a method; see ``methods.Trainer``.

    Args:
        bundle: the bundle that the method will be put into.
        method: its name.
        frames: (H, W, 3) uint8 BGR each.
        pairs: options as typed, ``key=value``.
        weights: files that the person gave.
        output: directory of the run.
        report: called with a line for people.
        stop: asks for an end.
        resume: go on with the run in ``output``.

    Raises:
        UsageError: no such method or option, or a method that is not trained on frames.
        BadInputError: fewer frames than the method can use, weights that do not fit, or a loss that is not finite.
        OutputError: the output is there already, or cannot be written.
    """
    kind = find_kind(method)
    trainer = TRAINERS.get(method)
    if trainer is None:
        raise UsageError(
            f"expected --method {' or '.join(TRAINERS)} to train on normal frames, found {method}, which is not "
            "trained so; enrol with it (docs/methods.md)"
        )
    if len(frames) < kind.least_frames:
        raise BadInputError(
            f"expected at least {kind.least_frames} frames to train {method} on, found {len(frames)}; give more"
        )
    if output.exists() and not resume:
        raise OutputError(
            f"expected a new directory for the run, found that {output} is already there; remove it, give another -o, "
            "or go on with --resume"
        )
    settings = parse_settings(kind, pairs, bundle.as_method(method).manifest.settings)
    return trainer(bundle, frames, settings, tuple(weights), output, report=report, stop=stop, resume=resume)


def frames_of_source(uri: str, shots: int | None) -> list[NDArray[np.uint8]]:
    """The first fit frames of a source, as enrolment takes them; None for all of a finite one.

    Raises:
        BadInputError: none could be taken.
        SourceError: it cannot be opened.
    """
    with open_source(uri) as source:
        if shots is None and source.live:
            raise UsageError(f"expected a source with an end, or --shots K, found the live {source.uri}; give --shots")
        taker = ShotTaker(source, STREAM_INTERVAL, lambda _: None, lambda _: None)
        taker.take(shots)
    if not taker.shots:
        raise taker.nothing_taken()
    return [shot.frame.image for shot in taker.shots]


def frames_of_bank(path: Path) -> list[NDArray[np.uint8]]:
    """The frames that were enrolled, as the bank keeps them: JPEG, at most 1280 pixels on the long side."""
    bank = Bank.open(path)
    return [load_image(bank.thumbnail(frame.id)) for frame in bank.record.frames]
