"""Image towers without a text tower: any network of timm, DINOv2 and DINOv3 among them, as ``--model timm:NAME``.

Weights are a file in timm's form or in the one that the network's authors published, which timm's own filter converts;
nothing that a file holds is run. Without text there is no zero-shot score: frames are enrolled, and the bundle's method
is ``memory`` until another is asked for.
"""

from __future__ import annotations

import dataclasses
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from edgevand.bundle import ModelRecord
from edgevand.errors import BadInputError, UsageError
from edgevand_export.loading import differences, load_state
from edgevand_export.towers import vit_grid
from edgevand_export.weights import ModelFiles, fetched, placed

if TYPE_CHECKING:
    from edgevand_export.export import ExportOptions

__all__ = ["PREFIX", "TimmTrunk", "Trunk", "build_trunk", "find_trunk", "refuse_text_options", "trunk_record"]

PREFIX = "timm:"
"""What ``--model`` begins with."""


class TimmTrunk(nn.Module):
    """A network of timm as an image tower: the embedding is what it pools for its classifier."""

    def __init__(self, trunk: Any) -> None:  # noqa: ANN401 (timm has no types)
        """Take over the network."""
        super().__init__()
        self.trunk = trunk
        self.head = nn.Identity()

    def set_input_size(self, size: tuple[int, int]) -> None:
        """Have the network resize its positional table to height and width.

        Raises:
            UsageError: they are no multiples of its patches.
        """
        patches = getattr(self.trunk, "patch_embed", None)
        if patches is not None:
            vit_grid(size, tuple(patches.patch_size))
        self.trunk.set_input_size(size)


class Trunk(NamedTuple):
    """A network that is ready to be exported."""

    visual: TimmTrunk
    dim: int
    """Length of its embedding."""


def find_trunk(model: str, pretrained: str | None) -> ModelFiles:
    """Find the weights of ``--model timm:NAME`` and ``--pretrained``.

    Args:
        model: with the prefix.
        pretrained: path of a weights file; None: ``$EDGEVAND_HOME/weights``, the hub's cache, a download.

    Raises:
        UsageError: timm has no such network.
        BadInputError: the weights file does not exist.
        UnavailableError: the weights are not on this machine and cannot be fetched.
    """
    import timm

    name = model.removeprefix(PREFIX)
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() lists them"
        raise UsageError(f"expected a network of timm after {PREFIX}, found {name!r}; {hint}")
    known = timm.models.get_pretrained_cfg(name)
    tag: dict[str, Any] = {} if known is None else dataclasses.asdict(known)
    side = tag.get("input_size", (3, 224, 224))
    config = {"vision_cfg": {"timm_model_name": name, "image_size": [side[1], side[2]]}}
    if pretrained is not None:
        path = Path(pretrained).expanduser()
        if not path.is_file():
            raise BadInputError(f"expected a weights file at {pretrained}, found nothing; give it with --pretrained")
        return ModelFiles(name, config, path.name, path, tag)
    architecture, _, variant = name.partition(".")
    variant = variant or str(tag.get("tag") or "default")
    found = placed(architecture, variant)
    if found is None:
        hub = tag.get("hf_hub_id")
        if not hub:
            raise UsageError(f"expected weights for {name}, of which timm has none, found no --pretrained; give a file")
        found = fetched(architecture, variant, {"hf_hub": f"{hub}/model.safetensors"})
    return ModelFiles(name, config, variant, found, tag)


def build_trunk(files: ModelFiles) -> Trunk:
    """Build a network and load its weights; those of a classifier are left behind.

    Raises:
        BadInputError: the weights are damaged or of another network.
    """
    import timm

    trunk: Any = timm.create_model(files.name, pretrained=False, num_classes=0)
    state = load_state(files.weights)
    convert = getattr(sys.modules[type(trunk).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        try:
            state = convert(state, trunk)
        except (KeyError, ValueError, RuntimeError, AttributeError, TypeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise BadInputError(
                f"expected the weights of {files.name} in {files.weights}, found others ({reason}); check that --model "
                "and --pretrained belong together"
            ) from error
    head = str(trunk.pretrained_cfg.get("classifier") or "head")
    wanted: dict[str, Tensor] = trunk.state_dict()
    found = {name: each for name, each in state.items() if not name.startswith(f"{head}.") or name in wanted}
    wrong = differences(wanted, found)
    if wrong:
        raise BadInputError(
            f"expected the weights of {files.name} in {files.weights}, found {'; '.join(wrong)}; check that --model "
            "and --pretrained belong together"
        )
    trunk.load_state_dict({name: each.float() if each.is_floating_point() else each for name, each in found.items()})
    visual = TimmTrunk(trunk).eval().requires_grad_(False)  # noqa: FBT003 (torch's own signature)
    return Trunk(visual, int(trunk.num_features))


def trunk_record(files: ModelFiles, sha256: str, dim: int) -> ModelRecord:
    """The manifest's record of a network."""
    return ModelRecord(
        name=files.name,
        pretrained=files.pretrained,
        architecture="timm",
        image_activation="none",
        text_activation="none",
        weights_sha256=sha256,
        config={"embed_dim": dim, **files.config},
    )


def refuse_text_options(options: ExportOptions, default: tuple[str, ...]) -> None:
    """Refuse what needs a text tower.

    Raises:
        UsageError: names the option.
    """
    given = {
        "--heads": options.heads is not None,
        "--object": options.objects != default,
        "--activation": options.activation != "auto",
    }
    for name, there in given.items():
        if there:
            raise UsageError(
                f"expected no {name} with {options.model}, which has no text tower, found it; leave it out"
            )
