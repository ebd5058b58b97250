"""``edgevand build``: from a bundle's graph to a TensorRT engine in the user's cache, proved where its GPU is here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgevand.errors import (
    EdgevandError,
    FormatError,
    GateError,
    MissingDependencyError,
    OutputError,
    UnavailableError,
    UsageError,
)
from edgevand.home import home
from edgevand.staging import output_error
from edgevand_runtime.engines.engine_files import (
    BuildRecord,
    Wanted,
    differences,
    engine_path,
    graph_hash,
    install_engine,
    locked,
    read_engine_record,
    read_plan,
    record_path,
    write_engine_record,
)
from edgevand_runtime.engines.gpu import MIB, find_gpu, free_memory
from edgevand_runtime.engines.proofs import ProofCheck, prove
from edgevand_runtime.engines.tensorrt import TensorRTEngine
from edgevand_runtime.engines.tensorrt_compile import Job
from edgevand_runtime.engines.tensorrt_library import load_library, offered_targets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgevand.bundle import Bundle, Precision
    from edgevand_runtime.engines.engine_files import EngineRecord
    from edgevand_runtime.engines.gpu import Gpu
    from edgevand_runtime.engines.tensorrt_library import Library

__all__ = ["BuildOptions", "BuiltEngine", "build_engine"]

_KILLED = -9


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """The options of ``edgevand build``.

    Attributes:
        backend: the library; ``auto``: TensorRT where it is installed and its GPU is here, else TensorRT-RTX.
        precision: of the graph; None for the bundle's first.
        target: compute capability to build for, like ``sm89``; None for the GPU at hand.
        device: the GPU at hand, ``auto``, ``cuda`` or ``cuda:N``.
        batch: largest batch; the engine is tuned for it and runs 1 to it at once.
        workspace_mb: limit on the builder's scratch memory in MiB; None for the library's own.
        output: the engine's file; None for the user's cache, which is the only place where a run looks.
    """

    backend: Literal["auto", "tensorrt", "tensorrt-rtx"] = "auto"
    precision: Precision | None = None
    target: str | None = None
    device: str = "auto"
    batch: int = 1
    workspace_mb: int | None = None
    output: Path | None = None


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """What came of it.

    Attributes:
        path: the engine.
        record: what stands beside it.
        reused: it was there already, built from the same things.
    """

    path: Path
    record: EngineRecord
    reused: bool


def build_engine(
    bundle: Bundle,
    options: BuildOptions,
    told: Callable[[str], None] = lambda _: None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> BuiltEngine:
    """Build an engine, unless the one that is there is built from the same graph by the same library for the same GPU.

    Args:
        bundle: a verified bundle.
        options: what to build.
        told: called with a line for people when a step begins.
        progress: called with the builder's phase, step and number of steps.

    Raises:
        UsageError: a precision or target that there is not, or numbers out of range.
        UnavailableError: no library, no GPU where one is needed, no memory, or the builder gave up.
        FormatError: the library does not understand the graph.
        GateError: the engine does not compute what torch computed; it was not kept.
        OutputError: the place cannot be written.
    """
    gpu = _gpu(options)
    library = _library(options.backend, gpu)
    wanted = _wanted(bundle, options, library, gpu)
    here, path = wanted.gpu, _place(bundle, options, wanted)
    with locked(path, lambda: told(f"waiting for another process that builds {path.name}")) as partial:
        record = _usable(path, wanted, told)
        if record is not None:
            told(f"{path.name} is there already")
            if here is None or record.parity is not None:
                return BuiltEngine(path, record, reused=True)
            fields = record.model_dump(exclude={"schema_", "created", "generator", "plan"})
            figures = _prove(bundle, path, wanted, fields, here)
            proved = write_engine_record(path, {**fields, "parity": figures}, path)
            return BuiltEngine(path, proved, reused=True)
        place = f"{here.name} ({wanted.target})" if here else f"{wanted.target}, without such a GPU"
        told(f"building {path.name} with {library.flavour} {library.version} for {place}; this takes minutes")
        _compile(bundle, wanted, partial, progress)
        fields = _fields(bundle, wanted)
        if here is not None:
            told("running the golden sample")
            fields["parity"] = _prove(bundle, partial, wanted, fields, here)
        return BuiltEngine(path, install_engine(path, fields, partial), reused=False)


def _gpu(options: BuildOptions) -> Gpu | None:
    """The GPU at hand; None where there is none and another target is named."""
    try:
        return find_gpu(options.device, "TensorRT")
    except UnavailableError as error:
        if options.target is not None:
            return None
        found = str(error).split("; ")[0]
        raise UnavailableError(f"{found}; name the GPU of another machine with --target, like sm89") from error


def _library(backend: str, gpu: Gpu | None) -> Library:
    """The library to build with."""
    if backend == "tensorrt":
        return load_library("tensorrt")
    if backend == "auto" and gpu is not None:
        try:
            return load_library("tensorrt")
        except UnavailableError:
            pass
    return load_library("tensorrt-rtx")


def _wanted(bundle: Bundle, options: BuildOptions, library: Library, gpu: Gpu | None) -> Wanted:
    """Everything that the engine depends on."""
    if options.batch < 1:
        raise UsageError(f"expected --batch of 1 or more, found {options.batch}; correct it")
    if options.workspace_mb is not None and options.workspace_mb < 1:
        raise UsageError(f"expected --workspace of 1 MiB or more, found {options.workspace_mb}; correct it")
    precision = options.precision or bundle.manifest.graph.precision
    target = options.target or ("" if gpu is None else gpu.target)
    here = gpu if gpu is not None and gpu.target == target else None
    offered = offered_targets(library)
    native = here is not None and library.flavour == "tensorrt"
    if not native and target not in offered:
        choice = f"one of {', '.join(offered)}" if offered else "the GPU at hand, the only one that it builds for"
        found = f"{target} ({here.name})" if here else target
        raise UnavailableError(
            f"expected a target that {library.flavour} {library.version} builds for, {choice}, found {found}; build "
            "with --backend tensorrt on the device itself"
        )
    made = BuildRecord(batch=options.batch, workspace_mb=options.workspace_mb)
    version = library.version
    return Wanted(graph_hash(bundle, precision), precision, library.flavour, version, target, here, made)


def _place(bundle: Bundle, options: BuildOptions, wanted: Wanted) -> Path:
    """Where the engine goes."""
    if options.output is None:
        return engine_path(bundle, wanted.library, wanted.target, wanted.precision)
    output = options.output.absolute()
    if output.exists() and not record_path(output).is_file():
        raise OutputError(
            f"expected a new file or an engine to replace at {output}, found something else; choose another -o"
        )
    return output


def _usable(path: Path, wanted: Wanted, told: Callable[[str], None]) -> EngineRecord | None:
    """The record of an engine that is whole and built from the same things; None where it must be built."""
    try:
        record = read_engine_record(path)
        if record is None:
            return None
        difference = differences(record, wanted)
        if difference is None:
            read_plan(path, record)
            return record
        told(f"{path.name} is stale: {difference}")
    except (FormatError, UnavailableError) as error:
        told(str(error))
    return None


def _fields(bundle: Bundle, wanted: Wanted) -> dict[str, object]:
    """Fields of the record that are known before the plan is."""
    return {
        "bundle": bundle.hash,
        "graph": wanted.graph,
        "precision": wanted.precision,
        "library": wanted.library,
        "library_version": wanted.library_version,
        "target": wanted.target,
        "gpu": None if wanted.gpu is None else wanted.gpu.name,
        "driver": None if wanted.gpu is None else wanted.gpu.driver,
        "options": wanted.options,
        "parity": None,
    }


def _prove(bundle: Bundle, plan: Path, wanted: Wanted, fields: dict[str, object], gpu: Gpu) -> tuple[ProofCheck, ...]:
    """Run the golden sample through a plan."""
    engine = TensorRTEngine(
        plan.read_bytes(),
        bundle.manifest,
        wanted.precision,
        library=load_library(wanted.library),
        gpu=gpu,
        batch=BuildRecord.model_validate(fields["options"]).batch,
    )
    try:
        proof = prove(bundle, engine)
    finally:
        engine.close()
    if not proof.passed:
        raise GateError(
            f"expected the engine to compute on {gpu.name} what torch computed at export, but {proof.failed} differ; "
            "build with --precision fp32 or another --backend"
        )
    return proof.checks


def _compile(bundle: Bundle, wanted: Wanted, plan: Path, progress: Callable[[str, int, int], None]) -> None:
    """Build the plan in a process of its own, which ends with this one's interest in it."""
    image, options = bundle.manifest.image, wanted.options or BuildRecord(batch=1, workspace_mb=None)
    timed = wanted.library == "tensorrt"  # TensorRT-RTX measures nothing when it builds: it compiles on the device
    cache = home() / "engines" / f"{wanted.library}-{wanted.library_version}-{wanted.target}.timings"
    job = Job(
        flavour=wanted.library,
        graph=str(bundle.graph_in(wanted.precision).absolute()),
        plan=str(plan),
        image=(3, image.height, image.width),
        batch=options.batch,
        workspace_mb=options.workspace_mb,
        target=None if wanted.gpu is not None and timed else wanted.target,
        timing_cache=str(cache) if timed else None,
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    if wanted.gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = _visible(wanted.gpu.index)
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "edgevand_runtime.engines.tensorrt_compile"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                cwd=plan.parent,
                env=environment,
                text=True,
            )
        except OSError as error:
            raise output_error(plan, error) from error
        try:
            answer = _converse(process, job, progress)
        finally:
            process.kill()
            process.wait()
        if answer.get("done"):
            return
        complaints.seek(0)
        last = complaints.read().decode(errors="replace").strip().splitlines()[-1:]
    raise _failure(wanted, answer, process.returncode, last)


