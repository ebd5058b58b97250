"""``edgevand benchmark``: latency, throughput and memory on this machine (docs/commands/benchmark.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edgevand.cli.common import open_bank, open_bundle, print_json, say
from edgevand.cli.options import (
    BackendOption,
    BankOption,
    BundleOption,
    DeviceOption,
    JsonFlag,
    QuietFlag,
    SourceOption,
    VerboseFlag,
)
from edgevand.errors import GateError, UnavailableError

if TYPE_CHECKING:
    from edgevand_runtime.benchmark import Failure, Measurement

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
    batches: Annotated[int, typer.Option(metavar="N", help="Batches that are timed.")] = 100,
    warm_up: Annotated[int, typer.Option(metavar="N", help="Batches before them that are not.")] = 10,
    batch: Annotated[int, typer.Option(metavar="N", help="Frames that go through the encoder together.")] = 1,
    threads: Annotated[int | None, typer.Option(metavar="N", help="Processor threads; default: all cores.")] = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    as_json: JsonFlag = False,
    verbose: VerboseFlag = 0,
    quiet: QuietFlag = False,
) -> int:
    """Measure latency, throughput, memory and parity of every engine on this machine.

    Uses the newest bundle, else the built-in one, frames of test://conveyor, and a bank that is enrolled from them for
    the time of the run; --device and --backend choose one engine. Exit code 1 if an engine computes something else
    than PyTorch did, 3 if one that should run does not.
    """
    from edgevand_runtime.benchmark import BenchmarkOptions, Failure, Measurement, available_devices, to_json
    from edgevand_runtime.benchmark import benchmark as measure

    options = BenchmarkOptions(batches=batches, warm_up=warm_up, batch=batch, shots=shots, threads=threads)
    chosen = open_bundle(bundle, quiet=quiet)
    searched = None if bank is None else open_bank(bank, chosen)
    uri = source or _CONVEYOR
    devices = available_devices() if (backend, device) == ("auto", "auto") else [(backend, device)]
    rows: list[Measurement | Failure] = []
    for row in measure(chosen, searched, uri, devices, options):
        rows.append(row)
        if isinstance(row, Failure):
            say(f"edgevand: {row.engine}: {row.error}")
        elif not as_json:
            print(_text(row))
    if as_json:
        print_json(to_json(chosen, searched, uri, options, rows))
    if any(isinstance(row, Failure) for row in rows):
        return UnavailableError.exit_code
    return 0 if all(isinstance(row, Measurement) and row.parity.passed for row in rows) else GateError.exit_code


def _text(row: Measurement) -> str:
    """One engine's figures for people."""
    lines = [f"{row.engine}", f"  {'':<12}{'median':>9}{'p95':>9}{'p99':>9}  ms a batch"]
    lines += [f"  {name:<12}{t.median:9.2f}{t.p95:9.2f}{t.p99:9.2f}" for name, t in row.stages.items()]
    lines += [
        f"  {row.frames_per_second:.1f} frames/s, {row.peak_memory / 1e6:.0f} MB at most",
        f"  loaded in {row.open_s:.2f} s, first result {row.first_s * 1000:.0f} ms after that",
        f"  golden sample: {'as' if row.parity.passed else 'NOT as'} PyTorch computed it",
    ]
    return "\n".join(lines)
