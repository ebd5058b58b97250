"""What several commands do alike: open the bundle and the bank that apply, speak to a person, print a document."""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import TYPE_CHECKING, Literal, overload

from edgevand.errors import MissingDependencyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from edgevand.bank import Bank
    from edgevand.bundle import Bundle

__all__ = ["open_bank", "open_bundle", "open_pair", "print_json", "require_torch", "say"]


def say(text: str, *, quiet: bool = False) -> None:
    """Tell a person something on standard error, which leaves standard output to documents and tables."""
    if not quiet:
        print(text, file=sys.stderr)


def print_json(document: Mapping[str, object] | Sequence[object]) -> None:
    """Print the one JSON document of ``--json``; a number that is not finite is an error of the caller."""
    print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def open_bundle(path: Path | None, *, quiet: bool = False) -> Bundle:
    """Open the bundle at ``path`` (``builtin``: the built-in one), else the newest exported one, else the built-in one.

    Raises:
        FormatError: the directory is no whole bundle.
    """
    from edgevand.bundle import Bundle
    from edgevand.home import builtin_bundle, newest_bundle

    if path is not None:
        return Bundle.open(builtin_bundle() if str(path) == "builtin" and not path.exists() else path)
    newest = newest_bundle()
    if newest is not None:
        say(f"edgevand: bundle {newest}", quiet=quiet)
        return Bundle.open(newest)
    say("edgevand: nothing was exported yet, using the built-in bundle (docs/builtin.md)", quiet=quiet)
    return Bundle.open(builtin_bundle())


def open_bank(path: Path | None, bundle: Bundle | None = None, *, quiet: bool = False) -> Bank:
    """Open the bank at ``path``, else the newest one, and say which; ``bundle`` is the one it must belong to.

    Raises:
        UsageError: no path is given and nothing was enrolled.
        FormatError: the directory is no whole bank, or a bank of another bundle.
    """
    from edgevand.bank import Bank

    return Bank.open(path or _newest_bank(quiet=quiet), bundle)


def require_torch(purpose: str) -> None:
    """Say what to install where the workstation's packages are missing.

    Args:
        purpose: what they are needed for, in words.

    Raises:
        MissingDependencyError: one of them cannot be imported.
    """
    for package in ("torch", "open_clip", "timm", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(
                f"expected the package {package} for {purpose}, found none; install it on the workstation with "
                "pip install 'edgevand[export]'"
            )


@overload
def open_pair(
    bundle: Path | None, bank: Path | None, *, need_bank: Literal[True], quiet: bool = False
) -> tuple[Bundle, Bank]: ...


@overload
def open_pair(
    bundle: Path | None, bank: Path | None, *, need_bank: bool = False, quiet: bool = False
) -> tuple[Bundle, Bank | None]: ...


def open_pair(
    bundle: Path | None, bank: Path | None, *, need_bank: bool = False, quiet: bool = False
) -> tuple[Bundle, Bank | None]:
    """Open bundle and bank, finding the one that is not named by the other (``models.open_models``).

    Args:
        bundle: its directory; None finds the bank's.
        bank: its directory; None takes the newest, or with a bundle and without ``need_bank`` none.
        need_bank: whether there must be one.
        quiet: do not say which are used.

    Raises:
        UsageError: no bank where one is needed, or its bundle is not on this machine.
        FormatError: a directory is no whole bundle or bank, or the bank belongs to another bundle.
    """
    from edgevand.cli.models import open_models

    if need_bank and bank is None:
        bank = _newest_bank(quiet=quiet)
    return open_models(bundle, bank, quiet=quiet)


def _newest_bank(*, quiet: bool) -> Path:
    """The newest bank, told by its name."""
    from edgevand.home import newest_bank

    newest = newest_bank()
    if newest is None:
        remedy = "run `edgevand enroll --camera 0` first, or give --bank DIR"
        raise UsageError(f"expected a bank, found none on this machine; {remedy}")
    say(f"edgevand: bank {newest}", quiet=quiet)
    return newest
