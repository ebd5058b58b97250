"""Text by object among a method's own tensors: ``text_<object>`` (2, D), rows (normal, abnormal)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BeforeValidator

from edgevand_runtime.methods.base import Worded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["Names", "text_by_object"]

_PREFIX = "text_"


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_several)]
"""Names between commas, or one."""


def text_by_object(settings: object, own: Mapping[str, NDArray[Any]]) -> dict[str, Worded]:
    """Text of each object, for a method that needs nothing else of its own (``MethodKind.worded``)."""
    del settings
    return {
        name.removeprefix(_PREFIX): Worded(np.asarray(each, np.float32), {})
        for name, each in own.items()
        if name.startswith(_PREFIX)
    }
