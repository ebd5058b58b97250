"""``edgevand dataset``: draw a small dataset in a published layout, or say what is wrong with one on the disk."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgevand.cli.common import print_json, say
from edgevand.cli.options import JsonFlag, OutputOption, QuietFlag, VerboseFlag
from edgevand.errors import BadInputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["dataset"]


def dataset(
    action: Annotated[
        Literal["make", "check"], typer.Argument(metavar="make|check", help="Draw a dataset, or check one.")
    ],
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="With check: the folder of the dataset.")
    ] = None,
    *,
    layout: Annotated[
        Literal["auto", "mvtec", "visa", "visa-prepared", "loco", "folder"],
        typer.Option(help="How folders are arranged (docs/datasets.md); auto finds out, with check."),
    ] = "auto",
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Only these, separated by commas; with make: the objects to draw, see the docs."
        ),
    ] = None,
    output: OutputOption = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="With make: which designs and defects. Default: 0.")
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="With make: training images of each class; as many bad ones to test, two thirds good. Default: 12.",
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(metavar="PX", help="With make: longer side of an image. Default: 256.")
    ] = None,
    headers_only: Annotated[
        bool, typer.Option("--headers-only", help="With check: names, splits and sizes only; do not decode images.")
    ] = False,
    as_json: JsonFlag = False,
    verbose: VerboseFlag = 0,
    quiet: QuietFlag = False,
) -> None:
    """Draw a small dataset in a published layout, or check one on the disk.

    check lists everything that is wrong and ends with exit code 2 if anything is. make writes into --output.
    """
    named = None if classes is None else tuple(name.strip() for name in classes.split(",") if name.strip())
    if named == ():
        raise UsageError("expected names of classes after --classes, found none; leave it out for all")
    if action == "make":
        if folder is not None:
            raise UsageError(f"expected no folder after make, found {folder}; write -o {folder}")
        if headers_only:
            raise UsageError("expected --headers-only with check, found it with make; leave it out")
        given = {"seed": seed, "images": images, "size": size}
        options = {name: value for name, value in given.items() if value is not None}
        root = _make(layout, output, {**options, "classes": named}, quiet=quiet or as_json)
        _report(root, "visa" if layout == "visa-prepared" else layout, None, deep=False, as_json=as_json, quiet=quiet)
        return
    for option, value in {"--seed": seed, "--images": images, "--size": size, "--output": output}.items():
        if value is not None:
            raise UsageError(f"expected {option} with make, found it with check; leave it out")
    if folder is None:
        raise UsageError("expected the folder of a dataset to check, found none; write `edgevand dataset check DIR`")
    _report(folder, layout, named, deep=not headers_only, as_json=as_json, quiet=quiet)


def _make(layout: str, output: Path | None, options: dict[str, Any], *, quiet: bool) -> Path:
    """Draw a dataset and return its folder."""
    from edgevand_runtime.datasets.making import DRAWN_LAYOUTS, MakeOptions, make_dataset

    drawn = next((name for name in DRAWN_LAYOUTS if name == layout), None)
    if drawn is None:
        raise UsageError(f"expected --layout with make, one of {', '.join(DRAWN_LAYOUTS)}, found {layout}; choose one")
    if output is None:
        raise UsageError("expected a place for the dataset, found none; give --output DIR")
    make_dataset(drawn, output, MakeOptions(**options), progress=lambda name: say(f"drawing {name}", quiet=quiet))
    return output


def _report(
    root: Path, layout: str, classes: tuple[str, ...] | None, *, deep: bool, as_json: bool, quiet: bool
) -> None:
    """Read a dataset, print what is in it and what is wrong with it."""
    from edgevand_runtime.datasets import LAYOUTS, Layout, examine
    from edgevand_runtime.datasets.summary import DATASET_SCHEMA, describe

    named: Layout | Literal["auto"] = next(
        (name for name in LAYOUTS if name == layout.removesuffix("-prepared")), "auto"
    )
    try:
        with _progress(shown=deep and sys.stderr.isatty() and not quiet) as told:
            found = examine(root, named, classes, deep=deep, progress=told)
    except BadInputError as error:
        if as_json:
            nothing: dict[str, Any] = {"layout": None, "recognised": None, "images": 0, "classes": []}
            print_json({"schema": DATASET_SCHEMA, "root": str(root), **nothing, "faults": [str(error)]})
        raise
    document = describe(found.dataset, found.faults)
    if as_json:
        print_json(document)
    elif not quiet:
        _show(document)
    if found.faults:
        count = "1 fault" if len(found.faults) == 1 else f"{len(found.faults)} faults"
        raise BadInputError(f"expected {root} to be a whole {document['layout']} dataset, found {count}; mend them")


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on standard error."""
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _show(document: dict[str, Any]) -> None:
    """The table for people, and every fault on a line."""
    from rich.console import Console
    from rich.table import Table

    told = f" ({document['recognised']})" if document["recognised"] else ""
    table = Table(title=f"{document['root']}: layout {document['layout']}{told}", title_justify="left")
    table.add_column("class")
    for column in ("train", "validation", "test good", "anomalous", "masks"):
        table.add_column(column, justify="right")
    for one in document["classes"]:
        counts = [str(one[key]) for key in ("train", "validation", "good", "anomalous", "masks")]
        table.add_row(one["name"], *counts)
    console = Console()
    console.print(table)
    for one in document["classes"]:
        kinds = ", ".join(f"{kind} {count}" for kind, count in one["kinds"].items())
        console.print(f"{one['name']}: {kinds or 'no anomalous images'}", soft_wrap=True, highlight=False, markup=False)
    for fault in document["faults"]:
        console.print(f"- {fault}", soft_wrap=True, highlight=False, markup=False)
