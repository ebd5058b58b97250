"""Fits what the description of a patch (``descriptor``) is reduced and measured with, on drawn pictures.

A patch of a sound surface differs from the nearest enrolled patch by r_n; a patch with a defect, by r_d. With the
second moments S_n of r_n and S_d of r_d, each drawn surface counted alike, the rows of the linear map are the
directions m with the largest ``m S_d m / m S_n m``, each of length ``m S_n m = 1`` (Fisher's discriminant between the
two kinds of differences; no class or kind of part enters). S_n is shrunk towards a multiple of the identity.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from edgevand.bundle import ImageRecord
from edgevand_export.builtin.descriptor import (
    CONTEXT,
    STRIDES,
    TAPS,
    Fitted,
    context,
    stack,
    surface,
    tapped,
)
from edgevand_export.builtin.network import IMAGE_SIZE, MEAN, STD
from edgevand_export.builtin.surfaces import DEFECTS, SURFACES, Pair, pair, picture
from edgevand_runtime.drawn.catalogue import CATALOGUE, Product
from edgevand_runtime.preprocess import to_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["FitPlan", "discriminant", "drawn_surfaces", "fit", "moments", "principal"]

_BATCH = 4
_HOT = 0.5  # of the most damaged cell, from which share of damage on a cell counts as damaged
_LEAST = 0.02  # of a cell that must be damaged


@dataclass(frozen=True)
class FitPlan:
    """What is drawn and how the map is fitted.

    Attributes:
        products: seeds of each object of the catalogue.
        surfaces: seeds of each drawn surface.
        enrolled: pictures of each that count as enrolled.
        normal: further pictures without a defect.
        defective: pictures with one.
        width: directions of the surface that are kept.
        shrink: share of the mean variance that is added to every direction of S_n.
        constant: the surface's constant coordinate, in mean lengths of a mapped patch.
        turn: directions of the context that are kept.
        weight: of the context: its median distance of sound patches over the surface's.
    """

    products: tuple[int, ...] = (77, 78)
    surfaces: tuple[int, ...] = (1, 2, 3, 4)
    enrolled: int = 6
    normal: int = 6
    defective: int = 8
    width: int = 95
    shrink: float = 0.1
    constant: float = 3.0
    turn: int = 191
    weight: float = 1.5


class Drawn(NamedTuple):
    """Pictures of one surface: without defects, and the same places with and without."""

    normal: list[NDArray[np.uint8]]
    pairs: list[Pair]


def drawn_surfaces(plan: FitPlan) -> Iterator[tuple[str, Callable[[], Drawn]]]:
    """A name for each surface, and what draws it."""
    for name in CATALOGUE:
        for seed in plan.products:
            yield f"{name} {seed}", partial(_product, name, seed, plan)
    for name in SURFACES:
        for seed in plan.surfaces:
            yield f"{name} {seed}", partial(_surface, name, seed, plan)


def _product(name: str, seed: int, plan: FitPlan) -> Drawn:
    """One design of the catalogue."""
    product = Product(name, seed, IMAGE_SIZE)
    count = plan.enrolled + plan.normal
    pairs = []
    for number in range(plan.defective):
        whole = product.draw(count + number)
        spoilt = product.draw(count + number, product.kinds[number % len(product.kinds)])
        truth = np.zeros(spoilt.image.shape[:2], bool) if spoilt.truth is None else spoilt.truth > 0
        pairs.append(Pair(whole.image, spoilt.image, truth))
    return Drawn([product.draw(index).image for index in range(count)], pairs)


def _surface(name: str, seed: int, plan: FitPlan) -> Drawn:
    """One surface; every kind of defect in turn."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
    kinds = tuple(DEFECTS)
    normal = [picture(name, rng) for _ in range(plan.enrolled + plan.normal)]
    return Drawn(normal, [pair(name, kinds[number % len(kinds)], rng) for number in range(plan.defective)])


@torch.no_grad()
def features_of(trunk: Any, images: Sequence[NDArray[np.uint8]]) -> dict[str, Tensor]:  # noqa: ANN401
    """Features (N, C, h, w) of every tap by its name."""
    record = ImageRecord(height=IMAGE_SIZE, width=IMAGE_SIZE, mean=MEAN, std=STD)
    tensors = torch.from_numpy(np.stack([to_tensor(image, record) for image in images]))
    return _joined([tapped(trunk, batch)[1] for batch in torch.split(tensors, _BATCH)])


