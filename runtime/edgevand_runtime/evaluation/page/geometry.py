"""The geometry of a report's figures: curves and histograms as SVG path data, in the units of their view box.

Nothing here writes markup. The template draws what these values say, so that every text passes its escaping and every
colour comes from its style sheet (light, dark and print).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Curve = tuple[NDArray[np.float64], NDArray[np.float64]]

__all__ = ["BOX", "Box", "Chart", "Histogram", "Line", "Tick", "draw_curves", "draw_histogram"]

_FINEST = 0.15
"""Points nearer than this (units of the view box) to the line without them are left out: nobody could see them."""

_NARROWEST = 0.02
"""Width of a histogram's axis, at least, as a share of the values on it."""


@dataclass(frozen=True, slots=True)
class Box:
    """A view box of ``width`` by ``height`` whose plot area leaves room for labels on the left and below."""

    width: int
    height: int
    left: int = 36
    right: int = 10
    top: int = 10
    bottom: int = 34

    @property
    def x(self) -> tuple[float, float]:
        """Left and right end of the plot area."""
        return float(self.left), float(self.width - self.right)

    @property
    def y(self) -> tuple[float, float]:
        """Lower and upper end of the plot area."""
        return float(self.height - self.bottom), float(self.top)


BOX = Box(300, 210)


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of an axis: its place in the view box and its label."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: its path, its name, its place in the order of all curves, and a point marked on it, if any."""

    path: str
    name: str
    order: int
    point: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves on common axes; ``diagonal`` is the path of guessing, where that is a line."""

    box: Box
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    diagonal: str | None


@dataclass(frozen=True, slots=True)
class Histogram:
    """Two outlines over the same scores; ``threshold`` is the place of its line, None where there is none."""

    box: Box
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    normal: str
    anomalous: str
    threshold: float | None


def draw_curves(
    curves: Mapping[str, Sequence[Curve]],
    *,
    limit: float = 1.0,
    points: Mapping[str, tuple[float, float]] | None = None,
) -> Chart | None:
    """Draw curves over the false-positive rate, each the mean of those of its name.

    Args:
        curves: for each name the curves to average: two arrays of one length (n,), rates in [0, 1], the first one
            ascending. Names without any are left out, but count in the order.
        limit: right end of the axis.
        points: a point to mark for a name, (false-positive rate, value); left out beyond the limit.

    Returns:
        None where there is no curve at all.
    """
    box = BOX
    lines = []
    for order, (name, members) in enumerate(curves.items()):
        if not members:
            continue
        x, y = _until(*_mean(members), limit)
        point = (points or {}).get(name)
        marked = None
        if point is not None and point[0] <= limit:
            marked = _round(_scale(point[0], 0, limit, box.x)), _round(_scale(point[1], 0, 1, box.y))
        lines.append(Line(_path(_scale(x, 0, limit, box.x), _scale(y, 0, 1, box.y)), name, order, marked))
    if not lines:
        return None
    return Chart(
        box=box,
        x_ticks=_ticks(np.linspace(0, limit, 6 if limit == 1 else 4), (0, limit), box.x, percent=True),
        y_ticks=_ticks(np.linspace(0, 1, 6), (0, 1), box.y, percent=True),
        lines=tuple(lines),
        diagonal=_path(np.array(box.x), np.array(box.y)) if limit == 1 else None,
    )


def draw_histogram(
    edges: Sequence[float], normal: Sequence[float], anomalous: Sequence[float], threshold: float | None
) -> Histogram | None:
    """Draw the scores of normal and of anomalous frames, each as shares of their own number.

    Args:
        edges: ascending, finite, one more than there are counts.
        normal: counts of normal frames.
        anomalous: counts of anomalous frames.
        threshold: the axis is extended to show it.

    Returns:
        None where there is nothing to draw: no counts, or edges that do not fit them.
    """
    bounds = np.asarray(edges, np.float64)
    counts = [np.asarray(each, np.float64) for each in (normal, anomalous)]
    total = sum(float(each.sum()) for each in counts)
    if any(bounds.size != each.size + 1 for each in counts) or total == 0 or not bounds[-1] > bounds[0]:
        return None
    box = BOX
    low, high = float(bounds[0]), float(bounds[-1])
    if threshold is not None:
        margin = 0.04 * (high - low)
        low, high = min(low, threshold - margin), max(high, threshold + margin)
    widest = max(abs(low), abs(high))
    if high - low < _NARROWEST * widest:  # scores that are all but equal: a scale that can still be read
        low, high = low - _NARROWEST * widest / 2, high + _NARROWEST * widest / 2
    shares = [each / max(1.0, float(each.sum())) for each in counts]
    y_values = _nice(0, max(float(each.max()) for each in shares), 3, cover=True)
    top = float(y_values[-1])
    x = _scale(np.repeat(bounds, 2), low, high, box.x)
    outlines = [
        _path(x, _scale(np.concatenate([[0], np.repeat(each, 2), [0]]), 0, top, box.y), closed=True) for each in shares
    ]
    return Histogram(
        box=box,
        x_ticks=_ticks(_nice(low, high, 5), (low, high), box.x),
        y_ticks=_ticks(y_values, (0, top), box.y, percent=True),
        normal=outlines[0],
        anomalous=outlines[1],
        threshold=None if threshold is None else _round(_scale(threshold, low, high, box.x)),
    )


def _mean(members: Sequence[Curve]) -> Curve:
    """The mean curve: at every rate that occurs in one of them, the mean of their values before and after its step."""
    if len(members) == 1:
        x, y = members[0]
        return np.asarray(x, np.float64), np.asarray(y, np.float64)
    grid = np.unique(np.concatenate([x for x, _ in members]))
    before = np.mean([_at(x, y, grid)[0] for x, y in members], axis=0)
    after = np.mean([_at(x, y, grid)[1] for x, y in members], axis=0)
    return np.repeat(grid, 2), np.stack([before, after], axis=1).ravel()


def _at(x: NDArray[np.float64], y: NDArray[np.float64], grid: NDArray[np.float64]) -> Curve:
    """A curve's value just before and just after each place of the grid; they differ where it rises upright."""
    first, end = np.searchsorted(x, grid, "left"), np.searchsorted(x, grid, "right")
    between = np.interp(grid, x, y)
    known = end > first
    last = len(x) - 1
    before = np.where(known, y[np.minimum(first, last)], between)
    after = np.where(known, y[np.maximum(end - 1, 0)], between)
    return before, after


