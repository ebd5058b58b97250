"""What text tower and heads know of drawings that they were not trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from edgevand.prompts import DEFAULT_PACK, compile_prompts, load_pack
from edgevand_export.builtin.network import tokenize
from edgevand_export.builtin.train import SCALE, stage_maps
from edgevand_runtime.metrics import auroc

if TYPE_CHECKING:
    from torch import Tensor

    from edgevand_export.builtin.corpus import Corpus
    from edgevand_export.builtin.train import Student

__all__ = ["Figures", "evaluate"]

_BATCH = 32


@dataclass(frozen=True)
class Figures:
    """Zero-shot figures in [0, 1]; means over the objects.

    Attributes:
        text: image AUROC of the text score.
        map: image AUROC of the zero-shot map's maximum.
        pixel: AUROC of the map's cells.
    """

    text: float
    map: float
    pixel: float

    def to_json(self) -> dict[str, float]:
        """Rounded to four digits."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


@torch.no_grad()
def evaluate(student: Student, corpus: Corpus, spoken: str | None = None) -> Figures:
    """Judge on encoded drawings, with the prompts that the bundle stores.

    Args:
        student: trained.
        corpus: drawings not trained on.
        spoken: what every object is called; None for its own name.
    """
    student.eval()
    rows = [_of_object(student, corpus, name, spoken or name) for name in sorted(set(corpus.names))]
    return Figures(*(float(column) for column in np.mean(rows, axis=0)))


def _of_object(student: Student, corpus: Corpus, name: str, spoken: str) -> tuple[float, float, float]:
    """The figures of one object."""
    chosen = np.flatnonzero(np.asarray(corpus.names) == name)
    normal, abnormal = (_side(student, sentences) for sentences in compile_prompts(load_pack(DEFAULT_PACK), spoken))
    texts, maps = [], []
    for rows in np.array_split(chosen, max(1, len(chosen) // _BATCH)):
        images = student.images(torch.from_numpy(corpus.pooled[rows].astype(np.float32)))
        texts.append((SCALE * images @ (abnormal - normal)).sigmoid())
        tokens = [torch.from_numpy(corpus.tokens[stage][rows].astype(np.float32)) for stage in student.stages]
        sides = (normal.expand(len(rows), -1), abnormal.expand(len(rows), -1))
        maps.append(torch.stack(stage_maps(student.logits(tokens, *sides))).sum(dim=0))
    scores, total = torch.cat(texts).numpy(), torch.cat(maps).numpy()
    labels = corpus.anomalous[chosen]
    found = auroc(labels, scores), auroc(labels, total.max(axis=(1, 2))), auroc(corpus.masks[chosen], total)
    text, image, pixel = (np.nan if value is None else value for value in found)
    return text, image, pixel


def _side(student: Student, sentences: list[str]) -> Tensor:
    """Unit mean (D,) of unit sentence embeddings."""
    ids = tokenize(sentences)
    embedded = torch.cat([student.sentences(ids[i : i + 2 * _BATCH]) for i in range(0, len(ids), 2 * _BATCH)])
    return F.normalize(embedded.mean(dim=0), dim=0)
