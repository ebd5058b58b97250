"""Zero-shot and few-shot visual anomaly detection with CLIP, from a checkpoint to a camera.

    import edgevand

    bundle = edgevand.Bundle.open("bundles/ViT-L-14-336-518-fp32")
    bank = edgevand.Bank.open("banks/line-1", bundle)
    with edgevand.Detector.open(bundle, bank) as detector, edgevand.open_source("0") as camera:
        for frame in camera:
            (result,) = detector.detect([frame])
            print(result.score, result.regions)

Every name below is imported when it is first used, so that ``import edgevand`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgevand import errors
    from edgevand.bank import Bank
    from edgevand.bundle import Bundle
    from edgevand_runtime.detector import Detector
    from edgevand_runtime.engines import open_engine
    from edgevand_runtime.enroll import EnrolOptions, enroll
    from edgevand_runtime.frame import Frame
    from edgevand_runtime.results import Region, Result
    from edgevand_runtime.sources import open_source

__version__ = "0.1.0"

__all__ = [
    "Bank",
    "Bundle",
    "Detector",
    "EnrolOptions",
    "Frame",
    "Region",
    "Result",
    "__version__",
    "enroll",
    "errors",
    "open_engine",
    "open_source",
]

_HOME_OF = {
    "Bank": "edgevand.bank",
    "Bundle": "edgevand.bundle",
    "Detector": "edgevand_runtime.detector",
    "EnrolOptions": "edgevand_runtime.enroll",
    "Frame": "edgevand_runtime.frame",
    "Region": "edgevand_runtime.results",
    "Result": "edgevand_runtime.results",
    "enroll": "edgevand_runtime.enroll",
    "open_engine": "edgevand_runtime.engines",
    "open_source": "edgevand_runtime.sources",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 (the names above have their own types)
    """Import a public name at its first use."""
    if name == "errors":
        return import_module("edgevand.errors")
    if name not in _HOME_OF:
        message = f"module 'edgevand' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
