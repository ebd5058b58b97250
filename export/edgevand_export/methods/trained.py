"""What a method's training writes, and its exporter reads: ``<method>.safetensors``, with its record beside it as JSON.

The file holds weights and options of the model of all frames, backbone included, so that an export needs nothing else;
and of each frame that it was trained on the held-out maps (by the fold's model that had not seen it) and a small view,
by which enrolment knows the frame again. The same training gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from pydantic import Field

from edgevand.bundle import ImageRecord
from edgevand.errors import BadInputError, OutputError
from edgevand.files import read_limited
from edgevand.records import Record, dump_record, parse_record
from edgevand.staging import is_filled, output_error, write_atomic
from edgevand.tensors import read_tensor_file, tensor_bytes
from edgevand_export.methods.checkpoint import arrays_of, tensors_of
from edgevand_export.methods.frames import digest
from edgevand_export.training.digests import digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from edgevand_runtime.methods.base import Settings

__all__ = [
    "RunRecord",
    "Trained",
    "TrainedRecord",
    "begin_run",
    "load_state",
    "make_run",
    "read_trained",
    "run_hash",
    "write_trained",
]

RUN = "config.json"
_RUN_SCHEMA = "edgevand.method-run/1"
_SCHEMA = "edgevand.trained/1"
_LIMIT = 1 << 24


class RunRecord(Record):
    """``config.json`` of a training: everything that its result depends on."""

    schema_: Literal["edgevand.method-run/1"] = Field(alias="schema")
    method: str
    settings: dict[str, Any]
    image: ImageRecord
    backbone_sha256: str = Field(description="over the tensors of the frozen backbone")
    frames: tuple[str, ...] = Field(description="sha256 of the decoded pixels of each frame, in order")
    torch: str = Field(description="version; another one may round otherwise")


class TrainedRecord(Record):
    """``<method>.json``, which also stands in the metadata of ``<method>.safetensors``."""

    schema_: Literal["edgevand.trained/1"] = Field(alias="schema")
    run: RunRecord
    folds: int
    statistics: dict[str, float] = Field(description="of the held-out maps, where the method standardises by them")
    scores: tuple[float, ...] = Field(description="held-out raw image score of each frame")


class Trained(NamedTuple):
    """A method's training, read back."""

    record: TrainedRecord
    model: dict[str, Tensor]
    held: dict[str, NDArray[np.float32]]
    views: NDArray[np.float32]


def make_run(
    method: str, settings: Settings, image: ImageRecord, backbone: nn.Module, frames: Sequence[NDArray[np.uint8]]
) -> RunRecord:
    """The record of a training that is about to begin."""
    weights = hashlib.sha256()
    for name, each in sorted(arrays_of(backbone.state_dict()).items()):
        weights.update(name.encode())
        weights.update(each.tobytes())
    return RunRecord(
        schema="edgevand.method-run/1",
        method=method,
        settings=settings.model_dump(mode="json"),
        image=image,
        backbone_sha256=weights.hexdigest(),
        frames=tuple(digest(frame) for frame in frames),
        torch=torch.__version__,
    )


def load_state(module: nn.Module, state: Mapping[str, Tensor], prefix: str, path: Path) -> None:
    """Put the tensors with a prefix into a module.

    Raises:
        BadInputError: they are those of another module.
    """
    own = {name.removeprefix(prefix): each for name, each in state.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInputError(
            f"expected the weights that the options in {path} name, found others ({reason}); train it again"
        ) from error


def run_hash(record: RunRecord) -> str:
    """Hash of all that the result depends on."""
    return digest_of(record.model_dump(mode="json"))


def begin_run(folder: Path, record: RunRecord, *, resume: bool) -> None:
    """Make the directory of a new run with its record, or hold a run that goes on against its own.

    Raises:
        OutputError: something is there already, or cannot be written.
        BadInputError: another run is there; the first difference is named.
    """
    path = folder / RUN
    if resume and path.is_file():
        former = parse_record(RunRecord, read_limited(path, _LIMIT), path, schema=_RUN_SCHEMA, remedy="give another -o")
        before, now = _flat(former), _flat(record)
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                raise BadInputError(
                    f"expected to resume the training of {folder} with {name} {_told(before.get(name))}, found "
                    f"{_told(now.get(name))}; give the same options and frames, or another -o"
                )
        return
    if is_filled(folder):
        remedy = "give another -o" if resume else "add --resume to go on with it, or give another -o"
        raise OutputError(f"expected a new directory for the training at {folder}, found files in it; {remedy}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    write_atomic(path, dump_record(record))


def write_trained(
    folder: Path,
    record: TrainedRecord,
    model: Mapping[str, Tensor],
    held: Mapping[str, NDArray[np.float32]],
    views: NDArray[np.float32],
) -> Path:
    """Write ``<method>.safetensors`` and ``<method>.json``.

    Args:
        folder: of the run.
        record: of the training.
        model: state of the modules that the exporter builds again.
        held: held-out maps (F, h, w), by name.
        views: (F, v_h, v_w) of the frames (``frames.View``).

    Raises:
        OutputError: they cannot be written.
    """
    tensors: dict[str, Any] = {f"model.{name}": each for name, each in arrays_of(model).items()}
    tensors |= {f"held.{name}": each for name, each in held.items()} | {"views": views}
    text = json.dumps(record.model_dump(mode="json", by_alias=True), sort_keys=True)
    path = folder / f"{record.run.method}.safetensors"
    write_atomic(folder / f"{record.run.method}.json", dump_record(record))
    write_atomic(path, tensor_bytes(tensors, {"schema": _SCHEMA, "record": text}))
    return path


def read_trained(paths: tuple[Path, ...], method: str, settings: type[Settings]) -> tuple[Trained, Any]:
    """Read what a training wrote.

    Args:
        paths: what the person gave with ``--weights``.
        method: that is wanted.
        settings: of the method.

    Returns:
        The training, and its settings.

    Raises:
        BadInputError: none or several files, a file that is no training of this method, or damaged.
    """
    remedy = f"give the {method}.safetensors that edgevand train --method {method} wrote"
    if len(paths) != 1:
        raise BadInputError(f"expected one file with --weights to export {method}, found {len(paths)}; {remedy}")
    path = paths[0]
    tensors, metadata, _ = read_tensor_file(path)
    if metadata.get("schema") != _SCHEMA:
        raise BadInputError(f"expected a training of {method} in {path}, found something else; {remedy}")
    record = parse_record(TrainedRecord, metadata.get("record", "").encode(), path, schema=_SCHEMA, remedy=remedy)
    if record.run.method != method:
        raise BadInputError(f"expected a training of {method} in {path}, found one of {record.run.method}; {remedy}")
    model = {name.removeprefix("model."): each for name, each in tensors.items() if name.startswith("model.")}
    held = {name.removeprefix("held."): each for name, each in tensors.items() if name.startswith("held.")}
    if "views" not in tensors:
        raise BadInputError(f"expected the views of the training's frames in {path}, found none; {remedy}")
    trained = Trained(record, tensors_of(model), held, tensors["views"])
    return trained, settings.model_validate(record.run.settings)


def _flat(record: RunRecord) -> dict[str, Any]:
    """Every field by a name with a dot; the frames together."""
    fields = record.model_dump(mode="json", by_alias=True)
    options = {f"the option {name}": value for name, value in fields.pop("settings").items()}
    frames = fields.pop("frames")
    fields["the frames"] = f"{len(frames)} with the hash {digest_of({'frames': frames})[:12]}"
    return {**options, **fields}


def _told(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 (a sentence stays readable)