def _joined(batches: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Features of several batches as those of one."""
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def principal(patches: Tensor, kept: int) -> Tensor:
    """The directions (kept, C) that hold most of the squares of patches (N, C, h, w)."""
    flat = patches.permute(0, 2, 3, 1).reshape(-1, patches.shape[1]).double()
    vectors: Tensor = torch.linalg.eigh(flat.T @ flat / len(flat)).eigenvectors
    return vectors.flip(1)[:, :kept].T.float().contiguous()


def moments(enrolled: Tensor, normal: Tensor, defective: Tensor, damaged: Tensor) -> tuple[Tensor, Tensor] | None:
    """Second moments of one surface's differences, in units of its own mean square difference of sound patches.

    Args:
        enrolled: (N, C) patches.
        normal: (M, C) patches of other pictures without a defect.
        defective: (K, C) patches of pictures with one.
        damaged: (K,) bool, which of them show it.

    Returns:
        S_n and S_d, (C, C) float64 each; None where no patch is damaged.
    """
    if not bool(damaged.any()):
        return None
    sound, spoilt = (
        (patches - enrolled[(patches @ enrolled.T).argmax(dim=1)]).double() for patches in (normal, defective[damaged])
    )
    unit = sound.square().sum(dim=1).mean()
    return sound.T @ sound / len(sound) / unit, spoilt.T @ spoilt / len(spoilt) / unit


def discriminant(sound: Tensor, spoilt: Tensor, width: int, shrink: float) -> Tensor:
    """The linear map (width, C) of two second moments (C, C)."""
    count = len(sound)
    shrunk = sound + shrink * sound.trace() / count * torch.eye(count, dtype=sound.dtype)
    values, vectors = torch.linalg.eigh(shrunk)
    whitening = vectors * values.rsqrt()
    directions = torch.linalg.eigh(whitening.T @ spoilt @ whitening).eigenvectors.flip(1)[:, :width]
    found: Tensor = (whitening @ directions).T
    return (found * torch.sign(found.sum(dim=1, keepdim=True))).float().contiguous()


@torch.no_grad()
def fit(trunk: Any, plan: FitPlan, report: Callable[[str], None] = lambda _: None) -> Fitted:  # noqa: ANN401
    """Draw, encode and fit; a few minutes of one core.

    Args:
        trunk: timm's EfficientNet-Lite0 in evaluation mode.
        plan: what and how.
        report: called with a line for people.
    """
    surfaces = [(name, draw()) for name, draw in drawn_surfaces(plan)]
    report(f"bases from {len(surfaces)} drawn surfaces")
    seen = _joined([features_of(trunk, _two(drawn)) for _, drawn in surfaces])
    bases = {tap.name: principal(seen[tap.name], tap.kept) for tap in TAPS if tap.kept < tap.width}
    fine, coarse = ((IMAGE_SIZE // stride, IMAGE_SIZE // stride) for stride in STRIDES)
    turn = principal(stack(seen, CONTEXT, {}, coarse), plan.turn)
    sound, spoilt = [], []
    for number, (name, drawn) in enumerate(surfaces, start=1):
        images = [*drawn.normal, *(each.defective for each in drawn.pairs)]
        patches = _flat(stack(features_of(trunk, images), TAPS, bases, fine))
        damaged = torch.from_numpy(np.stack([_damaged(each.truth, fine) for each in drawn.pairs]).reshape(-1))
        parts = torch.split(patches, [plan.enrolled, plan.normal, plan.defective])
        enrolled, normal, defective = (part.flatten(0, 1) for part in parts)
        found = moments(enrolled, normal, defective, damaged)
        if found is not None:
            sound.append(found[0])
            spoilt.append(found[1])
        report(f"{number} of {len(surfaces)}: {name}")
    metric = discriminant(torch.stack(sound).mean(dim=0), torch.stack(spoilt).mean(dim=0), plan.width, plan.shrink)
    bare = Fitted(bases, metric, 0.0, turn, 0.0)
    own = plan.constant * float(surface(seen, bare, fine).norm(dim=1).mean())
    ratios = [_ratio(trunk, drawn, bare._replace(surface=own), plan) for _, drawn in surfaces]
    other = max(float(np.exp(np.mean(np.log(ratios)))) / plan.weight - 1, 0.0) ** 0.5
    report(f"constants {own:.1f} and {other:.1f}")
    return Fitted(bases, metric, own, turn, other)


def _two(drawn: Drawn) -> list[NDArray[np.uint8]]:
    """A picture with and one without a defect."""
    return [drawn.normal[0], drawn.pairs[0].defective]


def _flat(levels: Tensor) -> Tensor:
    """(N, C, h, w) to (N, P, C)."""
    return levels.flatten(2).transpose(1, 2)


def _ratio(trunk: Any, drawn: Drawn, fitted: Fitted, plan: FitPlan) -> float:  # noqa: ANN401
    """Median distance of sound patches to the nearest enrolled one: the context's over the surface's."""
    features = features_of(trunk, drawn.normal)
    medians = []
    for describe, stride in zip((surface, context), STRIDES, strict=True):
        level = _flat(describe(features, fitted, (IMAGE_SIZE // stride, IMAGE_SIZE // stride)))
        unit = level / level.norm(dim=2, keepdim=True)
        enrolled, others = (part.flatten(0, 1) for part in torch.split(unit, [plan.enrolled, plan.normal]))
        medians.append(float((1 - (others @ enrolled.T).amax(dim=1)).median()))
    return medians[1] / medians[0]


def _damaged(truth: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Which cells show a defect."""
    share = cv2.resize(truth.astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(share >= max(_HOT * float(share.max()), _LEAST))
