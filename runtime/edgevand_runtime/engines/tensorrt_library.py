"""TensorRT's two libraries, which share one Python interface: TensorRT (10 and 11) and TensorRT-RTX."""

from __future__ import annotations

import importlib
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgevand.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevand_runtime.engines.engine_files import Flavour

__all__ = ["FLAVOURS", "Library", "load_library", "make_logger", "offered_targets", "requested_bytes"]

FLAVOURS: dict[Flavour, tuple[str, ...]] = {
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
"""Python modules of each library, in the order in which they are tried."""

_LOG = logging.getLogger(__name__)

_REQUESTED = re.compile(r"(?:requested size (?:of|was)|amount of GPU memory) *\(?(\d+)", re.IGNORECASE)
"""How TensorRT's messages about memory that could not be had give its size, in bytes."""


@dataclass(frozen=True, slots=True)
class Library:
    """One of the two, imported.

    Attributes:
        flavour: which.
        trt: its module.
        version: the exact one, which a plan is bound to.
    """

    flavour: Flavour
    trt: Any
    version: str


def load_library(flavour: Flavour) -> Library:
    """Import TensorRT or TensorRT-RTX.

    Raises:
        MissingDependencyError: it is not installed, or its libraries do not load.
    """
    reason = "not installed"
    for name in FLAVOURS[flavour]:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                reason = str(error)
            continue
        except (ImportError, OSError, RuntimeError) as error:  # its shared libraries do not load
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            continue
        return Library(flavour, module, module.__version__)
    raise MissingDependencyError(
        f"expected the library of --backend {flavour}, found none ({reason}); install it with "
        f"pip install 'edgevand[{flavour}]', on a Jetson take JetPack's (docs/edge.md)"
    )


def offered_targets(library: Library) -> tuple[str, ...]:
    """Compute capabilities that the library's builder makes engines for without such a GPU, like ``sm89``."""
    kinds = getattr(library.trt, "ComputeCapability", None)
    names: Sequence[str] = () if kinds is None else list(kinds.__members__)
    return tuple(name.lower() for name in names if name.startswith("SM"))


def make_logger(trt: Any) -> Any:  # noqa: ANN401 (TensorRT's class exists only once it is imported)
    """A logger for TensorRT: passes messages on to the log, and keeps errors and warnings in ``.said``."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.said: list[str] = []

        def log(self, severity: Any, message: str) -> None:  # noqa: ANN401
            if severity <= trt.ILogger.Severity.WARNING:
                self.said.append(message)
                _LOG.info("TensorRT: %s", message)
            else:
                _LOG.debug("TensorRT: %s", message)

    return Logger()


def requested_bytes(said: Sequence[str]) -> int | None:
    """The largest piece of memory that TensorRT could not get, by its own messages; None where it names none."""
    found = [int(size) for message in said for size in _REQUESTED.findall(message)]
    return max(found, default=None)
