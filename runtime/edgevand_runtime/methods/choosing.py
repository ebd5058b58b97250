"""A method and its options by what a person types: ``--method NAME``, ``--set KEY=VALUE``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from edgevand.errors import UsageError
from edgevand_runtime.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgevand.bundle import Bundle
    from edgevand_runtime.methods import MethodKind

__all__ = ["find_kind", "parse_settings", "seen_as"]


def find_kind(name: str) -> MethodKind:
    """The method of a name.

    Raises:
        UsageError: there is none; the sentence names those that there are.
    """
    if name not in METHODS:
        raise UsageError(f"expected --method {' or '.join(METHODS)}, found {name!r}; see edgevand methods")
    return METHODS[name]


def seen_as(
    bundle: Bundle, name: str | None = None, settings: Mapping[str, Any] | None = None, pairs: Sequence[str] = ()
) -> Bundle:
    """A bundle as a method sees it, with every option of the method spelled out.

    Args:
        bundle: an opened bundle.
        name: the method; None for the one that the bundle is seen as.
        settings: options by name, before ``pairs``.
        pairs: ``key=value`` as typed.

    Raises:
        UsageError: no such method or option, a value that does not fit, or a bundle that was not prepared for it.
    """
    kind = find_kind(name or bundle.manifest.method)
    if kind.prepared and bundle.prepared_for(kind.name) is None:
        raise UsageError(
            f"expected a bundle prepared for {kind.name}, found {bundle.path} without it; make one with edgevand "
            f"export --method {kind.name} (docs/methods.md)"
        )
    same = kind.name == bundle.manifest.method
    usual = bundle.manifest.settings if same else bundle.as_method(kind.name).manifest.settings
    chosen = parse_settings(kind, pairs, {**usual, **(settings or {})})
    return bundle.as_method(kind.name, chosen)


def parse_settings(kind: MethodKind, pairs: Sequence[str], usual: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All options of a method: what was typed, else what is usual for the bundle, else the default.

    Args:
        kind: the method.
        pairs: ``key=value``; a value is read as JSON where it is JSON, values between commas are a list.
        usual: options of the bundle.

    Returns:
        JSON values by name.

    Raises:
        UsageError: no such option, or a value that does not fit.
    """
    given = dict(usual or {})
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or key not in kind.settings.model_fields:
            known = ", ".join(kind.settings.model_fields) or "none"
            raise UsageError(
                f"expected --set KEY=VALUE with an option of {kind.name} ({known}), found {pair!r}; see edgevand "
                f"methods show {kind.name}"
            )
        given[key] = _value(value)
    try:
        return kind.settings.model_validate(given).model_dump(mode="json")
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        first = faults[0]
        place = str(first["loc"][0]) if first["loc"] else "the options"
        # Of an option that takes several kinds of value each kind has a fault of its own.
        wanted = " or ".join(dict.fromkeys(each["msg"] for each in faults if each["loc"][:1] == first["loc"][:1]))
        raise UsageError(
            f"expected --set {place} of {kind.name} as {kind.name}'s options say, found {first['input']!r} "
            f"({wanted}); see edgevand methods show {kind.name}"
        ) from error


def _value(text: str) -> Any:  # noqa: ANN401 - whatever JSON says; pydantic gives it its type
    if "," in text and not text.lstrip().startswith(("[", "{", '"')):
        return [_value(part.strip()) for part in text.split(",")]
    try:
        return json.loads(text)
    except ValueError:
        return text
