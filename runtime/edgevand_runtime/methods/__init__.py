"""Methods: how encoder outputs become a raw map and a raw score.

Calibration, decision, sources and sinks know nothing of a method. Adding one is a module here, a module on the
export side and a line in ``_METHODS``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevand.errors import FormatError
from edgevand_runtime.methods.april_gan import AprilGan
from edgevand_runtime.methods.base import Method, RawScore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevand.bundle import Manifest
    from edgevand_runtime.methods.base import Search

__all__ = ["Method", "RawScore", "open_method"]

_METHODS = {"april-gan": AprilGan}


def open_method(
    manifest: Manifest,
    text: NDArray[np.float32] | None,
    memory: Search | None,
    inside: NDArray[np.bool_] | None = None,
) -> Method:
    """The method that a bundle names, with everything a frame is scored with.

    Args:
        manifest: of the bundle.
        text: (2, D) float32 unit rows (normal, abnormal), or None.
        memory: bank of the enrolled frames, or None for zero-shot.
        inside: (S_h, S_w) region of interest at the bundle's image size; None for the whole image.

    Raises:
        FormatError: this version does not know the method.
    """
    if manifest.method not in _METHODS:
        message = (
            f"expected a bundle of the method {' or '.join(_METHODS)}, found {manifest.method}; "
            "export it with this version or use a newer one"
        )
        raise FormatError(message)
    return _METHODS[manifest.method](manifest, text, memory, inside)
