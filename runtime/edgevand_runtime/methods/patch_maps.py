"""From a value for each patch of each stage to a frame's map and score, for methods that score patches alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field, field_validator

from edgevand.errors import UsageError
from edgevand_runtime.maps import top_mean, upsample
from edgevand_runtime.methods.base import RawScore, Settings
from edgevand_runtime.methods.grids import gaussian

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand.bundle import Manifest
    from edgevand.manifest import StageRecord

__all__ = ["LEAST_SCORE", "PatchMaps", "PatchSettings", "chosen_stages"]

LEAST_SCORE = 1e-9
"""Of a frame in which nothing differs at all: calibration takes the logarithm."""


class PatchSettings(Settings):
    """How patches make a frame's map and score."""

    stages: tuple[int, ...] | None = Field(
        default=None, description="stages of the bundle that are looked at, by index (6,12); null for all"
    )
    top: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.01, description="the score is the mean of this share of the map's pixels, the highest ones"
    )
    smoothing: float = Field(
        default=0.0, ge=0, le=100, description="deviation in pixels of a Gaussian over the map; 0 is off"
    )

    @field_validator("stages", mode="before")
    @classmethod
    def _one_stage(cls, value: object) -> object:
        """``stages=6`` is a list of one."""
        return (value,) if isinstance(value, int) else value


def chosen_stages(manifest: Manifest, settings: PatchSettings) -> tuple[StageRecord, ...]:
    """The stages that are looked at, in the bundle's order.

    Raises:
        UsageError: one that the bundle does not have, or none.
    """
    known = [stage.index for stage in manifest.stages]
    wanted = known if settings.stages is None else list(settings.stages)
    if not wanted or set(wanted) - set(known):
        message = (
            f"expected stages among {', '.join(map(str, known))} of the bundle, found "
            f"{', '.join(map(str, wanted)) or 'none'}; change --set stages."
        )
        raise UsageError(message)
    return tuple(stage for stage in manifest.stages if stage.index in wanted)


class PatchMaps:
    """Sums the stages' maps, enlarged to the image, and takes the mean of the highest pixels as the score."""

    def __init__(self, manifest: Manifest, settings: PatchSettings, inside: NDArray[np.bool_] | None) -> None:
        """Remember sizes.

        Args:
            manifest: of the bundle, as the method sees it.
            settings: of the method.
            inside: (S_h, S_w) region of interest; None for the whole image.

        Raises:
            UsageError: a stage is wanted that the bundle does not have.
        """
        self.stages = chosen_stages(manifest, settings)
        self._size = (manifest.image.height, manifest.image.width)
        self._settings = settings
        self._inside = inside

    def raw(self, values: Sequence[NDArray[np.float32]]) -> RawScore:
        """Map and score of one frame.

        Args:
            values: for each of ``stages`` (P,) float32, at least 0.
        """
        total = np.zeros(self._size, np.float32)
        for stage, each in zip(self.stages, values, strict=True):
            total += upsample(each.reshape(1, *stage.grid), self._size)[0]
        if self._inside is not None:
            total[~self._inside] = 0
        total = gaussian(total, self._settings.smoothing)
        if self._inside is not None:
            total[~self._inside] = 0
        counted = total if self._inside is None else total[self._inside]
        score = max(top_mean(counted, self._settings.top), LEAST_SCORE)
        return RawScore(text_score=None, raw_map=total, map_max=float(total.max()), raw_score=score)
