"""The checkpoint: all that a killed training needs to end with the same bytes, in one file that appears whole.

``checkpoint.safetensors``: weights of the heads, Adam's moments, the number of steps done, and the bytes of ``log.csv``
so far, which is written anew from there when a run goes on. Order and collages need no state: they follow from the
number of the step (``plan``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgevand.errors import BadInputError
from edgevand.staging import write_atomic
from edgevand.tensors import read_tensor_file, tensor_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand_export.training.config import TrainConfig
    from edgevand_export.training.losses import LinearHeads

__all__ = ["CHECKPOINT", "CHECKPOINT_SCHEMA", "TrainState", "make_state", "read_checkpoint", "write_checkpoint"]

CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_SCHEMA = "edgevand.training/1"


@dataclass(slots=True)
class TrainState:
    """A training between two steps.

    Attributes:
        heads: what is trained.
        optimiser: Adam over the heads.
        step: steps done.
        updates: of the weights; fewer than steps where no picture of a batch could be read.
        log: bytes of ``log.csv`` so far.
    """

    heads: LinearHeads
    optimiser: torch.optim.Adam
    step: int = 0
    updates: int = 0
    log: bytes = b""


def make_state(heads: LinearHeads, config: TrainConfig) -> TrainState:
    """A training that has not begun."""
    optimiser = torch.optim.Adam(
        heads.parameters(),
        lr=config.lr,
        betas=config.betas,
        eps=config.adam_eps,
        weight_decay=config.weight_decay,
        foreach=False,
    )
    return TrainState(heads, optimiser)


def write_checkpoint(path: Path, state: TrainState, run: str) -> None:
    """Write a checkpoint in place of the older one.

    Args:
        path: the file.
        state: between two steps.
        run: hash of what the run is (``record``); a checkpoint of another run is refused.

    Raises:
        OutputError: it cannot be written; the older one stays.
    """
    tensors: dict[str, NDArray[Any]] = {"step": np.array([state.step, state.updates], np.int64)}
    if state.log:
        tensors["log"] = np.frombuffer(state.log, np.uint8)
    for name, parameter in _named(state.heads).items():
        moments = state.optimiser.state.get(parameter) or {}
        tensors[f"weight.{name}"] = _array(parameter)
        tensors[f"mean.{name}"] = _array(moments.get("exp_avg", torch.zeros_like(parameter)))
        tensors[f"square.{name}"] = _array(moments.get("exp_avg_sq", torch.zeros_like(parameter)))
    write_atomic(path, tensor_bytes(tensors, {"schema": CHECKPOINT_SCHEMA, "run": run}))


def read_checkpoint(path: Path, state: TrainState, run: str) -> None:
    """Put a checkpoint's content into ``state``.

    Raises:
        BadInputError: it is damaged, of heads of other stages or widths, or of another run.
    """
    tensors, metadata, _ = read_tensor_file(path)
    if metadata.get("schema") != CHECKPOINT_SCHEMA:
        raise BadInputError(
            f"expected a training's checkpoint of schema {CHECKPOINT_SCHEMA} in {path}, found "
            f"{metadata.get('schema')!r}; remove it to start anew, or give another -o"
        )
    named = _named(state.heads)
    wanted = {name: tuple(parameter.shape) for name, parameter in named.items()}
    found = {name.removeprefix("weight."): array.shape for name, array in tensors.items() if name.startswith("weight.")}
    if found != wanted:
        raise BadInputError(
            f"expected a checkpoint of {_told(wanted)} in {path}, found one of {_told(found)}; resume with the "
            "model and stages that it was trained with, or give another -o"
        )
    expected = {"step", *(f"{part}.{name}" for part in ("weight", "mean", "square") for name in wanted)}
    whole = set(tensors) - {"log"} == expected and tensors["step"].shape == (2,)
    if not whole or metadata.get("run") != run:
        raise BadInputError(
            f"expected the checkpoint of this training in {path}, found that of another (model, data or configuration "
            "differ); remove it to start anew, or give another -o"
        )
    state.step, state.updates = map(int, tensors["step"])
    state.log = tensors["log"].tobytes() if "log" in tensors else b""
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(_tensor(tensors[f"weight.{name}"]))
            if state.updates:
                state.optimiser.state[parameter] = {
                    "step": torch.tensor(float(state.updates)),
                    "exp_avg": _tensor(tensors[f"mean.{name}"]).to(parameter),
                    "exp_avg_sq": _tensor(tensors[f"square.{name}"]).to(parameter),
                }


def _named(heads: LinearHeads) -> dict[str, torch.nn.Parameter]:
    """Parameters by the names that the heads' own file gives them: ``<stage>.weight`` and ``<stage>.bias``."""
    return {
        f"{stage}.{kind}": getattr(layer, kind)
        for stage, layer in zip(heads.stages, heads.layers, strict=True)
        for kind in ("weight", "bias")
    }


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    """A tensor of any device as an array."""
    array: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array


def _tensor(array: NDArray[np.float32]) -> torch.Tensor:
    """An array that may be read-only as a tensor of its own memory."""
    return torch.from_numpy(np.array(array, np.float32))


def _told(shapes: dict[str, tuple[int, ...]]) -> str:
    """Stages and widths of heads, for people."""
    heads = [
        f"{name.removesuffix('.weight')}: {shape[-1]} -> {shape[0]}" for name, shape in shapes.items() if len(shape) > 1
    ]
    return f"heads ({', '.join(heads) or 'none'})"
