"""Which text an object has: the bundle's, or that of a method which brings text of its own (``MethodKind.worded``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from edgevand.errors import UsageError
from edgevand_runtime.methods import kind_of, own_tensors, read_settings

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgevand.bundle import Bundle
    from edgevand_runtime.methods.base import Features, Worded

__all__ = ["ChosenText", "choose_text", "known_objects"]

_GENERAL = "object"


class ChosenText(NamedTuple):
    """What a frame of one object is scored with.

    Attributes:
        object_name: the object; None for a bundle without text.
        text: (2, D) float32 rows (normal, abnormal), or None.
        own: the method's own tensors, by the names that they have in a bank; of a method with text of its own those of
            this object alone.
    """

    object_name: str | None
    text: NDArray[np.float32] | None
    own: Features


def choose_text(view: Bundle, name: str | None, file: Path | None) -> ChosenText:
    """Object and text to work with.

    Args:
        view: the bundle, as the method sees it.
        name: the object; None takes the only one, or the one called ``object``.
        file: embeddings made later by ``edgevand export --text-only``.

    Raises:
        UsageError: no such object; the sentence names those that there are.
        FormatError: the text file does not belong to the bundle.
    """
    worded = _worded(view, file)
    if worded is None:
        own = own_tensors(view.own_tensors())
        if name is None and not view.texts(file):
            return ChosenText(None, None, own)
        return ChosenText(*view.text(name, file=file), own)
    if name is None:
        name = next(iter(worded)) if len(worded) == 1 else _GENERAL
    if name not in worded:
        raise UsageError(
            f"expected an object that {view.path} has text of {view.manifest.method} for ({_listed(worded)}), found "
            f"{name!r}; choose one with --object, or prepare the bundle for it with edgevand export"
        )
    return ChosenText(name, worded[name].text, own_tensors(worded[name].own))


def known_objects(view: Bundle, file: Path | None = None) -> tuple[str, ...]:
    """Objects that ``choose_text`` has text for; errors as there."""
    worded = _worded(view, file)
    return tuple(view.texts(file)) if worded is None else tuple(worded)


def _worded(view: Bundle, file: Path | None) -> dict[str, Worded] | None:
    """Text of the method's own by object; None where it takes the bundle's."""
    kind = kind_of(view.manifest)
    if kind.worded is None:
        return None
    if file is not None:
        raise UsageError(
            f"expected no --text with {kind.name}, whose text is more than a pair of vectors, found {file}; prepare a "
            f"bundle that has the object with edgevand export --method {kind.name}"
        )
    return kind.worded(read_settings(view.manifest), view.own_tensors())


def _listed(names: dict[str, Worded]) -> str:
    """Names for a sentence."""
    shown = list(map(repr, names))
    return ", ".join(shown[:20]) + (f" and {len(shown) - 20} more" if len(shown) > 20 else "")  # noqa: PLR2004
