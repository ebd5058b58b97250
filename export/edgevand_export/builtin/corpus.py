"""Drawn pictures, encoded once: what the text tower, the projection and the heads are trained and judged on.

The image backbone is frozen, so a picture is drawn and encoded a single time. The corpus lies in a folder as one
safetensors file for each object; a file that is there is not made again, so that an interrupted run goes on.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from edgevand.bundle import ImageRecord
from edgevand.staging import write_atomic
from edgevand.tensors import read_tensors, tensor_bytes
from edgevand_export.builtin.network import IMAGE_SIZE, MEAN, STD
from edgevand_runtime.drawn.catalogue import Product
from edgevand_runtime.preprocess import to_tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand_runtime.drawn.catalogue import Drawing

__all__ = ["MASK_SIDE", "Corpus", "Plan", "load_corpus", "merge"]

MASK_SIDE = 56
"""Side of the truth masks and of the maps in the loss."""

_MASK_SHARE = 0.25  # of a mask cell that must differ for the cell to count as anomalous
_BATCH = 8


@dataclass(frozen=True)
class Plan:
    """Which pictures are drawn of each object.

    Attributes:
        seeds: one design each.
        normal: pictures of each design without a defect.
        defective: pictures of each design with one, kinds drawn at random.
    """

    seeds: tuple[int, ...]
    normal: int
    defective: int


@dataclass(frozen=True)
class Corpus:
    """Encoded pictures.

    Attributes:
        pooled: (N, 1280) float16, the backbone's features before the projection.
        tokens: stage to (N, P, C) float16.
        masks: (N, MASK_SIDE, MASK_SIDE) uint8, 0 or 1.
        names: the object of each picture.
    """

    pooled: NDArray[np.float16]
    tokens: dict[int, NDArray[np.float16]]
    masks: NDArray[np.uint8]
    names: tuple[str, ...]

    @property
    def anomalous(self) -> NDArray[np.bool_]:
        """(N,) whether a picture shows a defect."""
        return np.asarray(self.masks.any(axis=(1, 2)))


def draw(name: str, plan: Plan) -> Iterable[Drawing]:
    """The pictures of one object, design after design."""
    for seed in plan.seeds:
        product = Product(name, seed, IMAGE_SIZE)
        rng = np.random.default_rng([zlib.crc32(name.encode()), seed, 1])
        for index in range(plan.normal):
            yield product.draw(index)
        for index in range(plan.normal, plan.normal + plan.defective):
            yield product.draw(index, product.kinds[rng.integers(len(product.kinds))])


@torch.no_grad()
def encode(model: Any, drawings: Sequence[Drawing], stages: Sequence[int]) -> dict[str, NDArray[Any]]:  # noqa: ANN401
    """Features and masks of pictures.

    Args:
        model: open_clip model with the frozen backbone, in evaluation mode.
        drawings: a few pictures.
        stages: 1-based feature levels.

    Returns:
        ``pooled``, ``tokens_<stage>``, ``masks`` as in ``Corpus``.
    """
    record = ImageRecord(height=IMAGE_SIZE, width=IMAGE_SIZE, mean=MEAN, std=STD)
    images = torch.from_numpy(np.stack([to_tensor(drawing.image, record) for drawing in drawings]))
    trunk = model.visual.trunk
    last, levels = trunk.forward_intermediates(images, indices=[stage - 1 for stage in stages])
    masks = np.zeros((len(drawings), MASK_SIDE, MASK_SIDE), np.uint8)
    for mask, drawing in zip(masks, drawings, strict=True):
        if drawing.truth is not None:
            share = (
                cv2.resize(drawing.truth, (MASK_SIDE, MASK_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
            )
            mask[:] = share >= min(_MASK_SHARE, float(share.max()))
    result: dict[str, NDArray[Any]] = {"pooled": trunk.forward_head(last).numpy().astype(np.float16), "masks": masks}
    for stage, level in zip(stages, levels, strict=True):
        result[f"tokens_{stage}"] = level.flatten(2).transpose(1, 2).numpy().astype(np.float16)
    return result


def load_corpus(folder: Path, model: Any, names: Sequence[str], plan: Plan, stages: Sequence[int]) -> Corpus:  # noqa: ANN401
    """Read what is there, draw and encode what is not.

    Args:
        folder: where the files lie; one folder for one plan.
        model: see ``encode``.
        names: keys of the catalogue.
        plan: which pictures.
        stages: 1-based feature levels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for name in names:
        path = folder / f"{name.replace(' ', '-')}.safetensors"
        if not path.exists():
            drawings = list(draw(name, plan))
            encoded = [encode(model, drawings[i : i + _BATCH], stages) for i in range(0, len(drawings), _BATCH)]
            write_atomic(
                path, tensor_bytes({key: np.concatenate([each[key] for each in encoded]) for key in encoded[0]})
            )
        tensors = read_tensors(path)
        tokens = {stage: tensors[f"tokens_{stage}"] for stage in stages}
        parts.append(Corpus(tensors["pooled"], tokens, tensors["masks"], (name,) * len(tensors["masks"])))
    return merge(parts)


def merge(parts: Sequence[Corpus]) -> Corpus:
    """One corpus of several."""
    return Corpus(
        np.concatenate([part.pooled for part in parts]),
        {stage: np.concatenate([part.tokens[stage] for part in parts]) for stage in parts[0].tokens},
        np.concatenate([part.masks for part in parts]),
        tuple(name for part in parts for name in part.names),
    )
