"""``edgevand demo``: the main job on drawn pictures, in under a minute."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgevand.cli.common import print_json
from edgevand.cli.options import (
    BackendOption,
    DeviceOption,
    JsonFlag,
    OutputOption,
    PrecisionOption,
    QuietFlag,
    VerboseFlag,
    wanted_precision,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["demo"]


def demo(
    *,
    frames: Annotated[int, typer.Option("--frames", metavar="N", help="Parts to judge.")] = 300,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Which belt and which part are drawn.")] = 0,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", metavar="DIR", help="Bundle to show; default: the built-in one.")
    ] = None,
    output: OutputOption = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    as_json: JsonFlag = False,
    verbose: VerboseFlag = 0,
    quiet: QuietFlag = False,
) -> None:
    """Enrol, watch and judge a drawn conveyor: no camera, no network.

    Uses the built-in bundle unless another is named. Writes the bank, a picture and report.json into the output
    directory (default: demo in edgevand's own directory).
    """
    from edgevand.bundle import Bundle
    from edgevand.home import builtin_bundle, home
    from edgevand_runtime.demo import run_demo
    from edgevand_runtime.engines import open_engine

    opened = Bundle.open(bundle or builtin_bundle())
    engine = open_engine(opened, backend=backend, device=device, precision=wanted_precision(precision))
    try:
        with _progress(frames, shown=sys.stderr.isatty() and not quiet) as told:
            report = run_demo(opened, engine, output or home() / "demo", frames=frames, seed=seed, told=told)
    finally:
        engine.close()
    if as_json:
        print_json(report)
    else:
        _show(report)


@contextmanager
def _progress(frames: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error."""
    if not shown:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("enrolling", total=frames)
        yield lambda done: bar.update(task, completed=done, description="monitoring")


def _show(report: dict[str, Any]) -> None:
    """The table for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{report['frames']} drawn parts, {report['defective']} of them defective", title_justify="left"
    )
    table.add_column("what")
    table.add_column("figure", justify="right")
    kinds = ", ".join(f"{kind} {count['caught']}/{count['of']}" for kind, count in report["kinds"].items())
    rows = {
        "image AUROC": _share(report["image_auroc"]),
        "pixel AUROC": _share(report["pixel_auroc"]),
        "defective parts caught": f"{report['caught']} of {report['defective']}",
        "defective parts missed": str(report["missed"]),
        "false alarms": f"{report['false_alarms']} on {report['frames'] - report['defective']} good parts",
        "frames a second, drawing included": f"{report['fps']:.1f}",
        "median latency of a frame": f"{report['latency_ms']:.1f} ms ({report['engine']})",
    }
    for name, figure in rows.items():
        table.add_row(name, figure)
    console = Console()
    console.print(table)
    for line in (f"caught by kind: {kinds}", f"enrolled: {report['enrolment']}", *report["warnings"]):
        console.print(line, soft_wrap=True, highlight=False)
    console.print(f"worst frames: {report['picture']}", soft_wrap=True, highlight=False)


def _share(value: float | None) -> str:
    """An AUROC, or why there is none."""
    return "not defined (one class only)" if value is None else f"{value:.4f}"
