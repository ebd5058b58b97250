"""The contact sheet: one picture of what was enrolled and what was refused, with reasons."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont, ImageOps

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MOST_CELLS", "Cell", "draw_contact_sheet"]

_CELL, _PICTURE, _MARGIN = (264, 236), (240, 168), 12
_TAKEN, _REFUSED, _PAPER, _INK = "#1a7f37", "#cf222e", "#ffffff", "#1f2328"
_COLUMNS = 5
MOST_CELLS = 60
"""Frames on a sheet; of more only the number is told."""
_LINE = 34
"""Characters of a caption line at 13 px."""


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One frame on the sheet: ``image`` (H, W, 3) uint8 BGR, a caption, and whether it was taken."""

    image: NDArray[np.uint8]
    caption: str
    taken: bool


def draw_contact_sheet(title: str, cells: Sequence[Cell], unseen: int = 0) -> bytes:
    """Draw the sheet; taken frames have a green edge, refused ones a red one and their reason.

    Args:
        title: one line at the top.
        cells: frames in the order of the sheet; beyond 60 only their number is told.
        unseen: refused frames that are not among the cells.

    Returns:
        JPEG bytes.
    """
    shown = list(cells)[:MOST_CELLS]
    columns = min(_COLUMNS, max(1, len(shown)))
    rows = -(-len(shown) // columns)
    head = 48
    sheet = Image.new("RGB", (max(columns, 3) * _CELL[0] + _MARGIN, head + rows * _CELL[1] + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    hidden = len(cells) - len(shown) + unseen
    draw.text((_MARGIN, 14), title, fill=_INK, font=ImageFont.load_default(18))
    if hidden:
        more = f"and {hidden} more not shown"
        draw.text((sheet.width - _MARGIN, 16), more, fill=_INK, font=ImageFont.load_default(14), anchor="ra")
    for number, cell in enumerate(shown):
        corner = (_MARGIN + number % columns * _CELL[0], head + number // columns * _CELL[1])
        _draw_cell(sheet, draw, corner, cell)
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _draw_cell(sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], cell: Cell) -> None:
    x, y = corner
    colour = _TAKEN if cell.taken else _REFUSED
    picture = ImageOps.contain(Image.fromarray(cell.image[..., ::-1]), _PICTURE)
    draw.rectangle((x, y, x + _PICTURE[0] + 5, y + _PICTURE[1] + 5), outline=colour, width=3, fill="#f6f8fa")
    sheet.paste(picture, (x + 3 + (_PICTURE[0] - picture.width) // 2, y + 3 + (_PICTURE[1] - picture.height) // 2))
    for line, text in enumerate(_wrapped(cell.caption)[:3]):
        draw.text((x + 2, y + _PICTURE[1] + 9 + 16 * line), text, fill=colour, font=ImageFont.load_default(13))


def _wrapped(text: str) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _LINE:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
