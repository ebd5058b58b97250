"""``edgevand benchmark``: speed, memory, energy and parity on this machine (docs/commands/benchmark.md)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgevand.cli.common import open_bank, open_bundle, print_json, require_torch, say
from edgevand.cli.options import (
    BackendOption,
    BankOption,
    BundleOption,
    DeviceOption,
    JsonFlag,
    PrecisionOption,
    QuietFlag,
    SourceOption,
    ThreadsOption,
    VerboseFlag,
    wanted_precision,
)
from edgevand.errors import GateError, UnavailableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgevand.bank import Bank
    from edgevand.bundle import Bundle
    from edgevand_runtime.benchmark import Measurement, Report, Rival

__all__ = ["benchmark"]

_CONVEYOR = "test://conveyor?live=0"


def benchmark(
    bundle: BundleOption = None,
    bank: BankOption = None,
    source: SourceOption = None,
    shots: Annotated[
        int,
        typer.Option(metavar="K", help="Without --bank: frames of the source in the bank that is searched."),
    ] = 8,
    batches: Annotated[int, typer.Option(metavar="N", help="Batches of a row that are timed at most.")] = 100,
    warm_up: Annotated[int, typer.Option(metavar="N", help="Batches before them that are not, at most.")] = 10,
    seconds: Annotated[
        float, typer.Option(metavar="S", help="Time after which a row ends, once three batches were timed.")
    ] = 30.0,
    batch: Annotated[
        str, typer.Option(metavar="N,N,...", help="Frames that go through the encoder together; a row for each.")
    ] = "1",
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    against: Annotated[
        Literal["reference"] | None,
        typer.Option(help="Run the reference's algorithm in PyTorch on the same frames, and compare."),
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(metavar="TAG|FILE", help="With --against: the bundle's weights; default: as the bundle says."),
    ] = None,
    heads: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --against: the heads that the bundle was made with.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the rows, stage by stage.")] = None,
    as_json: JsonFlag = False,
    verbose: VerboseFlag = 0,
    quiet: QuietFlag = False,
) -> int:
    """Measure speed, memory, energy and parity of every engine on this machine, in every precision of a bundle.

    Uses the newest bundle, else the built-in one, frames of test://conveyor, and a bank that is enrolled from them for
    the time of the run; --device, --backend and --precision choose rows. Exit code 1 if a row computes something else
    than PyTorch did, 3 if an engine that should run here does not.
    """
    from edgevand_runtime import benchmark as module

    if against is None and (pretrained or heads):
        raise UsageError("expected --pretrained and --heads together with --against, found no --against; give it")
    options = module.BenchmarkOptions(batches=batches, warm_up=warm_up, seconds=seconds, shots=shots, threads=threads)
    chosen = open_bundle(bundle, quiet=quiet)
    searched = None if bank is None else open_bank(bank, chosen)
    uri = source or _CONVEYOR
    wanted = module.cases(
        chosen, _numbers(batch), backend=backend, device=device, precision=wanted_precision(precision)
    )

    def tell(report: Report, row: Measurement | module.Failure) -> None:
        if isinstance(row, module.Failure):
            say(f"edgevand: {row.case.backend}:{row.case.device} {row.case.precision}: {row.error}")
        elif not as_json:
            print(_text(report, row))

    rival = None if against is None else _reference(chosen, pretrained, heads, threads)
    report = module.benchmark(chosen, searched, uri, wanted, options, rival=rival, tell=tell)
    if picture is not None:
        _draw(report, chosen, picture)
    if as_json:
        print_json(module.to_json(chosen, searched, uri, options, report))
    else:
        print(_foot(report))
    return _code(report, named=backend != "auto")


def _numbers(text: str) -> list[int]:
    """``1,4`` as numbers."""
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise UsageError(f"expected --batch as numbers such as 1,4, found {text!r}; correct it") from None


def _reference(
    bundle: Bundle, pretrained: str | None, heads: Path | None, threads: int | None
) -> Callable[[Bank], Rival]:
    """What makes the reference once there is a bank; what cannot be compared is refused before anything runs."""
    require_torch("--against reference")
    from edgevand_export.reference import check_comparable, open_reference
    from edgevand_runtime.threads import set_threads

    check_comparable(bundle)
    cores = set_threads(threads)
    return lambda bank: open_reference(bundle, bank, pretrained=pretrained, heads=heads, threads=cores)


def _draw(report: Report, bundle: Bundle, path: Path) -> None:
    from edgevand.files import write_atomic
    from edgevand_runtime.benchmark import draw_report

    image = bundle.manifest.image
    title = f"{bundle.manifest.model.name}, {image.width}x{image.height}, {report.threads} threads"
    write_atomic(path, draw_report(report, title))


def _code(report: Report, *, named: bool) -> int:
    """The exit code: an engine that is not built yet is no fault, unless it was asked for by name."""
    from edgevand_runtime.benchmark import Failure
    from edgevand_runtime.engines.choose import ENGINES

    failed = [row.case for row in report.rows if isinstance(row, Failure)]
    if any(named or not ENGINES[case.backend].built for case in failed):
        return UnavailableError.exit_code
    bad = any(not isinstance(row, Failure) and not row.parity.passed for row in report.rows)
    return GateError.exit_code if bad else 0


def _text(report: Report, row: Measurement) -> str:
    """One row's figures for people."""
    head = f"{row.engine} {row.case.precision}, batch {row.case.batch}"
    lines = [head, f"  {'':<12}{'median':>9}{'p95':>9}{'p99':>9}  ms a batch"]
    lines += [f"  {name:<12}{t.median:9.2f}{t.p95:9.2f}{t.p99:9.2f}" for name, t in row.stages.items()]
    memory = f"{row.peak_memory / 1e6:.0f} MB at most"
    if row.device_memory is not None:
        memory += f", {row.device_memory / 1e6:.0f} MB of the device's"
    lines += [
        f"  {row.frames_per_second:.1f} frames/s, {memory}",
        f"  loaded in {row.open_s:.2f} s, first result {row.first_s * 1000:.0f} ms after that",
        f"  golden sample: {'as' if row.parity.passed else 'NOT as'} PyTorch computed it",
    ]
    if row.peak_share is not None:
        lines.append(f"  encoder at {row.peak_share:.0%} of the processor's {report.peak / 1e9:.0f} GFLOP/s")
    if row.joules_per_frame is not None:
        lines.append(f"  {row.joules_per_frame:.3f} J a frame")
    if row.against is not None:
        lines.append(
            f"  the reference takes {row.against.times:.2f} times as long; largest difference of the score "
            f"{row.against.score_max_abs:.1e}"
        )
    return "\n".join(lines)


def _foot(report: Report) -> str:
    """What all rows share: work, decoding, and the budget of the first one."""
    from edgevand_runtime.benchmark import Failure
    from edgevand_runtime.budget import budget_lines

    lines = [f"encoder: {report.operations / 1e9:.2f} GFLOP a frame in matrix products"]
    if report.rival is not None:
        lines.append(f"{report.rival.name}: {report.rival.frame.median:.1f} ms a frame")
    first = next((row for row in report.rows if not isinstance(row, Failure) and row.case.batch == 1), None)
    if first is not None:
        stages = {} if report.decode is None else {"decode": (report.decode.median, report.decode.p95)}
        stages |= {name: (time.median, time.p95) for name, time in first.stages.items() if name != "total"}
        lines += [f"budget with {first.engine} {first.case.precision}:", *budget_lines(stages, report.interval_ms)]
    return "\n".join(lines)