def _until(x: NDArray[np.float64], y: NDArray[np.float64], limit: float) -> Curve:
    """The part of a curve up to the limit, where it is cut by linear interpolation."""
    if x[-1] <= limit:
        return x, y
    kept = x <= limit
    return np.append(x[kept], limit), np.append(y[kept], np.interp(limit, x, y))


def _scale(values: Any, low: float, high: float, onto: tuple[float, float]) -> Any:  # noqa: ANN401 (float or array)
    """Values of [low, high] as places in ``onto``."""
    return onto[0] + (values - low) / (high - low) * (onto[1] - onto[0])


def _ticks(
    values: NDArray[np.float64], span: tuple[float, float], onto: tuple[float, float], *, percent: bool = False
) -> tuple[Tick, ...]:
    """Marks at the values, labelled as numbers or as percentages."""
    factor = 100 if percent else 1
    step = float(values[1] - values[0]) * factor if len(values) > 1 else 1.0
    digits = max(0, -int(Decimal(f"{step:.2g}").normalize().as_tuple().exponent))
    return tuple(
        Tick(_round(_scale(float(value), *span, onto)), f"{float(value) * factor + 0.0:.{digits}f}") for value in values
    )


def _nice(low: float, high: float, about: int, *, cover: bool = False) -> NDArray[np.float64]:
    """Round values within ``low`` and ``high``, about so many; with ``cover`` the last one is at ``high`` or above."""
    rough = (high - low) / about
    power = 10 ** np.floor(np.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = np.ceil(low / step - 1e-9)
    last = np.ceil(high / step - 1e-9) if cover else np.floor(high / step + 1e-9)
    values: NDArray[np.float64] = np.arange(first, last + 1) * step
    return values


def _path(x: NDArray[np.float64], y: NDArray[np.float64], *, closed: bool = False) -> str:
    """SVG path data of a line through these points, thinned to what can be seen."""
    points = np.stack([x, y], axis=1)
    kept = points[_visible(points)]
    text = " ".join(f"{_round(px):g},{_round(py):g}" for px, py in kept)
    return f"M{text}" + ("Z" if closed else "")


def _visible(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the points (n, 2) a line needs (Douglas and Peucker's rule)."""
    kept = np.zeros(len(points), bool)
    kept[[0, -1]] = True
    waiting = [(0, len(points) - 1)]
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:  # noqa: PLR2004 (no point between)
            continue
        along = points[last] - points[first]
        offset = points[first + 1 : last] - points[first]
        share = np.clip(offset @ along / max(float(along @ along), 1e-12), 0, 1)
        distance = np.hypot(*(offset - share[:, None] * along).T)
        furthest = int(np.argmax(distance))
        if distance[furthest] > _FINEST:
            middle = first + 1 + furthest
            kept[middle] = True
            waiting += [(first, middle), (middle, last)]
    return kept


def _round(value: float) -> float:
    """One digit after the point is a fifth of a pixel at the size the figures are shown."""
    return round(float(value), 1)
