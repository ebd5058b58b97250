"""Which picture comes when: a pure function of seed, epoch and position, so that a run can go on anywhere.

Mosaics (APRIL-GAN, released code): with probability ``mosaic`` a picture's place is taken by a collage of four pictures
of the same class, for each of which a kind (a defect's folder, or ``good``) is drawn uniformly, then a picture of it.
Here the collages come from a finite pool of each class, so that their tokens can be kept as well.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgevand.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevand_export.training.config import TrainConfig
    from edgevand_runtime.datasets import DatasetClass, Sample

__all__ = ["MOSAIC", "Draw", "Plan"]

MOSAIC = 4
"""Pictures of a collage."""

ORDER, COLLAGE = 1, 2
"""What a stream of random numbers is for."""

ENDLESS = 1 << 31
"""Size of the pool where every collage is to be new."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What one position of an epoch shows.

    Attributes:
        class_name: whose text it is trained with.
        parts: one picture, or the four of a collage: top left, top right, bottom left, bottom right.
    """

    class_name: str
    parts: tuple[Sample, ...]


class Plan:
    """All draws of a training."""

    def __init__(self, classes: Sequence[DatasetClass], config: TrainConfig) -> None:
        """Take the test split of each class, normal and anomalous pictures.

        Raises:
            BadInputError: there is no picture.
        """
        self.classes = tuple(classes)
        self.config = config
        self._pictures = [(each, sample) for each in self.classes for sample in each.test]
        if not self._pictures:
            raise BadInputError(
                "expected pictures in the test split of the dataset, found none; heads are trained on the test split"
            )
        self._kinds = {each.name: _kinds(each) for each in self.classes}

    def __len__(self) -> int:
        """Pictures of an epoch."""
        return len(self._pictures)

    @property
    def steps(self) -> int:
        """Steps of an epoch; the last batch may be smaller."""
        return -(-len(self) // self.config.batch)

    def fingerprint(self) -> str:
        """Hex digest over class, kind and name of every picture, in their order."""
        digest = hashlib.sha256()
        for each, sample in self._pictures:
            digest.update(f"{each.name}\0{sample.kind}\0{sample.name}\0{sample.anomalous}\n".encode())
        return digest.hexdigest()

    def epoch(self, number: int) -> list[Draw]:
        """The draws of one epoch, in order.

        Args:
            number: from 0.
        """
        rng = np.random.default_rng([self.config.seed, ORDER, number])
        order = rng.permutation(len(self))
        replaced = rng.random(len(self)) < self.config.mosaic
        picks = rng.integers(self.config.mosaic_pool or ENDLESS, size=len(self))
        draws = []
        for position, mosaic, pick in zip(order, replaced, picks, strict=True):
            each, sample = self._pictures[position]
            draws.append(self.collage(each.name, int(pick)) if mosaic else Draw(each.name, (sample,)))
        return draws

    def collage(self, class_name: str, number: int) -> Draw:
        """One collage of a class's pool."""
        stream = int.from_bytes(hashlib.sha256(class_name.encode()).digest()[:8], "big")
        rng = np.random.default_rng([self.config.seed, COLLAGE, stream, number])
        kinds = self._kinds[class_name]
        parts = []
        for _ in range(MOSAIC):
            samples = kinds[rng.integers(len(kinds))]
            parts.append(samples[rng.integers(len(samples))])
        return Draw(class_name, tuple(parts))


def _kinds(each: DatasetClass) -> list[list[Sample]]:
    """The class's pictures by kind, kinds in the order of their names."""
    kinds: dict[str, list[Sample]] = {}
    for sample in each.test:
        kinds.setdefault(sample.kind, []).append(sample)
    return [kinds[kind] for kind in sorted(kinds)]
