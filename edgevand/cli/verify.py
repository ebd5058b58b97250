"""``edgevand verify``: is this bundle or bank whole, and does it compute here what torch computed at export?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgevand.cli.common import print_json
from edgevand.cli.models import bundle_of_bank
from edgevand.cli.options import BackendOption, DeviceOption, JsonFlag, QuietFlag, VerboseFlag

if TYPE_CHECKING:
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
    backend: BackendOption = "auto",
    as_json: JsonFlag = False,
    verbose: VerboseFlag = 0,
    quiet: QuietFlag = False,
) -> None:
    """Check a bundle or bank: hashes, schema, parity on this device.

    A bank is checked with its bundle. Exit code 1: a file, a hash or a number is not what it should be.
    """
    from edgevand.bank import Bank
    from edgevand.bundle import Bundle
    from edgevand.errors import FormatError, GateError
    from edgevand_runtime.engines import open_engine
    from edgevand_runtime.verify import check_parity

    is_bank = (path / "bank.json").is_file()
    document: dict[str, Any] = {"schema": "edgevand.verification/1", "path": str(path)}
    document["kind"] = "bank" if is_bank else "bundle"
    try:
        opened = Bundle.open((bundle or bundle_of_bank(path)) if is_bank else path)
        bank = Bank.open(path, opened) if is_bank else None
        report = None
        engine = open_engine(opened, backend=backend, device=device)
        try:
            report = check_parity(opened, engine)
        finally:
            engine.close()
    except FormatError as error:
        if as_json:
            print_json({**document, "passed": False, "error": str(error), "parity": None})
        raise GateError(str(error)) from error
    document |= {"hash": opened.hash if bank is None else bank.hash, "passed": report.passed}
    document |= {"error": None, "parity": report.to_json()}
    if as_json:
        print_json(document)
    elif not quiet:
        _show(path, document["kind"], report)
    if not report.passed:
        failed = ", ".join(check.name for check in report.checks if not check.passed)
        raise GateError(
            f"expected {opened.path} to compute on {report.engine} what torch computed at export, but {failed} differ; "
            "use another --device or --backend, or export again with --precision fp32"
        )


def _show(path: Path, kind: str, report: ParityReport) -> None:
    """The table for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{kind} {path}: files, hashes and schema are right; parity on {report.engine}")
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
    Console().print(table)
