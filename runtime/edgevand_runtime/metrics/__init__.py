"""The field's metrics for anomaly detection and localisation, exact, without torch (docs/metrics.md).

Every function returns None where its figure is not defined (one class only, no mask); ``image_metrics``,
``pixel_metrics`` and ``spro_metrics`` say why beside it. Scores may be of any scale: only their order counts, but for
``pro_released``, whose thresholds depend on the scale.
"""

from __future__ import annotations

from edgevand_runtime.metrics.binary import (
    IMAGE_NAMES,
    auroc,
    average_precision,
    f1_max,
    f1_trivial,
    image_metrics,
    roc_curve,
)
from edgevand_runtime.metrics.figures import Figures
from edgevand_runtime.metrics.pixels import (
    PIXEL_NAMES,
    PixelRanking,
    pixel_metrics,
    pro,
    pro_curve,
    pro_released,
    rank_pixels,
)
from edgevand_runtime.metrics.spro import SPRO_LIMITS, SproDefect, saturation_area, spro, spro_metrics
from edgevand_runtime.metrics.streamed import StreamedFigures, StreamedPixelMetrics
from edgevand_runtime.metrics.summary import Aufc, aufc, harmonic_mean, vand_score

__all__ = [
    "IMAGE_NAMES",
    "PIXEL_NAMES",
    "SPRO_LIMITS",
    "Aufc",
    "Figures",
    "PixelRanking",
    "SproDefect",
    "StreamedFigures",
    "StreamedPixelMetrics",
    "aufc",
    "auroc",
    "average_precision",
    "f1_max",
    "f1_trivial",
    "harmonic_mean",
    "image_metrics",
    "pixel_metrics",
    "pro",
    "pro_curve",
    "pro_released",
    "rank_pixels",
    "roc_curve",
    "saturation_area",
    "spro",
    "spro_metrics",
    "vand_score",
]
