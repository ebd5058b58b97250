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
    from edgevand.bundle import DEFAULT_METHOD, Bundle
    from edgevand.errors import FormatError, GateError

    is_bank = (path / "bank.json").is_file()
    document: dict[str, Any] = {"schema": "edgevand.verification/1", "path": str(path)}
    document["kind"] = "bank" if is_bank else "bundle"
    wanted = wanted_precision(precision)
    try:
        opened = Bundle.open((bundle or bundle_of_bank(path)) if is_bank else path)
        bank = Bank.open(path, opened) if is_bank else None
        precisions = (wanted,) if wanted else opened.precisions if bank is None else (bank.record.precision,)
        if bank is not None:
            views = [opened.as_method(bank.record.method, bank.record.settings)]
        else:
            own = [record.name for record in opened.whole.methods if record.graph is not None]
            views = [opened.as_method(name) for name in (DEFAULT_METHOD, *own)]
        graphs, reports = [], []
        for view in views:
            found = list(_run(view, backend, device, [each for each in precisions if each in view.precisions]))
            graphs += [view.manifest.graph.file] * len(found)
            reports += found
    except FormatError as error:
        if as_json:
            print_json({**document, "passed": False, "error": str(error), "parity": None, "engines": []})
        raise GateError(str(error)) from error
    failed = [report for report in reports if not report.passed]
    document |= {"hash": opened.hash if bank is None else bank.hash, "passed": not failed, "error": None}
    told = [{"graph": graph, **report.to_json()} for graph, report in zip(graphs, reports, strict=True)]
    document |= {"parity": told[0], "engines": told}
    if as_json:
        print_json(document)
    elif not quiet:
        _show(path, document["kind"], graphs, reports)
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


def _show(path: Path, kind: str, graphs: Sequence[str], reports: Sequence[ParityReport]) -> None:
    """The tables for people; ``graphs`` are the files that the reports are of."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"{kind} {path}: files, hashes and schema are right", soft_wrap=True, highlight=False)
    for graph, report in zip(graphs, reports, strict=True):
        table = Table(title=f"{graph}: parity on {report.engine} in {report.precision}", title_justify="left")
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
