"""The published datasets, by layout and class names, so that published figures can stand beside measured ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgevand_runtime.datasets.records import Layout

__all__ = ["PUBLISHED", "recognise"]

PUBLISHED: dict[str, tuple[Layout, frozenset[str]]] = {
    "MVTec AD": (
        "mvtec",
        frozenset(
            {
                *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill"),
                *("screw", "tile", "toothbrush", "transistor", "wood", "zipper"),
            }
        ),
    ),
    "VisA": (
        "visa",
        frozenset(
            {
                *("candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2"),
                *("pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum"),
            }
        ),
    ),
    "MVTec LOCO": (
        "loco",
        frozenset({"breakfast_box", "juice_bottle", "pushpins", "screw_bag", "splicing_connectors"}),
    ),
}
"""Layout and class names of each."""


def recognise(layout: Layout, classes: Iterable[str]) -> str | None:
    """Which published dataset this is, or is a part of; None where a class has a name of its own."""
    names = set(classes)
    for dataset, (its_layout, its_classes) in PUBLISHED.items():
        if layout == its_layout and names and names <= its_classes:
            return dataset
    return None
