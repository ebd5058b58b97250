"""The outcome of one check, and the two ways in which checks look at the machine."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["Check", "read_text", "run", "run_python"]

_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        state: ``ok``; ``absent``: something optional is not there; ``problem``: something is there and does not work,
            or something necessary is missing.
        found: what was found, in words.
        remedy: what to do; always given unless ``ok``.
        data: the same as ``found`` for programs: strings, numbers, booleans, lists and objects of them.
    """

    state: Literal["ok", "absent", "problem"]
    found: str
    remedy: str | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The JSON object of this check."""
        return {"state": self.state, "found": self.found, "remedy": self.remedy, "data": self.data}


def read_text(path: str | Path) -> str | None:
    """The text of a small system file without the zero bytes of a device tree; None where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").replace("\0", "").strip()
    except OSError:
        return None


def run(command: list[str], *, timeout: float = _TIMEOUT_S) -> subprocess.CompletedProcess[str] | None:
    """Run a program; None where it is missing or takes longer than ``timeout`` seconds."""
    try:
        return subprocess.run(  # noqa: S603 (fixed commands of the checks)
            command, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def run_python(code: str, *arguments: str, timeout: float = _TIMEOUT_S) -> subprocess.CompletedProcess[str] | None:
    """Run Python code in a process of its own, which may crash or hang in its stead."""
    return run([sys.executable, "-c", code, *arguments], timeout=timeout)