def _visible(index: int) -> str:
    """CUDA's own name of the GPU that this process knows by a number."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return names.split(",")[index].strip() if names else str(index)


def _converse(process: subprocess.Popen[str], job: Job, progress: Callable[[str, int, int], None]) -> dict[str, object]:
    """Give the builder its job and hear it to its end; an empty answer where it died."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the builder was started without pipes")
    try:
        with process.stdin as stdin:
            print(job.to_json(), file=stdin)
    except BrokenPipeError:
        pass  # it has died, and what follows says how
    answer: dict[str, object] = {}
    with process.stdout as lines:
        for line in lines:
            answer = json.loads(line)
            if "phase" in answer:
                progress(str(answer["phase"]), int(str(answer["step"])), int(str(answer["steps"])))
                answer = {}
    process.wait()
    return answer


def _failure(wanted: Wanted, answer: dict[str, object], code: int, last: list[str]) -> EdgevandError:
    """The error for a build that gave no plan."""
    name = f"{wanted.library} {wanted.library_version}"
    if code == _KILLED:
        return UnavailableError(
            f"expected {name} to build the engine, but the system killed it, which happens when this machine's memory "
            "runs out; stop what else is running, or build on a larger machine with --target"
        )
    said = str(answer.get("error") or (last[0] if last else f"it ended with {code}"))
    memory = answer.get("memory")
    if isinstance(memory, int) or "out of memory" in said.lower() or "OutOfMemory" in said:
        return UnavailableError(_too_little(wanted, memory if isinstance(memory, int) else None))
    if answer.get("graph"):
        return FormatError(f"expected {name} to understand the graph, found: {said}; export it again or report it")
    return UnavailableError(f"expected {name} to build the engine, found: {said}; see edgevand build -vv or report it")


def _too_little(wanted: Wanted, needed: int | None) -> str:
    """The sentence for a builder that ran out of memory."""
    where = "this machine" if wanted.gpu is None else wanted.gpu.name
    try:
        free = None if wanted.gpu is None else free_memory(wanted.gpu)
    except MissingDependencyError:
        free = None
    if needed is None:
        sentence = f"expected enough memory on {where} for the builder, found too little"
        sentence += "" if free is None else f" ({free / MIB:.0f} MiB are free)"
    else:
        sentence = f"expected {needed / MIB:.0f} MiB in one piece on {where} for the builder"
        sentence += ", found less" if free is None else f", found {free / MIB:.0f} MiB free"
        if free is not None and free < needed:
            sentence += f", {(needed - free) / MIB:.0f} MiB too few"
    return sentence + "; give a smaller --workspace or --batch, or stop what else uses the GPU"
