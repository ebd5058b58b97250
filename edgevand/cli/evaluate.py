"""``edgevand evaluate``: a labelled dataset to the field's metrics, tables and plots (docs/evaluate.md)."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgevand.cli.common import open_bundle, print_json, say
from edgevand.cli.options import (
    AugmentOption,
    BackendOption,
    BundleOption,
    DeviceOption,
    JsonFlag,
    LocalityOption,
    MethodOption,
    ObjectOption,
    OutputOption,
    PrecisionOption,
    QuietFlag,
    SetOption,
    TextOption,
    VerboseFlag,
    poses,
    wanted_precision,
    with_locality,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgevand_runtime.evaluation.run import Step

__all__ = ["evaluate"]


def evaluate(
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="The dataset's folder.")] = None,
    dataset: Annotated[
        str, typer.Option(metavar="LAYOUT", help="How it is arranged: auto, mvtec, visa, loco or folder.")
    ] = "auto",
    classes: Annotated[
        str | None, typer.Option(metavar="A,B", help="Classes to evaluate; default: all of the dataset.")
    ] = None,
    shots: Annotated[str, typer.Option(metavar="K,…", help="Enrolled frames of each row; 0 is zero-shot.")] = "0,1,2,4",
    seeds: Annotated[str, typer.Option(metavar="S,…", help="Seeds of the draws of frames.")] = "0,1,2",
    bundle: BundleOption = None,
    object_name: ObjectOption = None,
    text: TextOption = None,
    score_rule: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            help="max: the score of the stream; released: the reference's min-max over the test set, offline only.",
        ),
    ] = "max",
    false_alarm_rate: Annotated[
        float, typer.Option(metavar="R", help="False-alarm rate asked of the enrolled threshold, per frame.")
    ] = 0.01,
    augment: AugmentOption = None,
    method: MethodOption = None,
    settings: SetOption = None,
    locality: LocalityOption = None,
    ordered: Annotated[
        bool, typer.Option("--ordered", help="Enrol the first frames in order of time, and judge the rest in it.")
    ] = False,
    output: OutputOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was interrupted, at its first unfinished class.")
    ] = False,
    html: Annotated[bool, typer.Option("--html/--no-html", help="Whether to write report.html.")] = True,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="Two reports to compare instead: differences B - A with bootstrap intervals."),
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", help="Pictures that go through the encoder together.")
    ] = 1,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    as_json: JsonFlag = False,
    verbose: VerboseFlag = 0,
    quiet: QuietFlag = False,
) -> None:
    """Evaluate a bundle on a labelled dataset: every class, number of shots and seed, with the metrics of the field.

    Writes report.json, report.csv and report.html into the output directory and prints the table. Through the same
    code as enroll and score. An unreadable picture is recorded, the others are judged, and the exit code is 2.
    """
    from edgevand.errors import BadInputError, UsageError

    if compare is not None:
        _compare(*compare, as_json=as_json)
        return
    if data is None or output is None:
        missing = "--data DIR" if data is None else "--output REPORT"
        raise UsageError(f"expected {missing}, found none; see `edgevand evaluate --help`")
    from edgevand_runtime.datasets import open_dataset
    from edgevand_runtime.engines import open_engine
    from edgevand_runtime.evaluation import EvaluateOptions
    from edgevand_runtime.evaluation import evaluate as run
    from edgevand_runtime.evaluation.run import require_html
    from edgevand_runtime.methods.choosing import seen_as

    options = EvaluateOptions(
        shots=_numbers("--shots", shots),
        seeds=_numbers("--seeds", seeds),
        score_rule=score_rule,  # type: ignore[arg-type] # checked there
        false_alarm_rate=false_alarm_rate,
        augment=poses(augment),
        object_name=object_name,
        text_file=text,
        ordered=ordered,
        batch=batch,
    )
    if html:
        require_html()
    opened = open_dataset(data, dataset, None if classes is None else _listed(classes))  # type: ignore[arg-type] # checked there
    the_bundle = seen_as(open_bundle(bundle, quiet=quiet), method, pairs=with_locality(settings, locality))
    engine = open_engine(the_bundle, backend=backend, device=device, precision=wanted_precision(precision))
    try:
        with _progress(shown=sys.stderr.isatty() and not quiet) as told:
            report = run(opened, the_bundle, engine, output, options, resume=resume, html=html, told=told)
    except KeyboardInterrupt:
        say(f"edgevand: finished classes are kept in {output}; --resume goes on from there", quiet=quiet)
        raise
    finally:
        engine.close()
    if as_json:
        print_json(report)
    elif not quiet:
        _print_report(report, output)
    failed = len(report["failures"])
    if failed:
        raise BadInputError(
            f"expected every picture to be readable, but {failed} {'was' if failed == 1 else 'were'} not; the report "
            'lists them under "failures"'
        )


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """``0,1,2`` as numbers.

    Raises:
        UsageError: they are none.
    """
    from edgevand.errors import UsageError

    try:
        return tuple(int(part) for part in _listed(text))
    except ValueError:
        message = f"expected {option} with whole numbers and commas between, found {text!r}; give 0,1,2 say"
        raise UsageError(message) from None


def _listed(text: str | None) -> list[str]:
    """``a,b`` as a list."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[Step], None]]:
    """A progress bar on standard error; gives the function that moves it."""
    if not shown:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("evaluate"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("evaluate", total=None, state="")

        def told(step: Step) -> None:
            bar.update(task, completed=step.done, total=step.total, state=f"{step.class_name}: {step.stage}")

        yield told


def _print_report(report: dict[str, Any], output: Path) -> None:
    """The tables for people, on standard output."""
    from edgevand.cli.evaluate_tables import print_report

    print_report(report)
    print(
        f"\nreport: {output / 'report.json'}, report.csv"
        + (", report.html" if (output / "report.html").exists() else "")
    )


def _compare(a: Path, b: Path, *, as_json: bool) -> None:
    """Compare two reports and print the differences."""
    from edgevand_runtime.evaluation.compare import compare_reports
    from edgevand_runtime.evaluation.report import read_report

    comparison = compare_reports(read_report(a), read_report(b))
    if as_json:
        print_json(comparison)
        return
    from edgevand.cli.evaluate_tables import print_comparison

    print_comparison(comparison)
