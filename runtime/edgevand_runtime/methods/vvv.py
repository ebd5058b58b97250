"""Variance Vigilance Vanguard: text and CLIPSeg on tiles of the foreground, without a memory bank (methods.md (d)).

::

    s_t    = softmax([c_n, c_a] / tau)[abnormal]          c = mean over the side's sentences of cos(tile, sentence)
    h_t    = harmonic mean over the localising prompts of sigmoid(CLIPSeg's logit)      in the graph
    map(x) = mean over the tiles that cover x of s_t h_t(x);  0 where none does
    score  = mean of the highest ceil(25 %) of the components' scores, each the mean of s_t over its tiles

The mean of similarities is one product with the mean of the unit sentence embeddings, not made unit again. Foreground
and tiles are found at enrolment (``at_first``) and kept in the bank's settings: DIS and SAM never run in the stream.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from pydantic import Field

from edgevand.errors import BadInputError, UsageError
from edgevand_runtime.methods.base import Features, Method, MethodKind, Opening, RawScore, Settings
from edgevand_runtime.methods.foreground import (
    EverythingRule,
    ForegroundRule,
    Tile,
    TileRule,
    segmented,
    tiles_of,
    whole_picture,
)
from edgevand_runtime.methods.own_text import Names, text_by_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand.bundle import Bundle, Manifest
    from edgevand_runtime.engines import EncoderOutput
    from edgevand_runtime.methods.base import Box, Enrolled

__all__ = ["MAP", "VVV", "Vvv", "VvvSettings"]

MAP = "damage"
"""The graph's map: the harmonic mean over the localising prompts."""

_FOUND = {
    "undecided": "nothing was looked for",
    "segmented": "by DIS and SAM",
    "roi": "in the region of interest",
    "whole": "over the whole picture",
    "empty": "over the whole picture, as DIS and SAM found no foreground in the first frame",
}


class VvvSettings(Settings):
    """Options of vvv; the last three are settled at enrolment."""

    objects: Names = Field(default=(), description="whose sentences are embedded at export; none: all of the base")
    temperature: float = Field(default=0.01, gt=0, description="tau of the tile score's softmax")
    top: float = Field(default=0.25, gt=0, le=1, description="share of the components whose mean is the image score")
    foreground: Literal["auto", "segment", "roi", "whole"] = Field(
        default="auto",
        description="auto: by DIS and SAM where the bundle has them, else the region of interest, else everything",
    )
    overlap: float = Field(default=0.8, gt=0.5, le=1, description="share of an annotation inside DIS's object")
    least_component: float = Field(default=0.001, ge=0, lt=1, description="smallest component, share of the picture")
    saliency: float = Field(default=0.5, gt=0, lt=1, description="threshold on DIS's answer")
    side: int = Field(default=352, ge=16, le=8192, description="least side of a tile in pixels")
    long_aspect: float = Field(default=1.5, ge=1, description="aspect ratio above which a component is long")
    long_parts: int = Field(default=20, ge=0, description="parts that a long component has more of")
    points: int = Field(default=32, ge=1, le=128, description="points that SAM is asked, on each side of the grid")
    iou: float = Field(default=0.88, ge=0, le=1, description="least predicted intersection over union of a SAM mask")
    stability: float = Field(default=0.95, ge=0, le=1, description="least stability of a SAM mask")
    suppression: float = Field(default=0.7, gt=0, le=1, description="overlap of boxes at which the lesser mask goes")
    found: Literal["undecided", "segmented", "roi", "whole", "empty"] = Field(
        default="undecided", description="settled at enrolment: where the tiles come from"
    )
    frame: tuple[int, int] | None = Field(
        default=None, description="settled at enrolment: width and height of the frames that the tiles were cut in"
    )
    tiles: tuple[tuple[int, int, int, int], ...] = Field(
        default=(), description="settled at enrolment: component, x, y and side of each tile"
    )


