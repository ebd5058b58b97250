"""The checkpoint of a method's training: all that a killed run needs to end with the same bytes, in one file.

``checkpoint.safetensors``: which model is being trained and how many steps it has done, its weights and buffers, the
moments of its optimisers, and the held-out maps of the folds that are done. What is drawn at random (order, noise,
copies) needs no state: it follows from seed, model and step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from edgevand.errors import BadInputError
from edgevand.staging import write_atomic
from edgevand.tensors import read_tensor_file, tensor_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand_export.methods.folds import Trainee

__all__ = ["CHECKPOINT", "arrays_of", "read_checkpoint", "restore", "tensors_of", "write_checkpoint"]

CHECKPOINT = "checkpoint.safetensors"
SCHEMA = "edgevand.method-training/1"

Arrays = dict[str, Any]


def write_checkpoint(
    path: Path, run: str, place: tuple[int, int], trainee: Trainee, held: Mapping[str, NDArray[np.float32]]
) -> None:
    """Write a checkpoint in place of the older one.

    Args:
        path: the file.
        run: hash of what the run is; a checkpoint of another run is refused.
        place: model, from 0, and the steps that it has done.
        trainee: the model.
        held: maps of the frames of all folds that are done, by name, (frames, h, w).

    Raises:
        OutputError: it cannot be written; the older one stays.
    """
    tensors: Arrays = {"place": np.array(place, np.int64)}
    tensors |= {f"held.{name}": each for name, each in held.items()}
    tensors |= {f"module.{name}": each for name, each in arrays_of(trainee.module.state_dict()).items()}
    for index, optimiser in enumerate(trainee.optimisers):
        for number, moments in optimiser.state_dict()["state"].items():
            named = {f"optimiser.{index}.{number}.{name}": each for name, each in moments.items()}
            tensors |= arrays_of(named)
    write_atomic(path, tensor_bytes(tensors, {"schema": SCHEMA, "run": run}))


def read_checkpoint(path: Path, run: str) -> tuple[tuple[int, int], Arrays, Arrays]:
    """Read a checkpoint.

    Returns:
        Model and steps done, the held-out maps by name, and the tensors that ``restore`` takes.

    Raises:
        BadInputError: it is damaged, or of another run.
    """
    tensors, metadata, _ = read_tensor_file(path)
    whole = "place" in tensors and tensors["place"].shape == (2,)
    if metadata.get("schema") != SCHEMA or metadata.get("run") != run or not whole:
        raise BadInputError(
            f"expected the checkpoint of this training in {path}, found that of another (frames, weights or options "
            "differ); remove it to start anew, or give another -o"
        )
    model, step = (int(each) for each in tensors["place"])
    held = {name.removeprefix("held."): each for name, each in tensors.items() if name.startswith("held.")}
    return (model, step), held, tensors


def restore(trainee: Trainee, tensors: Arrays) -> None:
    """Put a checkpoint's weights and moments into a model that has just begun."""
    module = {name.removeprefix("module."): each for name, each in tensors.items() if name.startswith("module.")}
    trainee.module.load_state_dict(tensors_of(module))
    for index, optimiser in enumerate(trainee.optimisers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, each in tensors.items():
            if name.startswith(f"optimiser.{index}."):
                number, moment = name.split(".", 3)[2:]
                state.setdefault(int(number), {})[moment] = _tensor(each)
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def arrays_of(state: Mapping[str, Tensor]) -> Arrays:
    """Tensors as arrays."""
    return {name: each.detach().cpu().numpy() for name, each in state.items()}


def tensors_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """Arrays, which may be read-only, as tensors of their own memory."""
    return {name: _tensor(each) for name, each in arrays.items()}


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array))
