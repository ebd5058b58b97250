"""``edgevand verify``: is this bundle or bank whole, and does it compute here what torch computed at export?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgevand.cli.common import print_json
from edgevand.cli.models import bundle_of_bank
from edgevand.cli.options import (
    DeviceOption,
    JsonFlag,
    PrecisionOption,
    QuietFlag,
    VerboseFlag,
    wanted_precision,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgevand.bundle import Bundle, Precision
    from edgevand_runtime.verify import ParityReport

__all__ = ["verify"]


def verify(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="A bundle or a bank.")],
    *,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle", metavar="DIR", help="The bundle of a bank; default: the one of its hash on this machine."
        ),
    ] = None,
    device: DeviceOption = "auto",
    backend: Annotated[
        str,
        typer.Option(
            metavar="BACKEND",
            help="auto (the first that runs here), all (every one that does), or one that the other commands know.",
        ),
    ] = "auto",
    precision: PrecisionOption = "auto",
    as_json: JsonFlag = False,
    verbose: VerboseFlag = 0,
    quiet: QuietFlag = False,
) -> None:
    """Check a bundle or bank: hashes, schema, parity on this device.

    A bundle is run in every precision that it has a graph for, a bank's in the bank's; what comes of it is kept as the
    proof that --backend auto asks for. Exit code 1: a file, a hash or a number is not what it should be.
    """
    from edgevand.bank import Bank
    from edgevand.bundle import Bundle
    from edgevand.errors import FormatError, GateError

    is_bank = (path / "bank.json").is_file()
    document: dict[str, Any] = {"schema": "edgevand.verification/1", "path": str(path)}
    document["kind"] = "bank" if is_bank else "bundle"
    wanted = wanted_precision(precision)
    try:
        opened = Bundle.open((bundle or bundle_of_bank(path)) if is_bank else path)
        bank = Bank.open(path, opened) if is_bank else None
        precisions = (wanted,) if wanted else opened.precisions if bank is None else (bank.record.precision,)
        reports = list(_run(opened, backend, device, precisions))
    except FormatError as error:
        if as_json:
            print_json({**document, "passed": False, "error": str(error), "parity": None, "engines": []})
        raise GateError(str(error)) from error
    failed = [report for report in reports if not report.passed]
    document |= {"hash": opened.hash if bank is None else bank.hash, "passed": not failed, "error": None}
    document |= {"parity": reports[0].to_json(), "engines": [report.to_json() for report in reports]}
    if as_json:
        print_json(document)
    elif not quiet:
        _show(path, document["kind"], reports)
    if failed:
        differ = ", ".join(
            f"{check.name} on {report.engine} in {report.precision}"
            for report in failed
            for check in report.checks
            if not check.passed
        )
        raise GateError(
            f"expected {opened.path} to compute here what torch computed at export, but these differ: {differ}; use "
            "another --device or --backend, or export again with --precision fp32"
        )


def _run(bundle: Bundle, backend: str, device: str, precisions: Sequence[Precision]) -> Iterator[ParityReport]:
    """Run the golden sample on each engine that was asked for, in each precision, and keep the proofs.

    Raises:
        UnavailableError: none of the engines is here.
    """
    from edgevand.errors import UnavailableError
    from edgevand_runtime.engines.choose import ENGINES, candidates
    from edgevand_runtime.engines.proofs import prove
    from edgevand_runtime.verify import check_parity

    if backend == "all":
        places = [(kind, place) for kind in ENGINES.values() for place in kind.devices() if device in {"auto", place}]
    else:
        places = candidates(backend, device)
    for precision in precisions:
        absent: list[UnavailableError] = []
        for kind, place in places:
            try:
                engine = kind.open(bundle, place, precision, None)
            except UnavailableError as error:
                absent.append(error)
                continue
            try:
                report = check_parity(bundle, engine)
                prove(bundle, engine, report)
            finally:
                engine.close()
            yield report
            if backend != "all":
                break
        if len(absent) == len(places):
            raise absent[-1] if absent else UnavailableError(f"expected an engine for --device {device}, found none")


def _show(path: Path, kind: str, reports: Sequence[ParityReport]) -> None:
    """The tables for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"{kind} {path}: files, hashes and schema are right", soft_wrap=True, highlight=False)
    for report in reports:
        table = Table(title=f"parity on {report.engine} in {report.precision}", title_justify="left")
        for column in ("output", "max abs", "cosine", "limit", "holds"):
            table.add_column(column, justify="right" if column in {"max abs", "cosine"} else "left")
        for check in report.checks:
            table.add_row(
                check.name,
                "not finite" if check.max_abs is None else f"{check.max_abs:.2e}",
                "" if check.cosine is None else f"{check.cosine:.7f}",
                check.limit,
                "yes" if check.passed else "NO",
            )
        console.print(table)
