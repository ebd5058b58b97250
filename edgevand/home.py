"""Where edgevand keeps its state, and what it made last. Imports nothing heavy: every command starts here.

Everything lies below ``$EDGEVAND_HOME`` (default: the platform's directory for user data). ``recent.json`` lists
the bundles and banks made on this machine, newest first; it is a convenience and never trusted: what does not
exist any more is passed over, and a list that cannot be read counts as empty.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

__all__ = ["builtin_bundle", "home", "newest_bank", "newest_bundle", "remember", "weights_dir"]

Kind = Literal["bundle", "bank"]

_OWN_FILE = {"bundle": "manifest.json", "bank": "bank.json"}
_KEEP = 50
_MAX_BYTES = 1 << 20


def home() -> Path:
    """The directory of all state: ``$EDGEVAND_HOME``, or the platform's. It need not exist yet."""
    given = os.environ.get("EDGEVAND_HOME")
    if given:
        return Path(given).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("edgevand"))


def weights_dir() -> Path:
    """Where checkpoints are looked for that were brought by hand."""
    return home() / "weights"


def builtin_bundle() -> Path:
    """The bundle that is part of the program."""
    return Path(__file__).resolve().parent / "builtin" / "bundle"


def newest_bundle() -> Path | None:
    """The bundle that was made last and still exists."""
    return _newest("bundle")


def newest_bank() -> Path | None:
    """The bank that was made last and still exists."""
    return _newest("bank")


def remember(kind: Kind, path: Path) -> None:
    """Make ``path`` the newest of its kind.

    Raises:
        OutputError: the home directory cannot be written.
    """
    from edgevand.staging import output_error, write_atomic

    recent = _recent()
    entry = str(Path(path).absolute())
    recent[kind] = [entry, *(other for other in recent[kind] if other != entry)][:_KEEP]
    try:
        home().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(home(), error) from error
    write_atomic(home() / "recent.json", (json.dumps(recent, indent=2, ensure_ascii=False) + "\n").encode())


def _newest(kind: Kind) -> Path | None:
    """The first of the list that exists."""
    return next((Path(path) for path in _recent()[kind] if Path(path, _OWN_FILE[kind]).is_file()), None)


def _recent() -> dict[str, list[str]]:
    """Paths by kind, newest first."""
    try:
        with (home() / "recent.json").open("rb") as file:
            stored = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError):
        stored = {}
    lists = stored if isinstance(stored, dict) else {}
    return {
        kind: [path for path in lists.get(kind, []) if isinstance(path, str)]
        if isinstance(lists.get(kind), list)
        else []
        for kind in _OWN_FILE
    }
