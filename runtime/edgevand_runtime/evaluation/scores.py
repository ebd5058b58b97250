"""The image score that the metrics are taken of.

``max`` is the stream's own raw score, as ``score`` and ``monitor`` give it. ``released`` is what the reference's code
does with enrolled frames (methods.md (a))::

    0.5 * (s + (m - min m) / (max m - min m))        s text score, m maximum of the raw map

with minimum and maximum over all test pictures of the class. It needs the whole test set before the first score exists
and changes with every further picture: for reproducing published figures only, never for a decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.evaluation.options import ScoreRule
    from edgevand_runtime.results import Result

__all__ = ["image_scores"]


def image_scores(results: Sequence[Result], rule: ScoreRule) -> tuple[NDArray[np.float64] | None, str]:
    """The score of every picture of a row, in float64.

    Returns:
        (N,) scores and an empty reason, or None and why there are none.
    """
    raw = np.array([result.raw_score for result in results], np.float64)
    if rule == "max" or not results or results[0].bank is None:
        return raw, ""
    tops = np.array([np.nan if result.map_max is None else result.map_max for result in results], np.float64)
    spread = float(np.ptp(tops))
    if not spread > 0:
        return None, "the released rule divides by the spread of the map's maximum, which is 0 over these pictures"
    texts = np.array([result.text_score or 0.0 for result in results], np.float64)
    return 0.5 * (texts + (tops - tops.min()) / spread), ""
