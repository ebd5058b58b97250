"""Which engine runs a bundle: the one that a person names, or the fastest that is proved on this device.

``ENGINES`` is the table of what there is; a new library is one module beside this one and one line here. ``auto`` goes
through the table from the top, and takes only what computed here, on the golden pictures of the bundle, what PyTorch
computed at export (``proofs``). A person's ``--backend`` goes before that: without a good proof it is a warning.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevand.errors import EdgevandError, GateError, UnavailableError, UsageError
from edgevand_runtime.engines.cuda_driver import cuda_driver
from edgevand_runtime.engines.proofs import proof_of, prove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgevand.bundle import Bundle, Precision
    from edgevand_runtime.engines import Engine
    from edgevand_runtime.engines.engine_files import Flavour
    from edgevand_runtime.engines.onnxruntime import Provider

__all__ = ["ENGINES", "EngineKind", "candidates", "choose_engine"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineKind:
    """A library that can run graphs.

    Attributes:
        name: the word of ``--backend``, and the start of the engine's own name.
        families: kinds of device that it can run on, ``cuda``, ``cpu`` or ``gpu`` (Intel's); the first that is here
            is taken where none is named.
        devices: devices of these that are here, like ``cpu`` and ``cuda:0``; none where the library is not.
        open: loads a bundle's graph: bundle, device, precision, processor threads.
        auto: families on which ``auto`` takes it.
        built: it needs an engine that ``edgevand build`` makes, so ``auto`` says nothing where it cannot open it.
    """

    name: str
    families: tuple[str, ...]
    devices: Callable[[], list[str]]
    open: Callable[[Bundle, str, Precision, int | None], Engine]
    auto: tuple[str, ...] = ()
    built: bool = False


def choose_engine(
    bundle: Bundle,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: Precision | None = None,
    threads: int | None = None,
) -> Engine:
    """Open the engine that runs a bundle's graph; see ``engines.open_engine``."""
    wanted = precision or bundle.manifest.graph.precision
    bundle.graph_in(wanted)
    found = candidates(backend, device)
    if backend != "auto":
        kind, where = found[0]
        engine = kind.open(bundle, where, wanted, threads)
        _warn_unless_proved(bundle, engine)
        return engine
    faults: list[EdgevandError] = []
    for kind, where in found:
        try:
            return _proved(bundle, kind.open(bundle, where, wanted, threads))
        except EdgevandError as error:
            faults.append(error)
            if len(faults) < len(found):
                quietly = kind.built and isinstance(error, UnavailableError)
                _LOG.log(
                    logging.INFO if quietly else logging.WARNING, "%s:%s is passed over: %s", kind.name, where, error
                )
    raise next((error for error in faults if isinstance(error, GateError)), faults[-1])


def candidates(backend: str, device: str) -> list[tuple[EngineKind, str]]:
    """Engines to try, each with its device: those of ``auto`` from its favourite on, or the one that is named.

    Where nothing that was asked for is here the list holds what would be it: opening that says what is missing.

    Raises:
        UsageError: no such backend or device, or a backend that does not run on such a device.
        UnavailableError: a backend of a later version.
    """
    family = _family(device)
    if device in {"cuda", "gpu"}:
        device += ":0"
    if backend == "auto":
        return list(_by_choice(family, device)) or [(ENGINES["openvino" if family == "gpu" else "onnxruntime"], device)]
    kind = ENGINES.get(backend)
    if kind is None:
        if backend.startswith("oip://"):
            raise UnavailableError(f"backend {backend} is not part of this version; run with --backend onnxruntime.")
        raise UsageError(f"expected --backend auto or {' or '.join(ENGINES)}, found {backend!r}; choose one of these.")
    if family == "auto":
        usual = "cpu" if "cpu" in kind.families else f"{kind.families[0]}:0"
        return [(kind, next(iter(_by_family(kind)), usual))]
    if family not in kind.families:
        raise UsageError(
            f"expected --device {' or '.join(kind.families)} for --backend {backend}, found {device!r}; choose one of "
            "these, or another backend."
        )
    return [(kind, device)]


def _by_choice(family: str, device: str) -> Iterator[tuple[EngineKind, str]]:
    """What ``auto`` tries on a device, or on the first of each family."""
    for wanted in ("cuda", "cpu"):
        for kind in ENGINES.values():
            if wanted in kind.auto and family in {"auto", wanted}:
                here = [place for place in _by_family(kind) if place.partition(":")[0] == wanted]
                if family == "auto" and here:
                    yield kind, here[0]
                elif device in here:
                    yield kind, device


def _by_family(kind: EngineKind) -> list[str]:
    """Devices of a kind that are here, those of its first family first."""
    return sorted(kind.devices(), key=lambda place: kind.families.index(place.partition(":")[0]))


def _family(device: str) -> str:
    """``auto``, ``cpu``, ``cuda`` or ``gpu``.

    Raises:
        UsageError: it is none of these.
    """
    match = re.fullmatch(r"(auto|cpu|(?:cuda|gpu)(?=$|:\d))(?::\d+)?", device)
    if match is None or (match[1] in {"auto", "cpu"} and device != match[1]):
        raise UsageError(
            f"expected --device auto, cpu, cuda, cuda:N, gpu or gpu:N, found {device!r}; choose one of these."
        )
    return match[1]


def _proved(bundle: Bundle, engine: Engine) -> Engine:
    """The engine, if it is proved here or can be; closed otherwise.

    Raises:
        GateError: it computes something else than PyTorch did.
    """
    try:
        proof = proof_of(bundle, engine)
        if proof is None:
            _refuse_trap(engine)
            _LOG.warning("first run of this bundle on %s in %s: proving it, once", engine.name, engine.precision)
            proof = prove(bundle, engine)
    except BaseException:
        engine.close()
        raise
    if proof.passed:
        return engine
    engine.close()
    raise GateError(
        f"expected {engine.name} to compute in {engine.precision} what PyTorch computed at export, but {proof.failed} "
        f"differ; see by how much with edgevand verify {bundle.path}, or take it all the same with --backend"
    )


def _refuse_trap(engine: Engine) -> None:
    """Refuse int8 where it would end the process: libraries use AMX for it, which some virtual machines only announce.

    Raises:
        UnavailableError: AMX traps here, and is not kept from the engine's library.
    """
    from edgevand_runtime.doctor.processor import amx_traps

    kept_away = engine.name == "openvino:cpu" and "ONEDNN_MAX_CPU_ISA" in os.environ
    if engine.precision == "int8" and engine.name.endswith(":cpu") and not kept_away and amx_traps():
        raise UnavailableError(
            "expected AMX, which this processor announces and int8 runs on, to work, found that it traps; run with "
            "--precision fp32, or set ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 and run with --backend openvino"
        )


def _warn_unless_proved(bundle: Bundle, engine: Engine) -> None:
    """Tell a person who chose an engine by hand what is known against it."""
    proof = proof_of(bundle, engine)
    command = f"edgevand verify {bundle.path} --backend {engine.name.partition(':')[0]} --precision {engine.precision}"
    if proof is None:
        _LOG.warning("%s in %s was never proved on this device; `%s` does", engine.name, engine.precision, command)
    elif not proof.passed:
        _LOG.warning(
            "%s computes in %s something else than PyTorch did: %s differ; `%s` shows by how much",
            engine.name,
            engine.precision,
            proof.failed,
            command,
        )


def _cuda_devices() -> list[str]:
    driver = cuda_driver()
    return [] if driver is None else [f"cuda:{index}" for index in range(len(driver.devices))]


def _onnxruntime_devices() -> list[str]:
    from edgevand_runtime.engines.onnxruntime import has_provider

    return ["cpu", *(_cuda_devices() if has_provider("own", "cuda:0") else [])]


def _onnxruntime_openvino_devices() -> list[str]:
    from edgevand_runtime.engines.onnxruntime import has_provider

    return ["cpu"] if has_provider("openvino", "cpu") else []


def _onnxruntime_tensorrt_devices() -> list[str]:
    from edgevand_runtime.engines.onnxruntime import has_provider

    return _cuda_devices() if has_provider("tensorrt", "cuda:0") else []


def _openvino_devices() -> list[str]:
    from edgevand_runtime.engines.openvino import openvino_devices

    return openvino_devices()


def _devices_with(*modules: str) -> list[str]:
    """CUDA's devices, where one of the modules is installed."""
    return _cuda_devices() if any(importlib.util.find_spec(module) for module in modules) else []


def _open_onnxruntime(provider: Provider) -> Callable[[Bundle, str, Precision, int | None], Engine]:
    def open_it(bundle: Bundle, device: str, precision: Precision, threads: int | None) -> Engine:
        from edgevand_runtime.engines.onnxruntime import OnnxRuntimeEngine

        graph = bundle.graph_in(precision)
        return OnnxRuntimeEngine(graph, bundle.manifest, precision, device=device, provider=provider, threads=threads)

    return open_it


def _open_openvino(bundle: Bundle, device: str, precision: Precision, threads: int | None) -> Engine:
    from edgevand_runtime.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(bundle.graph_in(precision), bundle.manifest, precision, device=device, threads=threads)


def _open_tensorrt(flavour: Flavour) -> Callable[[Bundle, str, Precision, int | None], Engine]:
    def open_it(bundle: Bundle, device: str, precision: Precision, _: int | None) -> Engine:
        from edgevand_runtime.engines.tensorrt import open_tensorrt

        return open_tensorrt(bundle, device, precision, flavour)

    return open_it


_KINDS = (
    EngineKind(
        "tensorrt", ("cuda",), lambda: _devices_with("tensorrt"), _open_tensorrt("tensorrt"), ("cuda",), built=True
    ),
    EngineKind(
        "tensorrt-rtx",
        ("cuda",),
        lambda: _devices_with("tensorrt_rtx", "tensorrt_rtx_bindings"),
        _open_tensorrt("tensorrt-rtx"),
        ("cuda",),
        built=True,
    ),
    EngineKind("onnxruntime", ("cuda", "cpu"), _onnxruntime_devices, _open_onnxruntime("own"), ("cuda", "cpu")),
    EngineKind("openvino", ("cpu", "gpu"), _openvino_devices, _open_openvino, ("cpu",)),
    EngineKind("onnxruntime-tensorrt", ("cuda",), _onnxruntime_tensorrt_devices, _open_onnxruntime("tensorrt")),
    EngineKind("onnxruntime-openvino", ("gpu", "cpu"), _onnxruntime_openvino_devices, _open_onnxruntime("openvino")),
)

ENGINES: dict[str, EngineKind] = {kind.name: kind for kind in _KINDS}
"""By the word of ``--backend``; of those that ``auto`` takes on a device, the fastest first (docs/engines.md)."""
