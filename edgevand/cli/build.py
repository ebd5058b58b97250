"""``edgevand build``: bundle to TensorRT engine (docs/commands/build.md)."""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgevand.cli.common import open_bundle, print_json, say
from edgevand.cli.options import (
    BundleOption,
    DeviceOption,
    JsonFlag,
    OutputOption,
    PrecisionOption,
    QuietFlag,
    VerboseFlag,
    wanted_precision,
)
from edgevand.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgevand_runtime.engines.tensorrt_build import BuiltEngine

__all__ = ["build"]


def build(
    *,
    bundle: BundleOption = None,
    backend: Annotated[
        Literal["auto", "tensorrt", "tensorrt-rtx"],
        typer.Option(help="The library; auto: TensorRT where it and its GPU are here, else TensorRT-RTX."),
    ] = "auto",
    precision: PrecisionOption = "auto",
    target: Annotated[
        str | None,
        typer.Option(metavar="smNN", help="GPU to build for by compute capability, like sm89; default: the one here."),
    ] = None,
    device: DeviceOption = "auto",
    batch: Annotated[int, typer.Option(metavar="N", help="Largest batch that runs at once; tuned for it.")] = 1,
    workspace: Annotated[
        int | None, typer.Option(metavar="MB", help="Limit on the builder's scratch memory; default: the library's.")
    ] = None,
    output: OutputOption = None,
    as_json: JsonFlag = False,
    verbose: VerboseFlag = 0,
    quiet: QuietFlag = False,
) -> None:
    """Build a TensorRT engine from a bundle, for the GPU here or for another one.

    The engine goes into the cache below $EDGEVAND_HOME/engines, where --backend tensorrt and tensorrt-rtx look for it;
    one that is there and not stale is kept. Where its GPU is here it is held against PyTorch before it is kept. Exit
    code 1: it computes something else.
    """
    from edgevand_runtime.engines.tensorrt_build import BuildOptions, build_engine

    if target is not None and not re.fullmatch(r"sm\d{2,3}", target):
        raise UsageError(f"expected --target as a compute capability like sm89, found {target!r}; correct it")
    options = BuildOptions(backend, wanted_precision(precision), target, device, batch, workspace, output)
    opened = open_bundle(bundle, quiet=quiet)
    with _progress(quiet=quiet) as progress:
        built = build_engine(opened, options, lambda line: say(f"edgevand: {line}", quiet=quiet), progress)
    if as_json:
        print_json(_document(built))
    else:
        print(built.path)
        say(_verdict(built), quiet=quiet)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show the builder's phase on one line of a terminal; elsewhere nothing."""
    if quiet or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console

    with Console(stderr=True).status("starting the builder") as status:
        yield lambda phase, step, steps: status.update(f"{phase} {step}/{steps}" if steps > 1 else phase)


def _document(built: BuiltEngine) -> dict[str, Any]:
    """The document for machines."""
    record = built.record.model_dump(mode="json", exclude={"schema_"})
    return {"schema": "edgevand.build/1", "engine": str(built.path), "reused": built.reused, "record": record}


def _verdict(built: BuiltEngine) -> str:
    """What a person should know of it."""
    record = built.record
    if record.parity is None:
        return (
            f"edgevand: unproved, no {record.target} has run it: copy it with its .json to the same place below "
            f"$EDGEVAND_HOME there and run edgevand verify BUNDLE --backend {record.library}"
        )
    figures = {check.name: check.max_abs for check in record.parity}
    return f"edgevand: parity with torch on {record.gpu or record.target}: " + ", ".join(
        f"{name} {figures[name]:.1e}" for name in ("map", "score") if figures.get(name) is not None
    )
