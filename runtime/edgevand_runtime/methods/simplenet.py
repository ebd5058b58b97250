"""SimpleNet: a small network that tells clean features from noised ones (arXiv 2303.15140; methods.md (e)).

::

    f   = aggregate(backbone(image))             3x3 neighbourhoods of two levels, frozen
    D   = discriminator(adaptor(f))              trained on the enrolled frames; folded into two layers in the graph
    map = softplus(gauss_4(bilinear(-D)))        raw = softplus(max over cells of -D)

The softplus is ours: it makes scores positive, as the calibration's logarithm needs, and keeps their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgevand_runtime.methods.base import Method, MethodKind, Opening, RawScore, Settings
from edgevand_runtime.methods.grids import cells_inside, enlarge, gaussian, softplus
from edgevand_runtime.methods.held_out import unseen_maps

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgevand_runtime.engines import EncoderOutput

__all__ = ["SIMPLENET", "SimpleNet", "SimpleNetSettings"]


class SimpleNetSettings(Settings):
    """Options of SimpleNet; all but ``smoothing`` are of the training and change nothing afterwards."""

    smoothing: float = Field(4.0, ge=0, le=100, description="deviation in pixels of the map's Gaussian; 0: none")
    backbone: Literal["tf_efficientnet_lite0", "wide_resnet50_2", "resnet18"] = Field(
        "tf_efficientnet_lite0", description="training: frozen ImageNet network; wide_resnet50_2 is the published one"
    )
    image_size: int | None = Field(
        None, ge=32, le=1024, multiple_of=16, description="training: side in pixels; null: 224 for lite0, else 288"
    )
    dim: int | None = Field(
        None, ge=2, le=4096, multiple_of=2, description="training: of aggregated features; null: 384 for lite0, 1536"
    )
    hidden: int | None = Field(
        None, ge=1, le=4096, description="training: width of the discriminator; null: 256 for lite0, 1024"
    )
    noise: float = Field(0.015, gt=0, le=10, description="training: deviation of the noise that makes a fake feature")
    margin: float = Field(0.5, gt=0, le=10, description="training: of the hinge on either side")
    passes: int = Field(160, ge=1, le=10_000, description="training: over all frames; fixed, no epoch is chosen")
    batch: int = Field(8, ge=1, le=256, description="training: frames in a step")
    adaptor_lr: float = Field(1e-4, gt=0, le=10, description="training: learning rate of the adaptor's AdamW")
    discriminator_lr: float = Field(2e-4, gt=0, le=10, description="training: of the discriminator's Adam")
    weight_decay: float = Field(1e-5, ge=0, le=1, description="training: of the discriminator's Adam")
    folds: int = Field(4, ge=2, le=20, description="training: models that give held-out scores for the calibration")
    seed: int = Field(0, ge=0, lt=1 << 32, description="training: of first weights, order and noise")


class SimpleNet(Method):
    """Scores what the graph's map ``anomaly`` (-D of each cell) says."""

    def __init__(self, opening: Opening) -> None:
        """Look at the region of interest once."""
        super().__init__(opening)
        image = opening.manifest.image
        self._size = (image.height, image.width)
        grid = next(each.grid for each in opening.manifest.maps if each.name == "anomaly")
        self._outside = None if opening.inside is None else ~opening.inside
        self._cells = None if opening.inside is None else cells_inside(opening.inside, grid)

    def score(self, outputs: EncoderOutput) -> list[RawScore]:
        """Score N frames."""
        return [self._one(cells) for cells in outputs.maps["anomaly"]]

    def leave_out(self, groups: Sequence[int]) -> list[RawScore]:
        """Score the enrolled frames, those of the training by their held-out maps."""
        del groups
        return [self._one(cells) for cells in unseen_maps(self.opening.features or {}, self.opening.own)["anomaly"]]

    def _one(self, cells: NDArray[np.float32]) -> RawScore:
        kept = cells if self._cells is None else cells[self._cells]
        raw = softplus(kept.max())
        raw_map = softplus(gaussian(enlarge(cells, self._size), self.opening.settings.smoothing))
        if self._outside is not None:
            raw_map[self._outside] = 0
        return RawScore(None, raw_map, float(raw_map.max()), float(raw))


SIMPLENET = MethodKind(
    name="simplenet",
    summary="a network trained to tell clean patches from noised ones; structural defects, fast on devices",
    settings=SimpleNetSettings,
    open=SimpleNet,
    poses=False,
    prepared=True,
)
