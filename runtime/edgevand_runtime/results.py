"""The result of one frame, ``edgevand.result/1`` (interface.md)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevand_runtime.methods import Mark

__all__ = ["RESULT_SCHEMA", "Region", "Result"]

RESULT_SCHEMA = "edgevand.result/1"


@dataclass(frozen=True, slots=True)
class Region:
    """A connected component of the map above the map's threshold, in pixels of the source frame.

    ``peak`` in [0, 1] is the calibrated map score of its highest pixel (0.5 at the map's threshold).
    """

    x: int
    y: int
    w: int
    h: int
    area: int
    peak: float


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One frame's verdict; the fields are the contract's, the raw map and its two limits stay in the process.

    Attributes:
        text_score: abnormal probability that the text gives, in [0, 1]; None without text.
        map_max: maximum of the raw map; None where the method drew no map (neither heads nor a bank).
        raw_score: the method's own image score.
        score: calibrated, in [0, 1], 0.5 at the threshold; None where nothing was calibrated.
        engine: what ran the encoder, like ``onnxruntime:cpu``.
        precision: of its graph.
        raw_map: (S_h, S_w) float32 raw anomaly map at the bundle's image size, 0 outside the region of interest;
            None where the method drew no map.
        map_threshold: raw map value at which a pixel counts as anomalous; None where nothing was calibrated.
        map_normal: what the map's maximum typically is on a normal frame (geometric mean over the enrolled frames, each
            left out); None where nothing was calibrated.
        reason: what speaks most for an anomaly, in a few words; None where the method cannot say.
        marks: what the method points at.
    """

    source: str
    camera: str | None
    frame: int
    time: str
    text_score: float | None
    map_max: float | None
    raw_score: float
    score: float | None
    threshold: float | None
    calibration: str
    p_value: float | None
    anomalous: bool | None
    regions: tuple[Region, ...]
    latency_ms: float
    method: str
    bundle: str
    bank: str | None
    engine: str
    precision: str
    raw_map: NDArray[np.float32] | None
    map_threshold: float | None
    map_normal: float | None = None
    reason: str | None = None
    marks: tuple[Mark, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The contract's JSON object; floats are finite."""
        kept = {"raw_map", "map_threshold", "map_normal", "regions", "marks"}
        fields = {name: getattr(self, name) for name in self.__slots__ if name not in kept}
        return {
            "schema": RESULT_SCHEMA,
            **fields,
            "regions": [asdict(region) for region in self.regions],
            "marks": [asdict(mark) for mark in self.marks],
        }
