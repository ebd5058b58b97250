"""From an ONNX graph to a TensorRT plan, in a process of its own.

A builder runs for minutes in native code, holds the weights several times and can be killed by the system for it; in
its own process all of that ends with the process, and Ctrl-C stops it at once. The parent writes a ``Job`` to standard
input and reads one JSON object a line from standard output: ``{"phase", "step", "steps"}`` while it works, and at the
end ``{"done": true}`` or ``{"error", "memory", "graph"}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevand.errors import OutputError
from edgevand.staging import write_atomic
from edgevand_runtime.engines.tensorrt_library import load_library, make_logger, requested_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgevand_runtime.engines.engine_files import Flavour

__all__ = ["Job", "compile_plan"]


@dataclass(frozen=True, slots=True)
class Job:
    """What to build.

    Attributes:
        flavour: the library.
        graph: the ONNX file; its weights may lie beside it.
        plan: where the plan is written.
        image: (3, H, W), the shape of one input image.
        batch: largest batch; the plan is tuned for it.
        workspace_mb: limit on scratch memory in MiB; None for the library's own.
        target: compute capability to build for; None for that of the GPU at hand, the only one this process may see.
        timing_cache: file of measured kernel times, read and written; None for a library that has none.
    """

    flavour: Flavour
    graph: str
    plan: str
    image: tuple[int, int, int]
    batch: int
    workspace_mb: int | None
    target: str | None
    timing_cache: str | None

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))


class BuildError(Exception):
    """The library refused."""

    def __init__(self, message: str, *, memory: int | None = None, graph: bool = False) -> None:
        """Say why.

        Args:
            message: what was found, in the library's words.
            memory: what it asked for in vain, in bytes, where that was the reason.
            graph: whether it is the graph that it does not understand.
        """
        super().__init__(message)
        self.memory, self.graph = memory, graph


def compile_plan(job: Job, report: Callable[[str, int, int], bool]) -> None:
    """Parse the graph, build the plan, write it.

    Args:
        job: what to build.
        report: called with phase, step and number of steps; False stops the build.

    Raises:
        BuildError: the graph is not understood, or no plan came of it.
    """
    library = load_library(job.flavour)
    trt = library.trt
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(job.graph):
        found = "; ".join(str(parser.get_error(number)) for number in range(parser.num_errors))
        raise BuildError(" ".join((found or "no reason given").split())[:500], graph=True)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    if job.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job.workspace_mb << 20)
    if job.target is not None:
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(getattr(trt.ComputeCapability, job.target.upper()), 0):
            raise BuildError(f"it does not build for {job.target} ({_last(logger.said)})")
    profile = builder.create_optimization_profile()
    smallest, largest = (1, *job.image), (job.batch, *job.image)
    profile.set_shape("image", smallest, largest, largest)
    if config.add_optimization_profile(profile) < 0:
        raise BuildError(f"it refuses batches of 1 to {job.batch} ({_last(logger.said)})")
    monitor = _make_monitor(trt, report)
    config.progress_monitor = monitor
    cache = None if job.timing_cache is None else Path(job.timing_cache)
    _load_timings(config, cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(_last(logger.said), memory=requested_bytes(logger.said))
    with Path(job.plan).open("wb") as file:
        file.write(plan)
    _store_timings(config, cache)


def _network_flags(trt: Any) -> int:  # noqa: ANN401
    """Strongly typed: said on TensorRT 10, the only kind there is from 11 on."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _make_monitor(trt: Any, report: Callable[[str, int, int], bool]) -> Any:  # noqa: ANN401
    """TensorRT's progress, handed on as (innermost phase, step, steps)."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002 - its name is the library's
            self.steps[phase_name] = num_steps
            report(phase_name, 0, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return report(phase_name, step + 1, self.steps.get(phase_name, step + 1))

    return Monitor()


def _load_timings(config: Any, cache: Path | None) -> None:  # noqa: ANN401
    """Kernel times that an earlier build measured on such a GPU; the library itself refuses those of another one."""
    if cache is None:
        return
    known = cache.read_bytes() if cache.is_file() else b""
    config.set_timing_cache(config.create_timing_cache(known), False)  # noqa: FBT003 - positional in the library


def _store_timings(config: Any, cache: Path | None) -> None:  # noqa: ANN401
    """Keep the kernel times for the next build; a convenience."""
    measured = None if cache is None else config.get_timing_cache()
    if cache is None or measured is None:
        return
    with contextlib.suppress(OutputError, OSError):  # without them the next build measures again, and nothing else
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(cache, bytes(memoryview(measured.serialize())))


def _last(said: Sequence[str]) -> str:
    """The library's last word."""
    return " ".join(said[-1].split())[:300] if said else "it gave no reason"


def _main() -> None:
    """Do the job on standard input."""
    # Native code may print: the parent's line of JSON objects is a descriptor of its own, and stdout goes to stderr.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(document: dict[str, object]) -> bool:
        try:
            print(json.dumps(document), file=channel, flush=True)
        except BrokenPipeError:  # the parent is gone, and nobody waits for the plan
            return False
        return True

    def report(phase: str, step: int, steps: int) -> bool:
        return send({"phase": phase, "step": step, "steps": steps})

    fields = json.loads(sys.stdin.readline())
    try:
        compile_plan(Job(**{**fields, "image": tuple(fields["image"])}), report)
    except BuildError as error:
        send({"error": str(error), "memory": error.memory, "graph": error.graph})
    except Exception as error:  # noqa: BLE001 - what the library raises has no base of its own; the parent tells it
        send({"error": f"{type(error).__name__}: {error}"})
    else:
        send({"done": True})


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    _main()
