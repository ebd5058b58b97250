"""Which bundle and bank a command works with, where a person names one of them or none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from edgevand.cli.common import open_bundle, say
from edgevand.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from edgevand.bank import Bank
    from edgevand.bundle import Bundle

__all__ = ["bundle_of_bank", "open_models"]

_LIMIT = 1 << 24
"""Bytes of a ``bank.json`` that are read to learn its bundle; the bank itself is checked when it is opened."""


def open_models(bundle: Path | None, bank: Path | None, *, quiet: bool = False) -> tuple[Bundle, Bank | None]:
    """Open what was named, and find what was not.

    A bank brings its bundle, found on this machine by its hash. A bundle alone is used without a bank
    (zero-shot). Where neither is named, the newest bank is used if there is one.

    Raises:
        UsageError: the bundle of a bank is not on this machine.
        FormatError: a directory is no whole bundle or bank, or the bank belongs to another bundle.
    """
    from edgevand.bank import Bank
    from edgevand.bundle import Bundle
    from edgevand.home import newest_bank

    if bundle is not None:
        opened = open_bundle(bundle, quiet=quiet)
        return opened, None if bank is None else Bank.open(bank, opened)
    chosen = bank or newest_bank()
    if chosen is None:
        return open_bundle(None, quiet=quiet), None
    if bank is None:
        say(f"edgevand: bank {chosen}", quiet=quiet)
    opened = Bundle.open(bundle_of_bank(chosen))
    return opened, Bank.open(chosen, opened)


def bundle_of_bank(bank: Path) -> Path:
    """The bundle on this machine that a bank belongs to.

    Raises:
        UsageError: it is not here.
    """
    from edgevand.files import read_limited, sha256_file
    from edgevand.home import known_bundles

    try:
        record = json.loads(read_limited(bank / "bank.json", _LIMIT))
    except ValueError:
        record = None
    wanted = record.get("bundle") if isinstance(record, dict) else None
    for path in known_bundles():
        manifest = path / "manifest.json"
        if f"sha256:{sha256_file(manifest)}" == wanted:
            return path
    raise UsageError(
        f"expected the bundle {wanted}, to which the bank {bank} belongs, on this machine, but found none of that "
        "hash; name its directory with --bundle DIR"
    )
