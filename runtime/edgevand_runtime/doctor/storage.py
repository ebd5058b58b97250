"""Where this program keeps its state, and what is there."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from edgevand.home import builtin_bundle, home, newest_bank, newest_bundle, weights_dir
from edgevand_runtime.doctor.check import Check

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["check_banks", "check_bundles", "check_storage"]

_LITTLE_SPACE = 3_000_000_000


def check_storage() -> Check:
    """The home directory: writable, and with space for a bundle."""
    place = home()
    existing = next(folder for folder in (place, *place.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    writable = os.access(existing, os.W_OK)
    weights = sorted(file.name for file in weights_dir().glob("*")) if weights_dir().is_dir() else []
    data = {"home": str(place), "free": free, "writable": writable, "weights": weights}
    found = f"{place}, {free / 1e9:.1f} GB free" + (f", weights: {', '.join(weights)}" if weights else "")
    if not writable:
        return Check("problem", f"{found}, not writable", "name a directory of yours with EDGEVAND_HOME", data)
    if free < _LITTLE_SPACE:
        remedy = "free some space, or name another disk with EDGEVAND_HOME: a ViT-L-14-336 bundle takes 1.2 GB in fp32"
        return Check("problem", found, remedy, data)
    return Check("ok", found, None, data)


def check_bundles() -> Check:
    """The bundles in the home directory, and the one that is used by default."""
    bundles = _directories(home() / "bundles", "manifest.json")
    newest = newest_bundle()
    builtin = (builtin_bundle() / "manifest.json").is_file()
    data = {"bundles": bundles, "newest": str(newest) if newest else None, "builtin": builtin}
    if newest is not None:
        return Check("ok", f"newest: {newest}", None, data)
    if builtin:
        return Check("ok", "none exported; the built-in one is used", None, data)
    remedy = "install the package anew, or run `edgevand export` on a workstation and copy the bundle here"
    return Check("problem", "none exported, and the built-in one is missing from this installation", remedy, data)


def check_banks() -> Check:
    """The banks in the home directory, and the one that ``monitor`` takes by default."""
    banks = _directories(home() / "banks", "bank.json")
    newest = newest_bank()
    data = {"banks": banks, "newest": str(newest) if newest else None}
    if newest is None:
        return Check("absent", "nothing was enrolled yet", "run `edgevand enroll --camera 0`", data)
    return Check("ok", f"newest: {newest}", None, data)


def _directories(folder: Path, document: str) -> list[str]:
    """The directories in ``folder`` that hold ``document``."""
    return sorted(str(path.parent) for path in folder.glob(f"*/{document}"))
