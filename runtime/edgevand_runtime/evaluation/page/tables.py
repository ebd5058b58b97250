"""What a table of the page consists of, and the notes that its undefined values lead to."""

from __future__ import annotations

from dataclasses import dataclass

from edgevand_runtime.evaluation.page.words import DASH

__all__ = ["Cell", "Notes", "Row", "Table"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A value of a table; ``note`` is the number of the note that says why it is undefined."""

    text: str
    title: str = ""
    note: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: its label with a small ``tag`` and the number of a note, values, and what kind it is of.

    ``kind`` is ``measured``, ``mean`` or ``published``.
    """

    label: str
    cells: tuple[Cell, ...]
    kind: str = "measured"
    tag: str = ""
    note: int | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table: groups of columns with how many they span, the columns, and rows under a first column of labels."""

    caption: str
    first: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    groups: tuple[tuple[str, int], ...] = ()


class Notes:
    """Reasons why values are undefined, each of them once, numbered as they are met."""

    def __init__(self) -> None:
        """Start without any."""
        self.texts: list[str] = []

    def number(self, reason: str) -> int:
        """The number of a reason, from 1 on."""
        if reason not in self.texts:
            self.texts.append(reason)
        return self.texts.index(reason) + 1

    def dash(self, reason: str) -> Cell:
        """The cell of an undefined value."""
        return Cell(DASH, reason, self.number(reason))
