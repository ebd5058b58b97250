"""What of a picture is looked at: foreground by DIS and SAM, its components, and the tiles they are seen in.

Variance Vigilance Vanguard, methods.md (d), steps 1 and 2. On a fixed camera this happens once, at enrolment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from edgevand_runtime.methods.foreground.components import Component, components, overlapping
from edgevand_runtime.methods.foreground.everything import EverythingRule, everything, sam_input
from edgevand_runtime.methods.foreground.graphs import SideGraph, read_record
from edgevand_runtime.methods.foreground.saliency import dis_input, salient
from edgevand_runtime.methods.foreground.tiles import Tile, TileRule, cut, whole_picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevand.bundle import Bundle

__all__ = [
    "Component",
    "EverythingRule",
    "ForegroundRule",
    "Tile",
    "TileRule",
    "cut",
    "segmented",
    "tiles_of",
    "whole_picture",
]


class ForegroundRule(NamedTuple):
    """How the foreground is found."""

    overlap: float = 0.8
    """Share of an annotation that must lie in the object that DIS sees, or in a component to be its part."""
    least: float = 0.001
    """Share of the picture that a component needs."""
    saliency: float = 0.5
    """Threshold on what DIS answers, stretched to [0, 1]."""
    everything: EverythingRule = EverythingRule()


def segmented(
    bundle: Bundle, image: NDArray[np.uint8], rule: ForegroundRule
) -> tuple[NDArray[np.bool_], list[NDArray[np.bool_]]] | None:
    """Foreground of a picture by DIS and SAM, and SAM's annotations; None for a bundle without them.

    Args:
        bundle: prepared for vvv.
        image: (H, W, 3) uint8 BGR.
        rule: thresholds.

    Returns:
        The foreground (H, W), and each annotation (H, W).

    Raises:
        FormatError: one of the graphs cannot be used.
    """
    record = read_record(bundle)
    if record is None:
        return None
    size = (image.shape[1], image.shape[0])
    (answer,) = SideGraph(bundle.path / record.dis.graph.file).run(image=dis_input(image, record.dis.side))
    salient_pixels = salient(answer[0], size, rule.saliency)
    (embedding,) = SideGraph(bundle.path / record.sam.encoder.file).run(image=sam_input(image, record.sam.side))
    decoder = SideGraph(bundle.path / record.sam.decoder.file)

    def decode(points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        logits, predicted = decoder.run(embedding=embedding, points=points)
        return logits, predicted

    annotations = everything(decode, size, record.sam.side, rule.everything)
    return overlapping(salient_pixels, annotations, rule.overlap), annotations


def tiles_of(
    foreground: NDArray[np.bool_],
    annotations: list[NDArray[np.bool_]],
    rule: ForegroundRule,
    tile_rule: TileRule,
) -> list[Tile]:
    """Tiles of a foreground (H, W); none where no component is large enough."""
    found = components(foreground, annotations, rule.overlap, rule.least)
    return cut(found, (foreground.shape[1], foreground.shape[0]), tile_rule)