class Vvv(Method):
    """One bundle's text and, where enrolled, its tiles."""

    def __init__(self, opening: Opening) -> None:
        """Bring together what a frame is scored with.

        Raises:
            UsageError: there is no text.
        """
        super().__init__(opening)
        if opening.text is None:
            raise UsageError(
                "expected text for vvv, found none; prepare the bundle again with edgevand export --method vvv --set "
                "objects=NAME, or choose with --object"
            )
        settings: VvvSettings = opening.settings
        self._difference = (opening.text[1] - opening.text[0]) / np.float32(settings.temperature)
        self._top = settings.top
        image = opening.manifest.image
        self._size = (image.height, image.width)

    @staticmethod
    def boxes(manifest: Manifest, size: tuple[int, int]) -> tuple[Box, ...]:
        """The tiles of a frame."""
        return tuple((tile.x, tile.y, tile.side, tile.side) for tile in _tiles(manifest, size))

    @staticmethod
    def keep(manifest: Manifest, outputs: EncoderOutput) -> Features:
        """Embeddings (V, D) and maps (V, h, w) float16 of a frame's V tiles, and the frame's size (2,)."""
        del manifest
        size = _seen(outputs)[1][0]
        return {
            "kept_embedding": outputs.embedding,
            "kept_damage": outputs.maps[MAP].astype(np.float16),
            "kept_size": np.array(size, np.float32),
        }

    def score(self, outputs: EncoderOutput) -> list[RawScore]:
        """Score N frames by their tiles."""
        counts, sizes = _seen(outputs)
        found, start = [], 0
        for count, size in zip(counts, sizes, strict=True):
            rows = slice(start, start + count)
            found.append(self._one(outputs.embedding[rows], outputs.maps[MAP][rows], size))
            start += count
        return found

    def leave_out(self, groups: Sequence[int]) -> list[RawScore]:
        """Score the enrolled frames: no other frame has a part in it."""
        features = self.opening.features or {}
        return [
            self._one(
                np.asarray(features["kept_embedding"][frame], np.float32),
                np.asarray(features["kept_damage"][frame], np.float32),
                (int(features["kept_size"][frame][0]), int(features["kept_size"][frame][1])),
            )
            for frame in range(len(groups))
        ]

    def _one(self, embedding: NDArray[np.float32], damage: NDArray[np.float32], size: tuple[int, int]) -> RawScore:
        """Embeddings (V, D) and maps (V, h, w) of the tiles of a frame of a size (width, height)."""
        tiles = _tiles(self.opening.manifest, size)
        scores = [_probability(each) for each in (embedding @ self._difference).tolist()]
        raw_map = combine_tiles(damage, scores, tiles, size, self._size)
        if self.opening.inside is not None:
            raw_map[~self.opening.inside] = 0
        score = component_score(scores, tiles, self._top)
        return RawScore(score, raw_map, float(raw_map.max()), score)


def component_score(scores: Sequence[float], tiles: Sequence[Tile], top: float) -> float:
    """Mean of the highest ``ceil(top C)`` of C component scores, each the mean of its tiles' scores."""
    by_component: dict[int, list[float]] = {}
    for score, tile in zip(scores, tiles, strict=True):
        by_component.setdefault(tile.component, []).append(score)
    means = sorted((sum(each) / len(each) for each in by_component.values()), reverse=True)
    # 0.25 * 4 components is one of them, whatever the share is in binary
    count = max(1, math.ceil(top * len(means) - 1e-9))
    return sum(means[:count]) / count


