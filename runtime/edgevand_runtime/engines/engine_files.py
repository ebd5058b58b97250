"""Built TensorRT engines on the disk: a cache, never the source of truth (docs/edge.md).

``$EDGEVAND_HOME/engines/<bundle hash>/<library>-<target>-<precision>.engine`` is the plan as TensorRT wrote it; its
record lies beside it as ``….engine.json``. A plan is specific to a library's version and a GPU, so everything that it
depends on stands in the record, and an engine that differs in anything is not loaded.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgevand.bundle import Precision
from edgevand.errors import UnavailableError
from edgevand.files import read_limited, sha256_file
from edgevand.home import home
from edgevand.onnx_locations import external_locations
from edgevand.records import FileRecord, Record, created_by, dump_record, make_record, parse_record
from edgevand.staging import output_error, write_atomic
from edgevand_runtime.engines.proofs import ProofCheck

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edgevand.bundle import Bundle
    from edgevand_runtime.engines.gpu import Gpu

__all__ = [
    "ENGINE_SCHEMA",
    "BuildRecord",
    "EngineRecord",
    "Flavour",
    "Wanted",
    "differences",
    "engine_path",
    "graph_hash",
    "install_engine",
    "locked",
    "read_engine_record",
    "read_plan",
    "record_path",
    "write_engine_record",
]

ENGINE_SCHEMA = "edgevand.engine/1"
_MAX_RECORD = 1 << 20

Flavour = Literal["tensorrt", "tensorrt-rtx"]


class BuildRecord(Record):
    """Options that the plan was built with."""

    batch: int = Field(ge=1, description="largest batch; the plan is tuned for it and runs 1 to it")
    workspace_mb: int | None = Field(
        ge=1, description="of the builder's scratch memory, MiB; None: the library's limit"
    )
    strongly_typed: Literal[True] = Field(default=True, description="the graph's tensor types decide, no flags")
    tf32: Literal[False] = Field(default=False, description="float32 products are not rounded to 10 bits")


class EngineRecord(Record):
    """``<engine>.engine.json``."""

    schema_: Literal["edgevand.engine/1"] = Field(alias="schema")
    created: str
    generator: str
    bundle: str = Field(description="hash of the bundle")
    graph: str = Field(description="hash of the graph and its weights")
    precision: Precision
    library: Flavour
    library_version: str
    target: str = Field(pattern="^sm[0-9]{2,3}$", description="compute capability")
    gpu: str | None = Field(description="GPU that built it; None: built without one, for any of the target")
    driver: str | None = Field(description="newest CUDA version that the driver supported; None with gpu")
    options: BuildRecord
    parity: tuple[ProofCheck, ...] | None = Field(description="None: unproved, no GPU of the target has run it yet")
    plan: FileRecord


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an engine must have been built from and for.

    Attributes:
        graph: hash of the graph.
        precision: of the graph.
        library: TensorRT or TensorRT-RTX.
        library_version: of the one that is installed here.
        target: compute capability.
        gpu: the GPU at hand; None where there is none, or where it is not the one that is built for.
        options: what ``edgevand build`` was asked for; None for a run, which has no say in it.
    """

    graph: str
    precision: Precision
    library: Flavour
    library_version: str
    target: str
    gpu: Gpu | None = None
    options: BuildRecord | None = None


def graph_hash(bundle: Bundle, precision: Precision) -> str:
    """``sha256:`` and a digest of the graph's file and those of its weights, from the hashes in the manifest."""
    graph = bundle.graph_in(precision)
    names = sorted({graph.name, *external_locations(graph)})
    text = "".join(f"{name} {bundle.manifest.files[name].sha256}\n" for name in names)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def engine_path(bundle: Bundle, library: Flavour, target: str, precision: Precision) -> Path:
    """Where the engine of a bundle lies in the user's cache."""
    folder = home() / "engines" / bundle.hash.removeprefix("sha256:")
    stem = bundle.manifest.graph.file.removesuffix(".onnx")
    whose = "" if bundle.manifest.graph == bundle.whole.graph else f"{stem}-"  # a method's own graph
    return folder / f"{whose}{library}-{target}-{precision}.engine"


def record_path(engine: Path) -> Path:
    """The record beside a plan."""
    return engine.with_name(engine.name + ".json")


