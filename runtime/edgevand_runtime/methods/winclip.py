"""WinCLIP: text on windows of patches, with few normal frames beside it (Jeong et al., CVPR 2023; methods.md (d)).

::

    s     = softmax(cos(image, text) / tau)[abnormal]
    p_w   = the same of a window w of 2x2 or 3x3 patches                       in the graph, as a logit
    p_k   = harmonic mean of p_w over the windows of k x k that cover a patch
    text  = harmonic mean of p_2, p_3 and s
    d_w   = min over the enrolled windows of (1 - cos) / 2;  d_k as p_k;  d_p of the patch tokens themselves
    ref   = mean of d_2, d_3 and d_p
    map   = text,  raw = s                                                     without a bank
    map   = (text + ref) / 2,  raw = (s + max ref) / 2                         with one
    map   = ref,  raw = max ref                                                with one, terms = reference

A bundle says whether its text is fit to be summed with a bank (``manifest.score.terms``); ``terms=auto`` follows it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from edgevand.errors import UsageError
from edgevand_runtime.maps import sigmoid
from edgevand_runtime.methods.base import Method, MethodKind, Opening, RawScore, Settings
from edgevand_runtime.methods.grids import cells_inside, enlarge
from edgevand_runtime.methods.own_text import Names, text_by_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.engines import EncoderOutput

__all__ = ["WINCLIP", "WinClip", "WinClipSettings", "covered"]

_LEAST = 1e-6
"""A harmonic mean's guard: what is smaller counts as this."""


class WinClipSettings(Settings):
    """Options of winclip."""

    objects: Names = Field(default=(), description="whose sentences are embedded at export; none: all of the base")
    image_size: int | None = Field(
        default=None, ge=16, le=4096, description="side of the image in pixels, chosen at export; none: the base's"
    )
    temperature: float = Field(default=0.01, gt=0, description="tau of every softmax")
    terms: Literal["auto", "both", "reference"] = Field(
        default="auto",
        description="with a bank: text and enrolled windows, as published, or these alone; auto: both, unless the "
        "bundle says that its text is not to be summed with a bank",
    )


class WinClip(Method):
    """One bundle's text and, where enrolled, its windows and patches."""

    def __init__(self, opening: Opening) -> None:
        """Bring together what a frame is scored with.

        Raises:
            UsageError: there is no text.
        """
        super().__init__(opening)
        if opening.text is None:
            raise UsageError(
                "expected text for winclip, found none; prepare the bundle again with edgevand export --method winclip"
            )
        settings: WinClipSettings = opening.settings
        manifest = opening.manifest
        self._direction = (opening.text[1] - opening.text[0]) / np.float32(settings.temperature)
        self._scale = np.float32(1 / (settings.temperature * manifest.logit_scale))
        summed = "text" in manifest.score.terms if settings.terms == "auto" else settings.terms == "both"
        self._sums_text = summed
        self._size = (manifest.image.height, manifest.image.width)
        self._grid = manifest.stages[-1].grid
        self._outside = None if opening.inside is None else ~opening.inside
        self._cells = None if opening.inside is None else cells_inside(opening.inside, self._grid)

    def score(self, outputs: EncoderOutput) -> list[RawScore]:
        """Score N encoded frames."""
        search = self.opening.search
        return self.combine(outputs, None if search is None else search.distances(outputs.tokens))

    def combine(self, outputs: EncoderOutput, distances: Sequence[NDArray[np.float32]] | None) -> list[RawScore]:
        """Score N frames by the text and, where they are given, by their distances."""
        whole = [_probability(each) for each in (outputs.embedding @ self._direction).tolist()]
        windows = [covered(sigmoid(stage * self._scale), self._grid) for stage in outputs.logits]
        reference = None if distances is None else self._reference(distances)
        return [
            self._one(score, [stage[row] for stage in windows], None if reference is None else reference[row])
            for row, score in enumerate(whole)
        ]

    def _reference(self, distances: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """(N, h, w): mean over windows' scales and patches of half the distance to the enrolled ones."""
        manifest = self.opening.manifest
        grids = [stage.grid for stage in manifest.stages]
        halves = [each.reshape(-1, *grid) * np.float32(0.5) for each, grid in zip(distances, grids, strict=True)]
        total = halves[-1].copy()
        for each in halves[:-1]:
            total += covered(each, self._grid)
        return total / np.float32(len(halves))

    def _one(self, score: float, windows: list[NDArray[np.float32]], reference: NDArray[np.float32] | None) -> RawScore:
        inverse = np.full(self._grid, 1 / max(score, _LEAST), np.float32)
        for each in windows:
            inverse += 1 / np.maximum(each, np.float32(_LEAST))
        grid = np.float32(1 + len(windows)) / inverse
        raw = score
        if reference is not None:
            highest = float((reference if self._cells is None else reference[self._cells]).max())
            if self._sums_text:
                grid, raw = (grid + reference) / np.float32(2), (score + highest) / 2
            else:
                grid, raw = reference, highest
        raw_map = enlarge(grid, self._size)
        if self._outside is not None:
            np.copyto(raw_map, np.float32(0), where=self._outside)
        return RawScore(score, raw_map, float(raw_map.max()), raw)


def covered(windows: NDArray[np.float32], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Harmonic mean, for each patch, over the windows that cover it.

    Args:
        windows: (N, h - k + 1, w - k + 1) float32, of windows of k x k patches; below 1e-6 counts as 1e-6.
        grid: h and w.

    Returns:
        (N, h, w) float32.
    """
    inverse = 1 / np.maximum(windows, np.float32(_LEAST))
    rows, columns = windows.shape[1:]
    total = np.zeros((len(windows), *grid), np.float32)
    count = np.zeros(grid, np.float32)
    for down in range(grid[0] - rows + 1):
        for right in range(grid[1] - columns + 1):
            total[:, down : down + rows, right : right + columns] += inverse
            count[down : down + rows, right : right + columns] += 1
    return count / total


def _probability(logit: float) -> float:
    """Logistic function in double precision: a float32 is 1 from 17 on, where frames lose their order."""
    return 1 / (1 + math.exp(-logit))


WINCLIP = MethodKind(
    name="winclip",
    summary="text on windows of patches, and the nearest enrolled windows beside it; the zero-shot baseline",
    settings=WinClipSettings,
    open=WinClip,
    searches=True,
    prepared=True,
    worded=text_by_object,
)