def combine_tiles(
    damage: NDArray[np.float32],
    scores: Sequence[float],
    tiles: Sequence[Tile],
    size: tuple[int, int],
    target: tuple[int, int],
) -> NDArray[np.float32]:
    """The image map: at each place the mean over the tiles that cover it of score times map; 0 where none does.

    Args:
        damage: (V, h, w) float32, a map for each tile.
        scores: of each tile.
        tiles: in a frame.
        size: width and height of the frame.
        target: rows and columns of the result; a tile's edges are rounded to its pixels.
    """
    total = np.zeros(target, np.float32)
    cover = np.zeros(target, np.float32)
    for each, score, tile in zip(damage, scores, tiles, strict=True):
        left, right = _span(tile.x, tile.side, size[0], target[1])
        top, bottom = _span(tile.y, tile.side, size[1], target[0])
        shape = (right - left, bottom - top)
        # Shrunk by the mean, so that a thin defect is not skipped over; enlarged bilinearly.
        shrinks = shape[0] <= each.shape[1] and shape[1] <= each.shape[0]
        fitted = cv2.resize(each, shape, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        total[top:bottom, left:right] += np.float32(score) * fitted
        cover[top:bottom, left:right] += 1
    return np.divide(total, cover, out=total, where=cover > 0)


def _span(start: int, length: int, of: int, cells: int) -> tuple[int, int]:
    """First and one past the last of ``cells`` that a stretch of ``of`` pixels covers; at least one."""
    first = min(round(start * cells / of), cells - 1)
    return first, max(first + 1, round((start + length) * cells / of))


def _probability(logit: float) -> float:
    """Logistic function in double precision; a float32 would be 1 from 17 on, where frames lose their order."""
    return 1 / (1 + math.exp(-logit)) if logit > -700 else math.exp(-700)  # noqa: PLR2004 - near the least exponent


def _seen(outputs: EncoderOutput) -> tuple[Sequence[int], Sequence[tuple[int, int]]]:
    """Tiles and size of each frame."""
    if outputs.seen is None:
        raise BadInputError("expected frames in tiles, found them whole; report this as a mistake of edgevand")
    return outputs.seen.counts, outputs.seen.sizes


def _tiles(manifest: Manifest, size: tuple[int, int]) -> list[Tile]:
    """Tiles of a frame: those of the enrolment, scaled where the frame has another size; else the whole picture's."""
    settings = VvvSettings.model_validate(manifest.settings)
    if settings.frame is None:
        return whole_picture(size)
    tiles = [Tile(*tile) for tile in settings.tiles]
    if settings.frame == size:
        return tiles
    scale = min(size[0] / settings.frame[0], size[1] / settings.frame[1])
    return [_scaled(tile, scale, size) for tile in tiles]


def _scaled(tile: Tile, scale: float, size: tuple[int, int]) -> Tile:
    side = min(max(1, round(tile.side * scale)), *size)
    x, y = (min(round(start * scale), limit - side) for start, limit in zip((tile.x, tile.y), size, strict=True))
    return Tile(tile.component, x, y, side)


def settle(bundle: Bundle, image: NDArray[np.uint8], roi: NDArray[np.uint8] | None) -> VvvSettings:
    """Foreground and tiles of the first frame, as settings.

    Args:
        bundle: as vvv sees it.
        image: (H, W, 3) uint8 BGR.
        roi: (H, W) uint8, 0 outside the region of interest; None for the whole picture.

    Raises:
        UsageError: a foreground was asked for that there is nothing to find with.
    """
    settings = VvvSettings.model_validate(bundle.manifest.settings)
    height, width = image.shape[:2]
    frame = (width, height)
    found, tiles = _look(bundle, image, None if roi is None else roi > 0, settings)
    if not tiles:
        found, tiles = ("whole" if found == "whole" else "empty"), whole_picture(frame)
    return settings.model_copy(update={"found": found, "frame": frame, "tiles": tuple(tuple(tile) for tile in tiles)})


def _look(
    bundle: Bundle, image: NDArray[np.uint8], inside: NDArray[np.bool_] | None, settings: VvvSettings
) -> tuple[str, list[Tile]]:
    """Where the tiles come from, and which they are."""
    rule = ForegroundRule(
        settings.overlap,
        settings.least_component,
        settings.saliency,
        EverythingRule(settings.points, settings.iou, settings.stability, suppression=settings.suppression),
    )
    tile_rule = TileRule(settings.side, settings.long_aspect, settings.long_parts)
    if settings.foreground in {"auto", "segment"}:
        seen = segmented(bundle, image, rule)
        if seen is not None:
            foreground, annotations = seen
            kept = foreground if inside is None else foreground & inside
            return "segmented", tiles_of(kept, annotations, rule, tile_rule)
        if settings.foreground == "segment":
            raise UsageError(
                "expected DIS and SAM in the bundle for --set foreground=segment, found none; prepare it with edgevand "
                "export --method vvv --weights CLIPSEG --weights DIS --weights SAM, or take foreground=roi"
            )
    if settings.foreground != "whole" and inside is not None:
        return "roi", tiles_of(inside, [], rule, tile_rule)
    if settings.foreground == "roi":
        raise UsageError("expected --roi for --set foreground=roi, found none; draw one, or take foreground=whole")
    return "whole", []


def told(enrolled: Enrolled) -> tuple[VvvSettings, tuple[str, ...]]:
    """The settings as they are, and what was settled by the first frame."""
    settings = VvvSettings.model_validate(enrolled.manifest.settings)
    count = len({tile[0] for tile in settings.tiles})
    tiles = len(settings.tiles)
    cut_in = f"{tiles} {'tile' if tiles == 1 else 'tiles'} in {count} {'component' if count == 1 else 'components'}"
    return settings, (f"{cut_in}, cut {_FOUND[settings.found]}",)


VVV = MethodKind(
    name="vvv",
    summary="CLIPSeg and text on tiles of the foreground, without training or memory; for damage that words describe",
    settings=VvvSettings,
    open=Vvv,
    prepared=True,
    poses=False,
    worded=text_by_object,
    at_first=settle,
    decide=told,
)
