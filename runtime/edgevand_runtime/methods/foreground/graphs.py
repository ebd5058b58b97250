"""The graphs of DIS and SAM in a bundle, and their record: ``vvv-foreground.json``.

They run at enrolment only, by ONNX Runtime on the processor, whatever engine the stream runs on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgevand.bundle import OutputParity
from edgevand.errors import FormatError
from edgevand.files import read_limited
from edgevand.onnx_locations import external_locations
from edgevand.records import Record, parse_record

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgevand.bundle import Bundle

__all__ = ["FOREGROUND_FILE", "FOREGROUND_SCHEMA", "ForegroundRecord", "SideGraph", "SideGraphRecord", "read_record"]

FOREGROUND_FILE = "vvv-foreground.json"
FOREGROUND_SCHEMA = "edgevand.foreground/1"
_LIMIT = 1 << 20
_QUIET = 3


class SideGraphRecord(Record):
    """A graph beside the method's own, and what it was proved with at export."""

    file: str
    reference: str
    engine: str
    outputs: tuple[OutputParity, ...]


class SamRecord(Record):
    """SAM in two graphs: the picture once, then points in batches."""

    side: int = Field(ge=16, le=4096, description="pixels of its input")
    encoder: SideGraphRecord = Field(description="image [1,3,side,side] to embedding [1,C,h,w]")
    decoder: SideGraphRecord = Field(description="embedding, points [P,2] to logits [P,3,h',w'] and iou [P,3]")


class DisRecord(Record):
    """IS-Net."""

    side: int = Field(ge=16, le=4096, description="pixels of its input")
    graph: SideGraphRecord = Field(description="image [1,3,side,side] to mask [1,side,side]")


class ForegroundRecord(Record):
    """``vvv-foreground.json``."""

    schema_: Literal["edgevand.foreground/1"] = Field(alias="schema")
    created: str
    generator: str
    dis: DisRecord
    sam: SamRecord


def read_record(bundle: Bundle) -> ForegroundRecord | None:
    """What a bundle has to find the foreground with; None where it has nothing.

    Raises:
        FormatError: the record is damaged, or names a file that the bundle does not list.
    """
    if FOREGROUND_FILE not in bundle.whole.files:
        return None
    path = bundle.path / FOREGROUND_FILE
    remedy = "export the bundle again with this version of edgevand"
    record = parse_record(ForegroundRecord, read_limited(path, _LIMIT), path, schema=FOREGROUND_SCHEMA, remedy=remedy)
    for graph in (record.dis.graph, record.sam.encoder, record.sam.decoder):
        named = [graph.file]
        if graph.file in bundle.whole.files:
            named += sorted(external_locations(bundle.path / graph.file))
        missing = [name for name in named if name not in bundle.whole.files]
        if missing:
            raise FormatError(f"expected {missing[0]!r}, which {path} needs, in manifest.json, found it not; {remedy}")
    return record


class SideGraph:
    """One of these graphs, loaded."""

    def __init__(self, path: Path) -> None:
        """Load it.

        Raises:
            FormatError: ONNX Runtime cannot run it.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _QUIET
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises its own classes, which share no public base but Exception
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise FormatError(
                f"expected {path.name} to be a graph that ONNX Runtime can run, found: {reason}; export the bundle "
                "again"
            ) from error

    def run(self, **inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Outputs in the graph's order."""
        found: list[NDArray[np.float32]] = self._session.run(None, inputs)
        return found
