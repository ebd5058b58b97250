"""The engines that can run a bundle here, and which of them are proved on this machine (docs/engines.md)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from edgevand.home import builtin_bundle, newest_bundle
from edgevand_runtime.doctor.check import Check, run_python

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_engines"]

# In a process of its own: it imports every library that is installed, and one made for another machine can crash.
_PROBE = """
import json
from edgevand_runtime.engines.choose import ENGINES
from edgevand_runtime.engines.machine import library_version
rows = [(kind.name, kind.devices(), library_version(kind.name)) for kind in ENGINES.values()]
print(json.dumps([{"backend": name, "devices": devices, "version": version} for name, devices, version in rows]))
"""


def check_engines() -> Check:
    """Every engine with its version, its devices, and the precisions in which it is proved for the bundle in use."""
    from edgevand_runtime.engines.proofs import kept_proofs  # needs OpenCV, which another check is about

    done = run_python(_PROBE)
    rows: list[dict[str, Any]] = []
    if done is not None and done.returncode == 0:
        rows = [row for row in json.loads(done.stdout.splitlines()[-1]) if row["devices"]]
    bundle = newest_bundle() or builtin_bundle()
    if not rows:
        remedy = "install onnxruntime again; what the line onnxruntime says comes first"
        return Check("problem", "no engine starts here", remedy, {"engines": [], "bundle": str(bundle)})
    proofs = kept_proofs(bundle)
    words = []
    for row in rows:
        row["proofs"] = [
            {"engine": proof.engine, "precision": proof.precision, "passed": proof.passed}
            for proof in proofs
            if proof.engine.partition(":")[0] == row["backend"] and row["version"] in {proof.library, "unknown"}
        ]
        version = "" if row["version"] == "unknown" else f" {row['version'].partition('-')[0]}"
        words.append(f"{row['backend']}{version} on {', '.join(row['devices'])} ({_proved(row['proofs'])})")
    found = "; ".join(words)
    data = {"engines": rows, "bundle": str(bundle)}
    if any(not proof["passed"] for row in rows for proof in row["proofs"]):
        remedy = (
            f"see by how much with `edgevand verify {bundle} --backend all`; --backend auto passes over such engines"
        )
        return Check("problem", found, remedy, data)
    return Check("ok", found, None, data)


def _proved(proofs: Sequence[dict[str, Any]]) -> str:
    """``proved: fp32, int8``, or what is to be said instead."""
    good = sorted({proof["precision"] for proof in proofs if proof["passed"]})
    bad = sorted({proof["precision"] for proof in proofs if not proof["passed"]})
    parts = [f"proved: {', '.join(good)}"] if good else []
    parts += [f"computes something else in {', '.join(bad)}"] if bad else []
    return "; ".join(parts) or "not proved yet"
