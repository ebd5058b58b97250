"""``edgevand methods``: what there is to score with, and the options of each (docs/commands/methods.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgevand.cli.common import print_json
from edgevand.cli.options import JsonFlag, QuietFlag, VerboseFlag
from edgevand.errors import UsageError

if TYPE_CHECKING:
    from edgevand_runtime.methods import MethodKind

__all__ = ["methods"]


def methods(
    action: Annotated[Literal["list", "show"], typer.Argument(help="list, or show one.")] = "list",
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="With show: the method.")] = None,
    as_json: JsonFlag = False,
    verbose: VerboseFlag = 0,
    quiet: QuietFlag = False,
) -> None:
    """List the methods, or show what one needs and which options it has."""
    from edgevand_runtime.methods import METHODS
    from edgevand_runtime.methods.choosing import find_kind

    if (action == "show") != (name is not None):
        raise UsageError(
            "expected `edgevand methods` or `edgevand methods show NAME`, found "
            f"`edgevand methods {' '.join(filter(None, (action, name)))}`; type one of the two"
        )
    shown = [find_kind(name)] if name is not None else list(METHODS.values())
    documents = [_document(kind) for kind in shown]
    if as_json:
        print_json({"schema": "edgevand.methods/1", "methods": documents})
        return
    for kind, document in zip(shown, documents, strict=True):
        print(f"{kind.name:<12} {kind.summary}")
        if name is not None:
            print("\n".join(_lines(document)))


def _document(kind: MethodKind) -> dict[str, Any]:
    """A method for machines."""
    schema = kind.settings.model_json_schema()
    return {
        "name": kind.name,
        "summary": kind.summary,
        "needs_export": kind.prepared,
        "least_frames": kind.least_frames,
        "options": [
            {"name": field, "default": described.get("default"), "description": described.get("description", "")}
            for field, described in schema.get("properties", {}).items()
        ],
    }


def _lines(document: dict[str, Any]) -> list[str]:
    """What `show` tells below the first line."""
    found = "is put into a bundle by" if document["needs_export"] else "works on any bundle; its options are kept by"
    lines = [f"{'':<13}{found} edgevand export --method {document['name']}"]
    if document["least_frames"] > 1:
        lines.append(f"{'':<13}needs at least {document['least_frames']} different frames")
    lines.append("" if document["options"] else "it has no options")
    for each in document["options"]:
        lines += [f"  --set {each['name']}={each['default']}", f"      {each['description']}"]
    return lines
