"""The bank: what ``edgevand enroll`` writes for one camera (docs/formats.md).

    bank.json               this module's ``BankRecord``
    features.safetensors    encoder outputs of the enrolled frames (below)
    roi.png                 optional mask of the region of interest, frame size, 0 or 255
    frames/<id>.jpg         thumbnails of the enrolled frames, <id> four digits
    contact-sheet.jpg       what was taken and what was refused

``features.safetensors``, F frames, A augmented copies of each, per stage i of the bundle with P tokens of width C:
``tokens_<i>`` [F, 1+A, P, C] unit vectors (float32, or float16 for an fp16 bundle; copy 0 is the frame itself),
``embedding`` [F, D] float32, ``logits_<i>`` [F, h, w] float32 where the stage has a head, and
``text`` [2, D] float32 where the bank was enrolled with an object.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgevand.bundle import FileRecord, Record

__all__ = ["BANK_SCHEMA", "Bank", "BankRecord", "CalibrationRecord", "FrameRecord"]

BANK_SCHEMA = "edgevand.bank/1"


class FrameRecord(Record):
    """One enrolled frame."""

    id: int = Field(ge=1)
    source: str
    frame: int = Field(ge=0, description="index in its source")
    time: str = Field(description="UTC, ISO 8601 with milliseconds and Z")
    media_time: float | None = Field(description="seconds into the video, null elsewhere")
    group: int = Field(ge=0, description="near-copies share a group and count once in calibration")


class LimitRecord(Record):
    """One calibrated quantity (methods.md (g)): y = ln(raw), location-scale, threshold in raw units."""

    mean: float
    sd: float = Field(gt=0, description="standard deviation of y, floored at 0.05")
    threshold: float = Field(gt=0, description="raw value at which the calibrated score is 0.5")


class CalibrationRecord(Record):
    """Leave-one-frame-out calibration."""

    kind: Literal["conformal", "extrapolated", "none"]
    false_alarm_rate: float = Field(gt=0, lt=1)
    n: int = Field(ge=0, description="independent groups of frames")
    scores: tuple[float, ...] = Field(description="raw image score of each group, left out")
    image: LimitRecord | None
    map: LimitRecord | None = Field(description="of the map's maximum: the map's own threshold")


class BankRecord(Record):
    """``bank.json``."""

    schema_: Literal["edgevand.bank/1"] = Field(alias="schema")
    created: str
    generator: str
    bundle: str = Field(pattern="^sha256:[0-9a-f]{64}$")
    method: str
    object: str | None
    source: str = Field(description="the source it was enrolled from; monitor's default")
    frame_size: tuple[int, int] = Field(description="width, height in pixels")
    roi: tuple[int, int, int, int] | Literal["roi.png"] | None = Field(description="x, y, w, h in pixels, or the mask file")
    augment: tuple[Literal["rotate", "flip"], ...]
    interval: float
    frames: tuple[FrameRecord, ...]
    calibration: CalibrationRecord
    version: int = Field(ge=1)
    files: dict[str, FileRecord]
