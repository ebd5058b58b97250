"""What goes into an encoder graph and what comes out, by name: the same for every library (docs/formats.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgevand.errors import FormatError, UsageError
from edgevand_runtime.engines import EncoderOutput

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray
    from typing_extensions import Self

    from edgevand.bundle import Manifest

__all__ = ["Ports"]


@dataclass(frozen=True, slots=True)
class Ports:
    """Names of a graph's inputs and outputs.

    Attributes:
        takes_text: whether the graph has the input ``text``.
        tokens: outputs ``tokens_<i>``, in the manifest's order.
        logits: outputs ``logits_<i>`` of the stages with heads.
        maps: outputs ``map_<name>``.
        embeds: whether there is the output ``embedding``.
    """

    takes_text: bool
    tokens: tuple[str, ...]
    logits: tuple[str, ...]
    maps: tuple[str, ...] = ()
    embeds: bool = True

    @classmethod
    def of(cls, manifest: Manifest, inputs: Collection[str], outputs: Collection[str]) -> Self:
        """Hold the names of a loaded graph against the manifest.

        Raises:
            FormatError: the graph lacks an output that the manifest names.
        """
        ports = cls(
            "text" in inputs,
            tuple(f"tokens_{stage.index}" for stage in manifest.stages),
            tuple(f"logits_{stage.index}" for stage in manifest.stages if stage.head),
            tuple(f"map_{each.name}" for each in manifest.maps),
            manifest.embedding_dim > 0,
        )
        lacking = sorted(set(ports.outputs) - set(outputs))
        if lacking:
            raise FormatError(
                "expected the graph to have the outputs that manifest.json names, found none called "
                f"{', '.join(lacking)}; export the bundle again."
            )
        return ports

    @property
    def outputs(self) -> tuple[str, ...]:
        """Every output that is read."""
        return (*(("embedding",) if self.embeds else ()), *self.tokens, *self.logits, *self.maps)

    def feed(self, images: NDArray[np.float32], text: NDArray[np.float32] | None) -> dict[str, NDArray[np.float32]]:
        """Inputs by name.

        Raises:
            UsageError: the graph takes text and there is none.
        """
        if not self.takes_text:
            return {"image": images}
        if text is None:
            raise UsageError("expected text embeddings, since the bundle's graph has heads, found none; give --object.")
        return {"image": images, "text": text}

    def output(self, found: Mapping[str, NDArray[np.float32]]) -> EncoderOutput:
        """Outputs by name as what the encoder says."""
        rows = len(found[self.outputs[0]])
        return EncoderOutput(
            embedding=found["embedding"] if self.embeds else np.empty((rows, 0), np.float32),
            tokens=tuple(found[name] for name in self.tokens),
            logits=tuple(found[name] for name in self.logits),
            maps={name.removeprefix("map_"): found[name] for name in self.maps},
        )
