"""Where edgevand keeps its state, and what it made last. Imports nothing heavy: every command starts here.

Everything lies below ``$EDGEVAND_HOME`` (default: the platform's directory for user data). ``recent.json`` lists
the bundles and banks made on this machine, newest first; it is a convenience and never trusted: what does not
exist any more is passed over, and a list that cannot be read counts as empty.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "builtin_bundle",
    "full_source",
    "home",
    "known_bundles",
    "newest_bank",
    "newest_bundle",
    "remember",
    "remember_source",
    "weights_dir",
]

Kind = Literal["bundle", "bank"]

_OWN_FILE = {"bundle": "manifest.json", "bank": "bank.json"}
_SOURCES = "sources.json"
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
    recent = _recent()
    entry = str(Path(path).absolute())
    recent[kind] = [entry, *(other for other in recent[kind] if other != entry)][:_KEEP]
    _write("recent.json", recent)


def remember_source(redacted: str, full: str) -> None:
    """Keep the password of a source on this machine, readable by its owner alone: a bank, which travels, has none.

    Args:
        redacted: the URI as the bank records it.
        full: the URI as it was given; kept only where it says more.

    Raises:
        OutputError: the home directory cannot be written.
    """
    if full != redacted:
        _write(_SOURCES, {**_sources(), redacted: full}, private=True)


def full_source(redacted: str) -> str:
    """The URI to open for a bank's recorded source."""
    return _sources().get(redacted, redacted)


def _sources() -> dict[str, str]:
    stored = _read(_SOURCES)
    return {str(name): full for name, full in stored.items() if isinstance(full, str)}


def _write(name: str, content: object, *, private: bool = False) -> None:
    """Write a JSON file of the home directory."""
    from edgevand.staging import output_error, write_atomic

    try:
        home().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(home(), error) from error
    data = (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
    write_atomic(home() / name, data, private=private)


def _read(name: str) -> dict[str, object]:
    """A JSON object of the home directory; empty where there is none that can be read."""
    try:
        with (home() / name).open("rb") as file:
            stored = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def known_bundles() -> list[Path]:
    """Bundles of this machine that still exist, newest first, the built-in one last."""
    return [*_existing("bundle"), builtin_bundle()]


def _newest(kind: Kind) -> Path | None:
    """The first of the list that exists."""
    return next(_existing(kind), None)


def _existing(kind: Kind) -> Iterator[Path]:
    """Those of the list that exist, be it after recovery from a replacement that was cut off."""
    for path in map(Path, _recent()[kind]):
        if not path.exists():
            from edgevand.staging import recover

            recover(path)
        if (path / _OWN_FILE[kind]).is_file():
            yield path


def _recent() -> dict[str, list[str]]:
    """Paths by kind, newest first."""
    stored = _read("recent.json")
    lists = {kind: stored.get(kind) for kind in _OWN_FILE}
    return {
        kind: [path for path in paths if isinstance(path, str)] if isinstance(paths, list) else []
        for kind, paths in lists.items()
    }
