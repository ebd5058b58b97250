"""Which frames are enrolled: without replacement, for each class and seed by itself, smaller k first.

The reference's code draws with replacement from one global seed, so that its results depend on the order of the
classes (methods.md (a)). Here a class's training frames are put into an order that nothing but seed, class and the
frames' names decides, the order of sha256 over the three; k shots are the first k of it. So a smaller k is a prefix of
a larger one, a class has the same frames whatever else is evaluated, and every machine draws alike.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from edgevand_runtime.sources.files import natural_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgevand_runtime.datasets import Sample

__all__ = ["drawn_order", "time_order"]


def drawn_order(samples: Iterable[Sample], class_name: str, seed: int) -> list[Sample]:
    """The samples in the order in which this seed takes them."""

    def place(sample: Sample) -> bytes:
        return hashlib.sha256(f"{seed}\0{class_name}\0{sample.name}".encode()).digest()

    return sorted(samples, key=place)


def time_order(samples: Iterable[Sample]) -> list[Sample]:
    """The samples in natural order of their file names, whatever folder they lie in: ``9.png`` before ``10.png``."""
    return sorted(samples, key=lambda sample: (natural_key(sample.image.name), sample.name))
