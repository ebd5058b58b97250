"""The picture of a benchmark: one bar for each row, made of what its stages take for a frame."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from edgevand_runtime.benchmark.measure import STAGES, Measurement

if TYPE_CHECKING:
    from edgevand_runtime.benchmark.measure import Report

__all__ = ["draw_report"]

_COLOURS = {
    "decode": "#8250df",
    "preprocess": "#0969da",
    "encode": "#1a7f37",
    "search": "#bf8700",
    "judge": "#cf222e",
    "sinks": "#57606a",
    "reference": "#afb8c1",
}
_PAPER, _INK, _FAINT = "#ffffff", "#1f2328", "#d0d7de"
_WIDTH, _LEFT, _RIGHT, _HEAD, _ROW, _BAR, _FOOT, _MARGIN = 1000, 300, 120, 76, 34, 20, 44, 16
_MARKS = 5


def draw_report(report: Report, title: str) -> bytes:
    """Draw the rows of a run, the reference's frame last; median milliseconds for one frame of a batch.

    Args:
        report: a run; rows that failed are left out.
        title: one line at the top.

    Returns:
        PNG bytes.
    """
    bars = [_bar(report, row) for row in report.rows if isinstance(row, Measurement)]
    if report.rival is not None:
        bars.append((report.rival.name, {"reference": report.rival.frame.median}))
    longest = max((sum(parts.values()) for _, parts in bars), default=1.0)
    sheet = Image.new("RGB", (_WIDTH, _HEAD + len(bars) * _ROW + _FOOT), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 14), title, fill=_INK, font=ImageFont.load_default(18))
    _draw_legend(draw, [name for name in _COLOURS if any(name in parts for _, parts in bars)])
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    _draw_axis(draw, scale, longest, sheet.height - _FOOT)
    for number, (label, parts) in enumerate(bars):
        _draw_bar(draw, _HEAD + number * _ROW, label, parts, scale)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _bar(report: Report, row: Measurement) -> tuple[str, dict[str, float]]:
    """A row's label, and milliseconds a frame by stage."""
    parts = {} if report.decode is None else {"decode": report.decode.median}
    parts |= {stage: row.stages[stage].median / row.case.batch for stage in STAGES if stage != "total"}
    batch = f", batch {row.case.batch}" if row.case.batch > 1 else ""
    return f"{row.engine} {row.case.precision}{batch}", parts


def _draw_legend(draw: ImageDraw.ImageDraw, names: list[str]) -> None:
    font = ImageFont.load_default(13)
    left = float(_MARGIN)
    for name in names:
        draw.rectangle((left, 46, left + 12, 58), fill=_COLOURS[name])
        draw.text((left + 18, 44), name, fill=_INK, font=font)
        left += 34 + draw.textlength(name, font=font)


def _draw_axis(draw: ImageDraw.ImageDraw, scale: float, longest: float, bottom: int) -> None:
    font = ImageFont.load_default(12)
    for mark in range(_MARKS + 1):
        value = longest * mark / _MARKS
        left = _LEFT + value * scale
        draw.line((left, _HEAD - 6, left, bottom), fill=_FAINT)
        draw.text((left, bottom + 6), _number(value), fill=_INK, font=font, anchor="ma")
    draw.text((_LEFT, bottom + 24), "ms a frame (median)", fill=_INK, font=font)


def _draw_bar(draw: ImageDraw.ImageDraw, top: int, label: str, parts: dict[str, float], scale: float) -> None:
    font = ImageFont.load_default(13)
    draw.text((_LEFT - 8, top + _BAR / 2), label, fill=_INK, font=font, anchor="rm")
    left = float(_LEFT)
    for name, value in parts.items():
        draw.rectangle((left, top, left + value * scale, top + _BAR), fill=_COLOURS[name])
        left += value * scale
    draw.text((left + 6, top + _BAR / 2), f"{_number(sum(parts.values()))} ms", fill=_INK, font=font, anchor="lm")


def _number(value: float) -> str:
    """Three digits, none of them an exponent's."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits before the point
