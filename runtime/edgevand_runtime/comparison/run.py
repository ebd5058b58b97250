"""The whole comparison, from sources and bundles to a document and a page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgevand.errors import EdgevandError, UnavailableError, UsageError
from edgevand_runtime.comparison.candidates import LeftOut, find_candidates
from edgevand_runtime.comparison.frames import take_frames
from edgevand_runtime.comparison.measure import Runner, measure
from edgevand_runtime.comparison.recommend import recommend, standard_error
from edgevand_runtime.comparison.report import require_page, write_report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edgevand.bundle import Bundle
    from edgevand_runtime.comparison.frames import ComparedFrames
    from edgevand_runtime.comparison.measure import Measured
    from edgevand_runtime.comparison.recommend import Recommendation

__all__ = ["COMPARISON_SCHEMA", "CompareOptions", "compare"]

COMPARISON_SCHEMA = "edgevand.comparison/1"

_SHOWN_NORMAL, _SHOWN_ANOMALOUS = 2, 4
"""Frames of which the page shows every method's picture."""


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """What a person may choose.

    Attributes:
        source: URI of good frames.
        anomalous: URI of frames with something wrong; None draws defects.
        methods: ``NAME`` or ``NAME:key=value`` each; empty takes every method that a bundle is ready for.
        shots: frames to enrol.
        frames: most frames to judge of either kind.
        object_name: whose text is used; None for a bundle's only or general one.
        budget_ms: most milliseconds that a recommended method may take for a frame.
        runner: what runs the graphs.
    """

    source: str
    anomalous: str | None = None
    methods: tuple[str, ...] = ()
    shots: int = 8
    frames: int = 40
    object_name: str | None = None
    budget_ms: float | None = None
    runner: Runner = field(default_factory=Runner)

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            UsageError: names the option.
        """
        for option, value in (("--shots", self.shots), ("--frames", self.frames)):
            if value < 1:
                raise UsageError(f"expected {option} of at least 1, found {value}; leave it out for the default")


def compare(
    bundles: Sequence[Bundle],
    options: CompareOptions,
    output: Path | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Compare methods on a person's frames.

    Args:
        bundles: at least one.
        options: what to compare on.
        output: directory of ``comparison.html`` and ``comparison.json``, which must not exist; None writes nothing.
        told: called with a line for people when a step begins.

    Returns:
        The document, ``edgevand.comparison/1``.

    Raises:
        UsageError: a method or option that does not exist.
        BadInputError: too few frames.
        SourceError: a source cannot be opened.
        UnavailableError: no method could be run.
        OutputError: the output is there already, or cannot be written.
        MissingDependencyError: the page is wanted and cannot be made.
    """
    if output is not None:
        require_page(output)
    candidates, left_out = find_candidates(bundles, options.methods)
    frames = take_frames(options.source, options.anomalous, options.shots, options.frames, told)
    shown = _shown(len(frames.normal), len(frames.anomalous)) if output is not None else ()
    measured: list[Measured] = []
    for candidate in candidates:
        told(f"{candidate.label}: {candidate.view.path}")
        try:
            measured.append(measure(candidate, frames, options.runner, object_name=options.object_name, shown=shown))
        except EdgevandError as error:
            left_out = (*left_out, LeftOut(candidate.label, str(error)))
    if not measured:
        reasons = "; ".join(f"{one.label}: {one.reason}" for one in left_out)
        raise UnavailableError(
            f"expected a method that can be run on these frames, found none ({reasons}); see --method"
        )
    measured.sort(key=lambda one: (-one.auroc, -(one.separation or 0.0), one.milliseconds))
    chosen = recommend(measured, drawn=frames.drawn, budget_ms=options.budget_ms)
    document = _document(options, frames, measured, left_out, chosen)
    if output is not None:
        write_report(output, document, frames, measured, shown)
    return document


def _shown(normal: int, anomalous: int) -> tuple[int, ...]:
    """Places of the frames to show, spread evenly, normal ones first."""
    first = [round(n * (normal - 1) / max(1, _SHOWN_NORMAL - 1)) for n in range(min(normal, _SHOWN_NORMAL))]
    count = min(anomalous, _SHOWN_ANOMALOUS)
    second = [normal + round(n * (anomalous - 1) / max(1, count - 1)) for n in range(count)]
    return tuple(dict.fromkeys([*first, *second]))


def _document(
    options: CompareOptions,
    frames: ComparedFrames,
    measured: Sequence[Measured],
    left_out: Sequence[LeftOut],
    chosen: Recommendation,
) -> dict[str, Any]:
    """The comparison for machines, the best method first."""
    return {
        "schema": COMPARISON_SCHEMA,
        "source": options.source,
        "anomalous": options.anomalous,
        "drawn": frames.drawn,
        "frames": {
            "enrolled": len(frames.enrolled),
            "normal": len(frames.normal),
            "anomalous": len(frames.anomalous),
        },
        "recommended": {"label": chosen.label, "sentence": chosen.sentence},
        "methods": [
            {
                "label": one.label,
                "method": one.candidate.view.manifest.method,
                "settings": one.candidate.view.manifest.settings,
                "bundle": str(one.candidate.view.path),
                "engine": one.engine,
                "auroc": one.auroc,
                "auroc_error": standard_error(one.scores),
                "separation": one.separation,
                "found": one.found,
                "false_alarms": one.false_alarms,
                "milliseconds": one.milliseconds,
                "enrolment_seconds": one.enrolment_seconds,
                "memory_bytes": one.memory_bytes,
                "bank_bytes": one.bank_bytes,
                "bundle_bytes": one.bundle_bytes,
            }
            for one in measured
        ],
        "left_out": [{"label": one.label, "reason": one.reason} for one in left_out],
    }