def differences(record: EngineRecord, wanted: Wanted) -> str | None:
    """What makes an engine stale, as ``name: expected …, found …``; None where it is the one that is wanted.

    An engine that was built without a GPU is for any GPU of its target.
    """
    pairs: list[tuple[str, object, object]] = [
        ("graph", wanted.graph, record.graph),
        ("precision", wanted.precision, record.precision),
        ("library", wanted.library, record.library),
        (f"version of {wanted.library}", wanted.library_version, record.library_version),
        ("target", wanted.target, record.target),
    ]
    if wanted.gpu is not None and record.gpu is not None:
        pairs += [
            ("GPU", wanted.gpu.name, record.gpu),
            ("CUDA of the driver", _major(wanted.gpu.driver), _major(record.driver)),
        ]
    if wanted.options is not None:
        pairs.append(("build options", _words(wanted.options), _words(record.options)))
    for name, expected, found in pairs:
        if expected != found:
            return f"{name}: expected {expected}, found {found}"
    return None


def read_engine_record(engine: Path) -> EngineRecord | None:
    """The record of an engine; None where there is no engine.

    Raises:
        FormatError: it is no record of this version.
        BadInputError: it cannot be read.
    """
    if not record_path(engine).is_file() or not engine.is_file():
        return None
    data = read_limited(record_path(engine), _MAX_RECORD)
    return parse_record(
        EngineRecord, data, record_path(engine), schema=ENGINE_SCHEMA, remedy="make it again with edgevand build"
    )


def read_plan(engine: Path, record: EngineRecord) -> bytes:
    """Bytes of a plan that are those its record was written for.

    Raises:
        UnavailableError: they are others, or cannot be read.
    """
    try:
        data = engine.read_bytes()
    except OSError as error:
        raise UnavailableError(f"cannot read {engine}: {error.strerror}; run edgevand build again") from error
    if len(data) != record.plan.size:
        raise UnavailableError(
            f"expected the engine {engine} to have {record.plan.size} bytes, found {len(data)}: it was truncated or "
            "replaced; run edgevand build again"
        )
    if hashlib.sha256(data).hexdigest() != record.plan.sha256:
        raise UnavailableError(
            f"expected the engine {engine} to have the sha256 that its record lists, found another: it was replaced; "
            "run edgevand build again"
        )
    return data


def write_engine_record(engine: Path, fields: dict[str, object], plan: Path) -> EngineRecord:
    """Make the record of the plan that lies, whole, at ``plan``, and write it beside ``engine``.

    Args:
        engine: where the engine lies or will lie.
        fields: of ``EngineRecord``, but schema, created, generator and plan.
        plan: the plan's present place.

    Raises:
        OutputError: it cannot be written.
    """
    described = FileRecord(sha256=sha256_file(plan), size=plan.stat().st_size)
    record = make_record(EngineRecord, {**fields, **created_by(ENGINE_SCHEMA), "plan": described}, record_path(engine))
    write_atomic(record_path(engine), dump_record(record))
    return record


def install_engine(engine: Path, fields: dict[str, object], partial: Path) -> EngineRecord:
    """Move a finished plan into its place and write its record: whole, or no engine at all.

    The former record goes first: a crash in between leaves a plan without a record, which counts as no engine.

    Raises:
        OutputError: something cannot be written.
    """
    try:
        record_path(engine).unlink(missing_ok=True)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(engine)
    except OSError as error:
        raise output_error(engine, error) from error
    return write_engine_record(engine, fields, engine)


@contextlib.contextmanager
def locked(engine: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """Let one process at a time build an engine; yields the place for the plan while it is not finished.

    What a dead builder left there is removed first, and so is what this one leaves, whatever ends it.

    Args:
        engine: the engine.
        waiting: called before waiting for another process that builds it.

    Raises:
        OutputError: the directory cannot be written.
    """
    partial = engine.with_name(f".{engine.name}.partial")
    try:
        engine.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(engine.with_name(f".{engine.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise output_error(engine, error) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: builders of one engine must then take turns
            pass
        _remove(partial)
        try:
            yield partial
        finally:
            _remove(partial)
    finally:
        os.close(lock)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _major(version: str | None) -> str:
    return "unknown" if version is None else f"{version.split('.')[0]}.x"


def _words(options: BuildRecord) -> str:
    """Build options for a sentence."""
    workspace = "the library's" if options.workspace_mb is None else f"{options.workspace_mb} MiB"
    return f"batch {options.batch}, workspace {workspace}"
