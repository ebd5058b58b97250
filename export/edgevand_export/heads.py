"""Linear heads: one ``Linear(C -> D)`` for each stage, which map patch tokens into the text's space.

Two files are read. edgevand's own (docs/export.md), a safetensors file with the tensors ``stage.<i>.weight``
(D, C) and ``stage.<i>.bias`` (D,), i the 1-based stage, and the metadata ``schema`` = ``edgevand.heads/1``,
``activation``, ``stages`` and ``trained_on``. And the reference's ``.pth``: key ``trainable_linearlayer``, tensors
``fc.<n>.weight`` and ``fc.<n>.bias``, n = 0, 1, ... in the order of the stages, nothing recorded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
import torch
from torch import Tensor

from edgevand.errors import BadInputError
from edgevand_export.towers import Activation

if TYPE_CHECKING:
    from pathlib import Path

    from edgevand_export.towers import Tower

__all__ = ["HEADS_SCHEMA", "Heads", "check_heads", "read_heads", "write_heads"]

HEADS_SCHEMA = "edgevand.heads/1"
REFERENCE_KEY = "trainable_linearlayer"


@dataclass(frozen=True)
class Heads:
    """Heads as they were found.

    Attributes:
        layers: (weight (D, C), bias (D,)) float32 for each stage, in the order of the stages.
        stages: 1-based stages; None where the file does not say (the reference's).
        activation: the GELU they were trained with; None where the file does not say.
        trained_on: in words, for people.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    stages: tuple[int, ...] | None = None
    activation: Activation | None = None
    trained_on: str | None = None


def read_heads(path: Path) -> Heads:
    """Read heads from a safetensors file or from the reference's ``.pth``; nothing is unpickled but tensors.

    Raises:
        BadInputError: no such file, another format, or a tensor that is missing, not finite or of a wrong rank.
    """
    if not path.is_file():
        raise BadInputError(f"expected a file of linear heads, found nothing at {path}; correct --heads")
    heads = _read_own(path) if path.suffix == ".safetensors" else _read_reference(path)
    for number, (weight, bias) in enumerate(heads.layers, start=1):
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:  # noqa: PLR2004 (a matrix)
            raise BadInputError(
                f"expected a weight (D, C) and a bias (D,) in head {number} of {path}, found "
                f"{tuple(weight.shape)} and {tuple(bias.shape)}; take another --heads file"
            )
        if not (bool(weight.isfinite().all()) and bool(bias.isfinite().all())):
            raise BadInputError(
                f"expected finite numbers in head {number} of {path}, found NaN or infinity; train the heads again"
            )
    return heads


def write_heads(path: Path, heads: Heads) -> None:
    """Write heads in edgevand's own format; the file appears whole or not at all.

    Args:
        path: the ``.safetensors`` file.
        heads: with stages and activation known.

    Raises:
        BadInputError: stages or activation are not known.
        OutputError: the file cannot be written.
    """
    from edgevand.staging import write_atomic
    from edgevand.tensors import tensor_bytes

    if heads.stages is None or heads.activation is None:
        raise BadInputError("expected heads with stages and activation, found none recorded; set both before writing")
    tensors = {}
    for stage, (weight, bias) in zip(heads.stages, heads.layers, strict=True):
        tensors[f"stage.{stage}.weight"] = weight.detach().float().cpu().numpy()
        tensors[f"stage.{stage}.bias"] = bias.detach().float().cpu().numpy()
    metadata = {
        "schema": HEADS_SCHEMA,
        "activation": heads.activation,
        "stages": ",".join(map(str, heads.stages)),
        "trained_on": heads.trained_on or "",
    }
    write_atomic(path, tensor_bytes(tensors, metadata))


def check_heads(heads: Heads, tower: Tower, dim: int) -> dict[int, tuple[Tensor, Tensor]]:
    """The head of each stage, or one sentence on why heads and tower do not fit.

    Args:
        heads: as read.
        tower: with the chosen stages.
        dim: length of a text embedding.

    Returns:
        Stage to (weight (D, C), bias (D,)).

    Raises:
        BadInputError: wrong stage count, stages or width.
    """
    chosen = ",".join(map(str, tower.stages))
    stages = heads.stages
    if stages is None:
        if len(heads.layers) != len(tower.stages):
            raise BadInputError(
                f"expected {len(tower.stages)} heads for the stages {chosen}, found {len(heads.layers)}; "
                "change --stages or take other --heads"
            )
        stages = tower.stages
    if not set(stages) <= set(tower.stages):
        raise BadInputError(
            f"expected heads of the stages {chosen}, found heads of {','.join(map(str, stages))}; "
            "change --stages or take other --heads"
        )
    for stage, (weight, _) in zip(stages, heads.layers, strict=True):
        wanted = (dim, tower.widths[tower.stages.index(stage)])
        if tuple(weight.shape) != wanted:
            raise BadInputError(
                f"expected a head {wanted[1]} -> {wanted[0]} for stage {stage}, found "
                f"{weight.shape[1]} -> {weight.shape[0]}; take heads that were trained for this model"
            )
    return dict(zip(stages, heads.layers, strict=True))


def _read_own(path: Path) -> Heads:
    """Edgevand's own safetensors file."""
    from edgevand.tensors import read_tensor_file

    arrays, metadata, _ = read_tensor_file(path)
    tensors = {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}
    if metadata.get("schema") != HEADS_SCHEMA:
        raise BadInputError(
            f"expected heads of schema {HEADS_SCHEMA} in {path}, found {metadata.get('schema')!r}; "
            "take a file written by edgevand, or the reference's .pth"
        )
    activation = metadata.get("activation")
    if activation not in get_args(Activation):
        raise BadInputError(
            f"expected the activation {', '.join(get_args(Activation))} in the metadata of {path}, "
            f"found {activation!r}; write the heads again"
        )
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", metadata.get("stages", "")):
        raise BadInputError(
            f"expected stages such as 6,12,18,24 in the metadata of {path}, found {metadata.get('stages')!r}; "
            "write the heads again"
        )
    stages = tuple(int(each) for each in metadata["stages"].split(","))
    names = [(f"stage.{stage}.weight", f"stage.{stage}.bias") for stage in stages]
    layers = _layers(tensors, names, path)
    return Heads(layers, stages, cast("Activation", activation), metadata.get("trained_on") or None)


def _read_reference(path: Path) -> Heads:
    """The reference's checkpoint, read with weights only."""
    try:
        record: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip, runtime and value errors of many kinds
        raise BadInputError(
            f"expected a checkpoint of tensors in {path}, found a file that torch cannot read with weights only "
            f"({type(error).__name__}); take another --heads file"
        ) from error
    tensors = record.get(REFERENCE_KEY) if isinstance(record, dict) else None
    if not isinstance(tensors, dict):
        raise BadInputError(
            f"expected the key {REFERENCE_KEY} in {path}, found {_found(record)}; take heads of the reference, "
            "or a .safetensors file"
        )
    count = sum(name.endswith(".weight") for name in tensors)
    names = [(f"fc.{number}.weight", f"fc.{number}.bias") for number in range(count)]
    return Heads(_layers(tensors, names, path))


def _found(record: object) -> str:
    """What a checkpoint holds, in a few words."""
    return ", ".join(list(map(str, record))[:4]) if isinstance(record, dict) else type(record).__name__


def _layers(tensors: dict[str, Any], names: list[tuple[str, str]], path: Path) -> tuple[tuple[Tensor, Tensor], ...]:
    """The named tensors, all of them and no more."""
    wanted = {name for pair in names for name in pair}
    if not wanted or set(tensors) != wanted or not all(isinstance(each, Tensor) for each in tensors.values()):
        raise BadInputError(
            f"expected the tensors {', '.join(sorted(wanted)) or 'fc.0.weight, fc.0.bias, ...'} in {path}, "
            f"found {', '.join(sorted(map(str, tensors))) or 'none'}; take another --heads file"
        )
    return tuple((tensors[weight].float(), tensors[bias].float()) for weight, bias in names)
