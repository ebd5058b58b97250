"""The time that the steps of a frame take, held against the time that the source leaves for one.

The encoder works in a thread of its own, all other steps in another one (monitor.py): a source is kept up with while
neither of the two needs longer than lies between two frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["budget_lines"]


def budget_lines(stages: Mapping[str, tuple[float, float]], interval: float | None) -> list[str]:
    """A table for people.

    Args:
        stages: median and 95th percentile of each step, milliseconds, ``encode`` among them.
        interval: milliseconds from one frame of the source to the next; None where that is not known.
    """
    share = "" if interval is None else f"{f'of {interval:.1f} ms':>15}"
    lines = [f"{'step':<12}{'median':>9}{'p95':>9} ms{share}"]
    for name, (median, p95) in stages.items():
        share = "" if interval is None else f"{median / interval:>15.1%}"
        lines.append(f"{name:<12}{median:>9.2f}{p95:>9.2f}   {share}".rstrip())
    encode = stages["encode"][0]
    others = sum(median for name, (median, _) in stages.items() if name != "encode")
    verdict = f"the encoder takes {encode:.1f} ms a frame, all other steps beside it {others:.1f} ms"
    if interval is not None:
        least = max(encode, others)
        verdict += f": this {'keeps up with' if least <= interval else 'falls behind'} a source of one frame every "
        verdict += f"{interval:.1f} ms"
    return [*lines, verdict]
