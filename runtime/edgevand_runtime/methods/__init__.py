"""Methods: how encoder outputs become a raw map and a raw score.

Calibration, decision, sources and sinks know nothing of a method. Adding one is a module here, where it needs more than
the encoder a module on the export side, and a line in ``METHODS`` (docs/adding-a-method.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from edgevand.errors import FormatError
from edgevand_runtime.methods.april_gan import APRIL_GAN
from edgevand_runtime.methods.base import Mark, Method, MethodKind, Opening, RawScore, Settings
from edgevand_runtime.methods.components import COMPONENTS
from edgevand_runtime.methods.gcad import GCAD, GCAD_SELF
from edgevand_runtime.methods.memory import MEMORY
from edgevand_runtime.methods.simplenet import SIMPLENET
from edgevand_runtime.methods.subspace import SUBSPACE
from edgevand_runtime.methods.ustc_loco import USTC_LOCO
from edgevand_runtime.methods.vvv import VVV
from edgevand_runtime.methods.winclip import WINCLIP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edgevand.bundle import Manifest
    from edgevand_runtime.methods.base import Features, Search

__all__ = [
    "METHODS",
    "Mark",
    "Method",
    "MethodKind",
    "RawScore",
    "Settings",
    "kind_of",
    "open_method",
    "own_tensors",
    "read_settings",
    "usual_sd",
]

METHODS: dict[str, MethodKind] = {
    kind.name: kind
    for kind in (APRIL_GAN, USTC_LOCO, VVV, WINCLIP, SIMPLENET, GCAD, GCAD_SELF, MEMORY, SUBSPACE, COMPONENTS)
}
"""By the word of ``--method``."""

_OWN = "own_"
"""What the names of a method's own tensors begin with in a bank, which carries them like its text."""


def kind_of(manifest: Manifest) -> MethodKind:
    """The method that a manifest is seen by.

    Raises:
        FormatError: this version does not know it.
    """
    if manifest.method not in METHODS:
        message = (
            f"expected a bundle of the method {' or '.join(METHODS)}, found {manifest.method}; "
            "export it with this version or use a newer one"
        )
        raise FormatError(message)
    return METHODS[manifest.method]


def read_settings(manifest: Manifest) -> Settings:
    """The options that a manifest is seen with.

    Raises:
        FormatError: the method has no such option, or not such a value.
    """
    try:
        return kind_of(manifest).settings.model_validate(manifest.settings)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        message = (
            f"expected options of the method {manifest.method} in the bundle or bank, found {place}: {first['msg']}; "
            f"see edgevand methods show {manifest.method}, then export or enrol again"
        )
        raise FormatError(message) from error


def usual_sd(manifest: Manifest) -> float | None:
    """Usual deviation of ln(raw score) among normal frames of one scene; None where none is known for the method."""
    return manifest.score.usual_sd if kind_of(manifest).usual_spread else None


def open_method(
    manifest: Manifest,
    text: NDArray[np.float32] | None,
    search: Search | None,
    inside: NDArray[np.bool_] | None = None,
    *,
    features: Features | None = None,
) -> Method:
    """The method that a manifest is seen by, with everything a frame is scored with.

    Args:
        manifest: of the bundle, as the method sees it.
        text: (2, D) float32 unit rows (normal, abnormal), or None.
        search: memory bank of the enrolled frames, for methods that search one; None for zero-shot.
        inside: (S_h, S_w) region of interest at the bundle's image size; None for the whole image.
        features: of the enrolled frames, with the method's own tensors (``own_tensors``); those alone for zero-shot.

    Raises:
        FormatError: this version does not know the method or one of its options.
    """
    own = {name.removeprefix(_OWN): each for name, each in (features or {}).items() if name.startswith(_OWN)}
    enrolled = {name: each for name, each in (features or {}).items() if not name.startswith(_OWN)}
    opening = Opening(manifest, read_settings(manifest), text, enrolled or None, inside, search, own)
    return kind_of(manifest).open(opening)


def own_tensors(tensors: Mapping[str, NDArray[Any]]) -> Features:
    """A method's own tensors out of a bundle, by the names that they have in a bank."""
    return {f"{_OWN}{name}": np.asarray(tensor) for name, tensor in tensors.items()}
