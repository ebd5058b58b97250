"""Proofs: that an engine computed, on this very device, what PyTorch computed for the bundle at export.

A proof is made by running the bundle's golden pictures (methods.md (i)) and kept as JSON below
``$EDGEVAND_HOME/proofs/``. It holds for one bundle, engine, precision, library version, device and version of this
program; where any of these changed, or the file is damaged, there is no proof and one is made anew. Where the directory
cannot be written a proof lasts as long as the process.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgevand.bundle import Precision
from edgevand.errors import BadInputError, OutputError
from edgevand.files import read_limited, sha256_file
from edgevand.home import home
from edgevand.records import Record, created_by, dump_record, make_record, parse_record
from edgevand.staging import output_error, write_atomic
from edgevand_runtime.engines.machine import device_name, library_version
from edgevand_runtime.verify import check_parity

if TYPE_CHECKING:
    from pathlib import Path

    from edgevand.bundle import Bundle
    from edgevand_runtime.engines import Engine
    from edgevand_runtime.verify import ParityReport

__all__ = ["PROOF_SCHEMA", "Proof", "ProofCheck", "kept_proofs", "proof_of", "prove"]

PROOF_SCHEMA = "edgevand.proof/1"

_LOG = logging.getLogger(__name__)
_MAX_BYTES = 1 << 20
_KEY = ("generator", "bundle", "graph", "engine", "precision", "library", "device")

_of_this_process: dict[str, Proof] = {}


class ProofCheck(Record):
    """One comparison with PyTorch; see ``edgevand_runtime.verify.Check``."""

    name: str
    max_abs: float | None
    cosine: float | None
    limit: str
    passed: bool


class Proof(Record):
    """A proof, be it that the engine computes the right numbers or that it does not."""

    schema_: Literal["edgevand.proof/1"] = Field(alias="schema")
    created: str = Field(description="UTC, ISO 8601 with milliseconds and Z")
    generator: str
    bundle: str = Field(description="hash of the bundle")
    graph: str = Field(description="file of the graph in it, that of the encoder or of a method")
    engine: str = Field(description="kind and device, like openvino:cpu")
    precision: Precision
    library: str = Field(description="version of the library that computed")
    device: str = Field(description="name of the device that computed")
    frames: int = Field(ge=1, description="golden pictures that were compared")
    passed: bool
    checks: tuple[ProofCheck, ...]

    @property
    def failed(self) -> str:
        """Names of what differs, for a sentence."""
        return ", ".join(check.name for check in self.checks if not check.passed)


def proof_of(bundle: Bundle, engine: Engine) -> Proof | None:
    """The proof that was made of an open engine; None where there is none that holds here and now."""
    key = _key(bundle, engine)
    known = _of_this_process.get(_digest(key))
    if known is not None:
        return known
    path = _path(key)
    proof = _read(path) if path.exists() else None
    if proof is None or any(getattr(proof, name) != key[name] for name in _KEY):
        return None
    _of_this_process[_digest(key)] = proof
    return proof


def prove(bundle: Bundle, engine: Engine, report: ParityReport | None = None) -> Proof:
    """Run the golden pictures one by one through an open engine and keep what comes of it.

    Args:
        bundle: an opened bundle.
        engine: runs its graph here.
        report: a comparison that was just made, in place of a new one.

    Raises:
        FormatError: the golden sample does not fit the manifest.
    """
    if report is None:
        report = check_parity(bundle, engine, batched=False)
    key = _key(bundle, engine)
    fields = {**created_by(PROOF_SCHEMA), **key, **report.to_json()}
    path = _path(key)
    proof = make_record(Proof, fields, path)
    _of_this_process[_digest(key)] = proof
    try:
        _write(path, dump_record(proof))
    except OutputError as error:
        _LOG.warning("the proof of %s lasts for this run only: %s", engine.name, error)
    return proof


def kept_proofs(bundle: Path) -> list[Proof]:
    """Every proof on the disk that this version of the program made of the bundle in a directory."""
    try:
        digest = f"sha256:{sha256_file(bundle / 'manifest.json')}"
    except OSError:
        return []
    proofs = (_read(path) for path in sorted((home() / "proofs").glob("*.json")))
    generator = created_by(PROOF_SCHEMA)["generator"]
    return [proof for proof in proofs if proof and (proof.bundle, proof.generator) == (digest, generator)]


def _read(path: Path) -> Proof | None:
    """A proof from the disk; None where there is none, or a damaged one."""
    try:
        data = read_limited(path, _MAX_BYTES)
        return parse_record(Proof, data, path, schema=PROOF_SCHEMA, remedy="it is made anew")
    except BadInputError as error:
        _LOG.info("%s", error)
        return None


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path.parent, error) from error
    write_atomic(path, data)


def _key(bundle: Bundle, engine: Engine) -> dict[str, str]:
    """What a proof holds for."""
    return {
        "generator": created_by(PROOF_SCHEMA)["generator"],
        "bundle": bundle.hash,
        "graph": bundle.manifest.graph.file,
        "engine": engine.name,
        "precision": engine.precision,
        "library": library_version(engine.name),
        "device": device_name(engine.name),
    }


def _digest(key: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def _path(key: dict[str, str]) -> Path:
    readable = f"{key['engine'].replace(':', '-')}-{key['precision']}"
    return home() / "proofs" / f"{readable}-{_digest(key)}.json"
