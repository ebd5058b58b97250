"""How large the activations of a graph get on given frames, and the int8 scale that costs them least."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Feed = Mapping[str, NDArray[np.float32]]

__all__ = ["BINS", "Histogram", "find_peaks", "find_ranges"]

BINS = 2048
STEPS = 127
NEAREST = 0.2
"""Smallest share of the largest magnitude at which clipping is tried."""


class Histogram:
    """Counts of the magnitudes of one tensor's values.

    Attributes:
        peak: largest magnitude.
        counts: (BINS,) from 0 to the peak.
    """

    def __init__(self, peak: float) -> None:
        """Start empty."""
        self.peak = max(peak, 1e-6)
        self.counts = np.zeros(BINS, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the values of an array."""
        self.counts += np.histogram(np.abs(values), BINS, (0, self.peak * (1 + 1e-6)))[0]

    def scale(self) -> np.float32:
        """Scale in int8, 127 steps to either side, with the least mean squared error of rounding and clipping."""
        middles = (np.arange(BINS) + 0.5) * self.peak / BINS
        limits = np.linspace(NEAREST, 1, 81) * self.peak
        rounding = (limits / STEPS) ** 2 / 12 * self.counts.sum()
        clipping = [float((self.counts * np.maximum(middles - limit, 0) ** 2).sum()) for limit in limits]
        best = float(limits[np.argmin(rounding + clipping)])
        return np.float32(best / STEPS)


def find_peaks(model: Any, axes: Mapping[Any, int], feeds: Sequence[Feed]) -> dict[Any, NDArray[np.float32]]:  # noqa: ANN401
    """Largest magnitude of every channel.

    Args:
        model: ``onnx_ir.Model``.
        axes: channel axis of each value.
        feeds: inputs by name, one dictionary for each run.
    """
    peaks: dict[Any, NDArray[np.float32]] = {}

    def seen(value: Any, array: NDArray[np.float32]) -> None:  # noqa: ANN401
        others = tuple(axis for axis in range(array.ndim) if axis != axes[value] % array.ndim)
        peak = np.abs(array).max(axis=others)
        peaks[value] = np.maximum(peaks[value], peak) if value in peaks else peak

    _observe(model, list(axes), feeds, seen)
    return peaks


def find_ranges(model: Any, values: Sequence[Any], feeds: Sequence[Feed]) -> dict[Any, Histogram]:  # noqa: ANN401
    """Histogram of each value: its peak in a first pass, the counts in a second."""
    peaks = dict.fromkeys(values, 0.0)

    def reach(value: Any, array: NDArray[np.float32]) -> None:  # noqa: ANN401
        peaks[value] = max(peaks[value], float(np.abs(array).max()))

    _observe(model, values, feeds, reach)
    histograms = {value: Histogram(peak) for value, peak in peaks.items()}
    _observe(model, values, feeds, lambda value, array: histograms[value].add(array))
    return histograms


def _observe(
    model: Any,  # noqa: ANN401
    values: Sequence[Any],
    feeds: Sequence[Feed],
    seen: Callable[[Any, NDArray[np.float32]], None],
) -> None:
    """Run the graph and hand out the values inside it, one array at a time."""
    import onnxruntime

    graph = model.graph
    added = [value for value in values if not value.is_graph_output()]
    graph.outputs.extend(added)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "observed.onnx")
            ir.save(model, path, external_data="observed.data")
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            for feed in feeds:
                found = session.run([value.name for value in values], dict(feed))
                for value in reversed(values):
                    seen(value, found.pop())
            del session
    finally:
        for _ in added:
            graph.outputs.pop()
