"""``edgevand export --method``: a bundle prepared for one more method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevand.bundle import MethodRecord, extend_bundle
from edgevand.errors import OutputError, UsageError
from edgevand.home import home, remember
from edgevand_export.methods import EXPORTERS
from edgevand_runtime.methods.choosing import find_kind, parse_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edgevand.bundle import Bundle

__all__ = ["prepare_bundle"]


def prepare_bundle(
    base: Bundle,
    method: str,
    pairs: Sequence[str] = (),
    weights: Sequence[Path] = (),
    output: Path | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Write a bundle that has everything of another one and is prepared for a method, and remember it as the newest.

    Args:
        base: the bundle to start from.
        method: its name.
        pairs: options as typed, ``key=value``.
        weights: files that the method's exporter takes.
        output: directory of the new bundle; None: ``$EDGEVAND_HOME/bundles/<base>-<method>``.
        report: called with a line for people when a step begins.

    Raises:
        UsageError: no such method or option, or weights for a method that takes none.
        GateError: a graph does not compute what torch computes; nothing was written.
        OutputError: the output is there already or cannot be written.
    """
    kind = find_kind(method)
    settings = parse_settings(kind, pairs, base.as_method(method).manifest.settings)
    exporter = EXPORTERS.get(method)
    if weights and exporter is None:
        raise UsageError(f"expected no --weights for {method}, which needs the encoder alone, found some; leave it out")
    name = base.whole.model.name.replace("/", "-")
    target = output or home() / "bundles" / f"{name}-{base.whole.image.height}-{method}"
    if target.exists():
        raise OutputError(
            f"expected a new directory for the bundle, found that {target} is already there; remove it or give -o"
        )

    def prepare(folder: Path) -> MethodRecord:
        if exporter is None:
            return MethodRecord(name=method, settings=settings)
        return exporter(base, settings, tuple(weights), folder, report)

    bundle = extend_bundle(base, target, prepare)
    remember("bundle", target)
    return bundle
