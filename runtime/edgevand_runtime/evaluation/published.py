"""Rows that papers print, to stand beside the measured ones; none of them was measured here (published.json)."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["published_rows"]


def published_rows(recognised: str | None, classes: Collection[str]) -> list[dict[str, Any]]:
    """What is published about the classes of a dataset; its means only where all its classes are among them.

    Args:
        recognised: ``MVTec AD``, ``VisA`` or ``MVTec LOCO``; None for any other.
        classes: that were evaluated.

    Returns:
        Rows with ``source``, ``class`` (or ``mean``), ``shots`` (null where the source does not say), ``metrics``
        as fractions and, where it is printed, their ``std`` and a ``note``.
    """
    if recognised is None:
        return []
    document = json.loads((files(__package__) / "published.json").read_text(encoding="utf-8"))
    rows = [row for row in document["rows"] if row["dataset"] == recognised]
    wanted = set(classes)
    if wanted.issuperset({row["class"] for row in rows} - {"mean"}):
        wanted.add("mean")
    return [{name: value for name, value in row.items() if name != "dataset"} for row in rows if row["class"] in wanted]
