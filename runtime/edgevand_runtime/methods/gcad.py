"""GCAD: what two networks fail to predict, locally and of the whole (Bergmann et al., IJCV 2022; methods.md (f)).

::

    A_loc = mean over channels of (E_loc - R_loc)^2      16x16 px pieces: structural anomalies
    A_glo = mean over channels of (E_glo - R_glo)^2      through a bottleneck of 32 numbers: logical anomalies
    A     = (A_loc - mu_loc) / sigma_loc + (A_glo - mu_glo) / sigma_glo
    map   = bilinear(A + mu_loc / sigma_loc + mu_glo / sigma_glo)         raw = max over cells of the same

mu and sigma are those of the held-out maps of the training's K folds. The constant that is added is ours: it moves A's
smallest possible value, that of two perfect predictions, to 0, as the calibration's logarithm needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from edgevand_runtime.methods.base import Method, MethodKind, Opening, RawScore, Settings
from edgevand_runtime.methods.grids import cells_inside, enlarge
from edgevand_runtime.methods.held_out import unseen_maps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.engines import EncoderOutput

__all__ = ["BRANCHES", "GCAD", "GCAD_SELF", "Gcad", "GcadSettings", "standardised"]

BRANCHES = ("local", "global")
STATISTICS = "statistics"
"""The own tensor with mu and sigma: (2, 2) float32, rows as in ``BRANCHES``."""

Width = Annotated[int, Field(ge=1, le=4096)]

_POSITIVE = 1e-6


class GcadSettings(Settings):
    """Options of GCAD; all but ``branches`` are of the training and change nothing afterwards."""

    branches: Literal["both", "local", "global"] = Field(
        "both", description="whose error counts: local sees structure, global the whole (both: their standardised sum)"
    )
    backbone: Literal["tf_efficientnet_lite0", "wide_resnet50_2", "resnet18"] = Field(
        "tf_efficientnet_lite0", description="training: frozen ImageNet network of the local encoder"
    )
    image_size: int = Field(256, ge=64, le=1024, multiple_of=64, description="training: side in pixels")
    tile: int = Field(
        32, ge=16, le=128, multiple_of=16, description="training: pixels to which a 16x16 piece is enlarged"
    )
    channels: tuple[Width, Width, Width, Width, Width] | None = Field(
        None, description="training: of the regressors' five levels; null: 16,32,64,128,256 for lite0, else 64 to 1024"
    )
    encoder_channels: tuple[Width, Width, Width, Width, Width] | None = Field(
        None, description="training: of the global encoder's five levels; null: half of the regressors'"
    )
    bottleneck: int = Field(32, ge=1, le=1024, description="training: numbers that the global encoder may keep")
    global_depth: int = Field(10, ge=1, le=256, description="training: channels of the global encoder's output")
    epochs: int | None = Field(
        None, ge=1, le=10_000, description="training: over frames and copies; null: 40 for lite0, else 100"
    )
    batch: int = Field(4, ge=1, le=256, description="training: pictures in a step")
    lr: float | None = Field(
        None, gt=0, le=10, description="training: learning rate of Adam; null: 1e-3 for lite0, else the published 1e-4"
    )
    weight_decay: float = Field(1e-5, ge=0, le=1, description="training: of Adam")
    copies: int = Field(4, ge=0, le=50, description="training: augmented copies of each frame beside itself")
    jitter: float = Field(
        0.1, ge=0, le=0.9, description="training: copies' brightness, contrast and saturation vary by this share"
    )
    flips: bool = Field(default=False, description="training: copies may be mirrored; a mirrored layout is then normal")
    rotation: float = Field(0.0, ge=0, le=180, description="training: copies may be turned by up to so many degrees")
    folds: int = Field(4, ge=2, le=20, description="training: models that give held-out scores for the calibration")
    seed: int = Field(0, ge=0, lt=1 << 32, description="training: of first weights, order and copies")


def standardised(
    maps: Mapping[str, NDArray[np.float32]], statistics: NDArray[np.float32], branches: Sequence[str] = BRANCHES
) -> NDArray[np.float32]:
    """Sum of the branches' errors in deviations of normal frames, 0 where both predict perfectly.

    Args:
        maps: by branch (…, h, w) float32, at least 0.
        statistics: (2, 2) mu and sigma, rows as in ``BRANCHES``.
        branches: that count.

    Returns:
        (…, h, w) float32: A + the sum of mu / sigma, which is the sum of A_branch / sigma_branch.
    """
    parts = [maps[name] / statistics[BRANCHES.index(name), 1] for name in branches]
    total: NDArray[np.float32] = np.sum(parts, axis=0, dtype=np.float32)
    return total


class Gcad(Method):
    """Scores what the graph's maps ``local`` and ``global`` say; both kinds of regressor alike."""

    def __init__(self, opening: Opening) -> None:
        """Look at the region of interest once."""
        super().__init__(opening)
        image = opening.manifest.image
        self._size = (image.height, image.width)
        self._statistics = np.asarray(opening.own[STATISTICS], np.float32)
        chosen = opening.settings.branches
        self._branches = BRANCHES if chosen == "both" else (chosen,)
        grid = opening.manifest.maps[0].grid
        self._outside = None if opening.inside is None else ~opening.inside
        self._cells = None if opening.inside is None else cells_inside(opening.inside, grid)

    def score(self, outputs: EncoderOutput) -> list[RawScore]:
        """Score N frames."""
        return self._scores(outputs.maps)

    def leave_out(self, groups: Sequence[int]) -> list[RawScore]:
        """Score the enrolled frames, those of the training by their held-out maps."""
        del groups
        return self._scores(unseen_maps(self.opening.features or {}, self.opening.own))

    def _scores(self, maps: Mapping[str, NDArray[np.float32]]) -> list[RawScore]:
        return [self._one({name: maps[name][frame] for name in BRANCHES}) for frame in range(len(maps[BRANCHES[0]]))]

    def _one(self, maps: Mapping[str, NDArray[np.float32]]) -> RawScore:
        cells = standardised(maps, self._statistics, self._branches)
        kept = cells if self._cells is None else np.where(self._cells, cells, 0)
        raw_map = enlarge(cells, self._size)
        if self._outside is not None:
            raw_map[self._outside] = 0
        peak = np.unravel_index(int(kept.argmax()), kept.shape)
        raw = max(float(kept[peak]), _POSITIVE)
        return RawScore(None, raw_map, float(raw_map.max()), raw, reason=self._reason(maps, peak))

    def _reason(self, maps: Mapping[str, NDArray[np.float32]], peak: tuple[np.intp, ...]) -> str:
        """Which branch speaks most at the peak, in deviations of normal frames."""
        told = {
            name: (float(maps[name][peak]) - mean) / deviation
            for name, (mean, deviation) in zip(BRANCHES, self._statistics.tolist(), strict=True)
            if name in self._branches
        }
        most = max(told, key=lambda name: told[name])
        words = {"local": "structure", "global": "the whole"}[most]
        return f"{words} is not as predicted ({most} branch, {told[most]:.1f} deviations)"


GCAD = MethodKind(
    name="gcad",
    summary="two networks predict what others see, in pieces and of the whole; structural and logical defects",
    settings=GcadSettings,
    open=Gcad,
    poses=False,
    prepared=True,
)
GCAD_SELF = MethodKind(
    name="gcad-self",
    summary="like gcad, with regressors of the global encoder's own shape in place of U-Nets",
    settings=GcadSettings,
    open=Gcad,
    poses=False,
    prepared=True,
)
