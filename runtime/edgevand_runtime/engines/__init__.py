"""Engines run the encoder graph of a bundle. Two methods, so that a new one is one small module."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from edgevand.bundle import Bundle, Precision

__all__ = ["EncoderOutput", "Engine", "Seen", "open_engine"]


@dataclass(frozen=True, slots=True)
class Seen:
    """Which rows of an encoder's output are of which frame, where a frame is seen in parts (``Method.boxes``).

    Attributes:
        counts: parts of each frame.
        sizes: width and height of each frame in pixels.
    """

    counts: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class EncoderOutput:
    """What the encoder says of N frames; stages in the manifest's order.

    Attributes:
        embedding: (N, D) float32, unit rows: the class embedding.
        tokens: for each stage (N, P, C) float32, unit vectors, row-major over the grid.
        logits: for each stage with a head (N, h, w) float32, logit of abnormal minus normal; empty without heads.
        maps: (N, h, w) float32 by name, of graphs that give maps themselves.
        seen: whose the N rows are, where frames are seen in parts; None where each row is a frame.
    """

    embedding: NDArray[np.float32]
    tokens: tuple[NDArray[np.float32], ...]
    logits: tuple[NDArray[np.float32], ...]
    maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    seen: Seen | None = None

    def of(self, seen: Seen) -> EncoderOutput:
        """The same output, of frames that were seen in parts."""
        return replace(self, seen=seen)


class Engine(Protocol):
    """Runs one graph; ``name`` says for people and results what runs, like ``onnxruntime:cpu``.

    ``precision`` is that of the graph.
    """

    name: str
    precision: Precision

    def run(self, images: NDArray[np.float32], text: NDArray[np.float32] | None) -> EncoderOutput:
        """Encode a batch.

        Args:
            images: (N, 3, H, W) float32, normalised.
            text: (2, D) float32 rows (normal, abnormal); needed where the graph has heads, ignored elsewhere.
        """

    def close(self) -> None:
        """Free what the engine holds; it is not used afterwards."""


def open_engine(
    bundle: Bundle,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: Precision | None = None,
    threads: int | None = None,
) -> Engine:
    """Open the engine that runs a bundle's graph.

    Args:
        bundle: a verified bundle.
        backend: ``auto`` for the fastest that is proved on this device, or one of ``choose.ENGINES``, proved or not.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``gpu`` or ``gpu:N`` (Intel's).
        precision: of the graph; None for the bundle's first.
        threads: processor threads of the engine; None for all cores.

    Raises:
        UsageError: an unknown backend or device, or a precision that the bundle has no graph for.
        UnavailableError: a device or backend that is not here.
        GateError: ``auto`` found no engine that computes here what PyTorch computed at export.
    """
    from edgevand_runtime.engines.choose import choose_engine

    return choose_engine(bundle, backend=backend, device=device, precision=precision, threads=threads)
