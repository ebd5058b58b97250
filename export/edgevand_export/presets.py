"""What to export for which device: ``edgevand export --for NAME`` (docs/presets.md).

A preset says no more than four options, and each that a person gives goes before it. Which of them was measured
stands beside it: only processors were at hand, the rest is estimated from the encoder's work and the device's data
sheet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgevand.errors import UsageError

if TYPE_CHECKING:
    from edgevand.bundle import Precision

__all__ = ["PRESETS", "Preset", "find_preset"]


@dataclass(frozen=True, slots=True)
class Preset:
    """Options of an export.

    Attributes:
        model: open_clip's name.
        image_size: side in pixels.
        precision: of the graph.
        backend: what the device is to run it with, a word of ``--backend``.
        evidence: whether its speed was measured on such a device or is estimated.
    """

    model: str
    image_size: int
    precision: Precision
    backend: str
    evidence: Literal["measured", "estimated"]


PRESETS: dict[str, Preset] = {
    "jetson-orin-nano": Preset("ViT-B-16-plus-240", 240, "fp16", "tensorrt", "estimated"),
    "jetson-agx-orin": Preset("ViT-L-14-336", 518, "fp16", "tensorrt", "estimated"),
    "rtx": Preset("ViT-L-14-336", 518, "fp16", "tensorrt-rtx", "estimated"),
    "cpu": Preset("ViT-B-16-plus-240", 240, "fp32", "onnxruntime", "measured"),
    "pi5": Preset("ViT-B-32", 224, "int8", "onnxruntime", "estimated"),
}


def find_preset(name: str | None, *, precision: Precision | None, calibrated: bool) -> Preset | None:
    """The preset of a device; None for none.

    Args:
        name: a key of ``PRESETS``, or None.
        precision: what a person chose, which goes before the preset's.
        calibrated: whether frames to calibrate int8 with are given.

    Raises:
        UsageError: no such device, or its preset is int8 and there are no frames for it.
    """
    if name is None:
        return None
    preset = PRESETS.get(name)
    if preset is None:
        raise UsageError(f"expected --for {' or '.join(PRESETS)}, found {name!r}; choose one, or give --model yourself")
    if preset.precision == "int8" and precision is None and not calibrated:
        raise UsageError(
            f"expected --calibrate SOURCE with normal frames of the camera for --for {name}, whose graph is int8, "
            "found none; give it, or choose another --precision"
        )
    return preset
