"""Weights of segmentation models as the user brings them: a file, or a directory as transformers saves one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from edgevand.errors import BadInputError
from edgevand.files import read_limited
from edgevand_export.loading import load_state

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

__all__ = ["Weights", "read_weights"]

CONFIG = "config.json"
MAX_CONFIG = 1 << 20
NAMES = ("model.safetensors", "pytorch_model.bin")


class Weights(NamedTuple):
    """Tensors by name, and what they say of their model."""

    path: Path
    """The file."""
    state: dict[str, Tensor]
    """Read with weights only."""
    config: dict[str, Any] | None
    """Of the ``config.json`` beside the file; None where there is none."""

    def fill(self, module: nn.Module, name: str) -> None:
        """Put the tensors into a module, as float32, without copying those that are.

        Args:
            module: its parameters may be unallocated (``meta``).
            name: of the model, for people.

        Raises:
            BadInputError: a tensor is missing or has another shape.
        """
        wanted = module.state_dict()
        for key, like in wanted.items():
            if key not in self.state:
                found = f"no tensor {key}"
            elif self.state[key].shape != like.shape:
                found = f"{key} of shape {tuple(self.state[key].shape)} in place of {tuple(like.shape)}"
            else:
                continue
            raise BadInputError(
                f"expected the weights of {name} in {self.path}, found {found}; give the file of that architecture, "
                f"with its {CONFIG} beside it"
            )
        kept = {key: self.state[key] for key in wanted}
        module.load_state_dict(
            {key: each.float() if each.is_floating_point() else each for key, each in kept.items()}, assign=True
        )
        module.requires_grad_(False)  # noqa: FBT003 (torch's own signature)


def read_weights(path: Path) -> Weights:
    """Read a weights file (``.safetensors``, ``.bin``, ``.pt``, ``.pth``) or the one of a directory.

    Raises:
        BadInputError: there is none, or it cannot be read without running code.
    """
    file = path
    if path.is_dir():
        file = next((path / name for name in NAMES if (path / name).is_file()), path / NAMES[0])
    if not file.is_file():
        raise BadInputError(f"expected weights in {file}, found no such file; correct --weights")
    beside = file.parent / CONFIG
    config = None
    if beside.is_file():
        data = read_limited(beside, MAX_CONFIG, f"expected a model's config in {beside}, found none; correct --weights")
        try:
            config = json.loads(data)
        except ValueError as error:
            raise BadInputError(
                f"expected JSON in {beside}, found something else; bring the model's directory again"
            ) from error
        if not isinstance(config, dict):
            raise BadInputError(f"expected an object in {beside}, found {type(config).__name__}; bring it again")
    return Weights(file, load_state(file), config)
