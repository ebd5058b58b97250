"""``edgevand score``: images, folders and videos to results (docs/score.md)."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgevand.cli.common import print_json, say
from edgevand.cli.models import open_models
from edgevand.cli.options import (
    BackendOption,
    BankOption,
    BundleOption,
    DeviceOption,
    JsonFlag,
    ObjectOption,
    OutputOption,
    PrecisionOption,
    QuietFlag,
    TextOption,
    ThreadsOption,
    ThresholdOption,
    VerboseFlag,
    wanted_precision,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgevand_runtime.score import ScoreRun, ScoreSummary

__all__ = ["score"]


def score(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="SOURCE...", help="Images, folders, globs or videos, as many as you like."),
    ] = None,
    *,
    source: Annotated[
        list[str] | None, typer.Option("--source", "--camera", metavar="URI", help="A further source.")
    ] = None,
    bundle: BundleOption = None,
    bank: BankOption = None,
    object_name: ObjectOption = None,
    text: TextOption = None,
    threshold: ThresholdOption = None,
    output: OutputOption = None,
    maps: Annotated[
        Path | None, typer.Option("--maps", metavar="DIR", help="Write each frame's raw map there: float32 <stem>.npy.")
    ] = None,
    overlays: Annotated[
        Path | None,
        typer.Option("--overlays", metavar="DIR", help="Write each frame with its heat map and regions there."),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(
            "--explain", metavar="DIR", help="Write for each region what was found beside the nearest enrolled patch."
        ),
    ] = None,
    fail_on_anomaly: Annotated[
        bool, typer.Option("--fail-on-anomaly", help="End with exit code 1 if a frame is anomalous.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Keep what the output holds and score the rest; failed frames are tried again."),
    ] = False,
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", help="Frames that go through the encoder together.")
    ] = 1,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonFlag = False,
    verbose: VerboseFlag = 0,
    quiet: QuietFlag = False,
) -> None:
    """Judge images, folders or videos: one JSON line a frame.

    Without --bundle and --bank the newest bank is used. A frame that cannot be read gets a line with its error, the
    others are scored, and the exit code is 2.
    """
    from edgevand.errors import UsageError
    from edgevand_runtime.detector import Detector
    from edgevand_runtime.score import ScoreOptions, ScoreRun, judge
    from edgevand_runtime.threads import set_threads

    output = None if str(output) == "-" else output  # as for monitor
    if resume and output is None:
        raise UsageError("expected --output FILE with --resume, which adds to it, but none was given; name the file")
    options = ScoreOptions(maps=maps, overlays=overlays, explain=explain, batch=batch)
    the_bundle, the_bank = open_models(bundle, bank, quiet=quiet)
    with Detector.open(
        the_bundle,
        the_bank,
        object_name=object_name,
        text_file=text,
        backend=backend,
        device=device,
        precision=wanted_precision(precision),
        threads=set_threads(threads),
        threshold=threshold,
    ) as detector:
        if fail_on_anomaly and detector.calibration == "none":
            raise UsageError(
                "expected a calibrated bank for --fail-on-anomaly, but nothing here decides what is anomalous; "
                "give --bank DIR with at least 4 frames, or --threshold RAW"
            )
        run = ScoreRun(detector, [*(sources or []), *(source or [])], options)
        collected = _write(run, output, resume=resume, as_json=as_json, quiet=quiet)
    if as_json:
        summary = {**run.summary.to_json(), "output": None if output is None else str(output)}
        print_json({"schema": "edgevand.score/1", "results": collected, "summary": summary})
    else:
        say(_sentence(run.summary), quiet=quiet)
    judge(run.summary, fail_on_anomaly=fail_on_anomaly)


def _write(run: ScoreRun, output: Path | None, *, resume: bool, as_json: bool, quiet: bool) -> list[dict[str, Any]]:
    """Run, and hand every line to the output, to standard output or to the document; the document's results."""
    from edgevand_runtime.result_file import ResultFile, read_results, repair

    collected: list[dict[str, Any]] = []
    takers: list[Callable[[dict[str, Any]], None]] = []
    with ExitStack() as stack:
        if output is not None:
            if resume:
                repair(output)
                run.hold(_collecting(read_results(output), collected if as_json else None))
            takers.append(stack.enter_context(ResultFile(output, resume=resume)).append)
        if as_json:
            takers.append(collected.append)
        elif output is None:
            takers.append(_print_line)
        lines_on_screen = output is None and not as_json and sys.stdout.isatty()
        shown = sys.stderr.isatty() and not quiet and not lines_on_screen
        tell = stack.enter_context(_progress(run)) if shown else None
        lines = stack.enter_context(closing(run.lines()))
        try:
            for line in lines:
                for take in takers:
                    take(line)
                if tell is not None:
                    tell()
        except KeyboardInterrupt:
            if output is not None:
                say(
                    f"edgevand: {run.summary.frames} new results are in {output}; --resume goes on from there",
                    quiet=quiet,
                )
            raise
    return collected


def _collecting(lines: Iterator[dict[str, Any]], collected: list[dict[str, Any]] | None) -> Iterator[dict[str, Any]]:
    """The lines as they are, also put into the list."""
    for line in lines:
        if collected is not None:
            collected.append(line)
        yield line


def _print_line(document: dict[str, Any]) -> None:
    """Write one JSON line to standard output, so that a pipe has it at once."""
    from edgevand_runtime.result_file import encode_line

    sys.stdout.buffer.write(encode_line(document))
    sys.stdout.buffer.flush()


@contextmanager
def _progress(run: ScoreRun) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error; gives the function that moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("score"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("score", total=run.total, state="")

        def tell() -> None:
            summary = run.summary
            unread = f", {summary.failed} unreadable" if summary.failed else ""
            bar.update(task, completed=run.done, total=run.total, state=f"{summary.anomalous} anomalous{unread}")

        yield tell


def _sentence(summary: ScoreSummary) -> str:
    """What was done, for people."""
    parts = [f"{summary.frames} frame{'' if summary.frames == 1 else 's'} scored"]
    if summary.held:
        parts.append(f"{summary.held} held already")
    parts.append(f"{summary.anomalous} anomalous")
    if summary.failed:
        parts.append(f"{summary.failed} unreadable")
    rate = summary.to_json()["fps"]
    return f"edgevand: {', '.join(parts)}, {summary.seconds:.1f} s ({rate:.1f} frames/s)"
