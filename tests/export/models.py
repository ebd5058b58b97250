"""Tiny open_clip models of every kind of tower, with random weights that no default could hide behind."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch
from open_clip.coca_model import CoCa
from open_clip.model import CLIP, CustomTextCLIP
from safetensors.torch import save_file

from edgevand_export.bundle_writer import ModelSource
from edgevand_export.heads import Heads

if TYPE_CHECKING:
    from pathlib import Path

DIM = 24
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
VISION: dict[str, dict[str, Any]] = {
    "vit": {"image_size": 32, "layers": 4, "width": 32, "patch_size": 8, "head_width": 16},
    "resnet": {"image_size": 64, "layers": [1, 2, 1, 1], "width": 8, "head_width": 32, "patch_size": None},
    "timm": {"image_size": 64, "timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": "linear"},
    "timm-vit": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "linear"},
}
SIZE = {"vit": (48, 48), "resnet": (96, 96), "timm": (64, 64), "timm-vit": (160, 160)}
"""Sizes that the tests export at: where the tower has a positional table, not its native one."""


def tiny_config(kind: str, **vision: Any) -> dict[str, Any]:
    """open_clip config of a tiny model; ``vision`` adds to its image tower."""
    return {"embed_dim": DIM, "vision_cfg": {**VISION[kind], **vision}, "text_cfg": dict(TEXT)}


def tiny_model(config: dict[str, Any], *, seed: int = 0, custom_text: bool = False, quick_gelu: bool = False) -> Any:
    """Build a model; every parameter and running statistic is moved away from where it starts."""
    torch.manual_seed(seed)
    kind = CoCa if "multimodal_cfg" in config else CustomTextCLIP if custom_text else CLIP
    model = kind(**config, quick_gelu=quick_gelu)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.2)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    return model.eval()


def save_weights(model: Any, path: Path) -> Path:
    """Write a model's weights as safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: each.contiguous() for name, each in model.state_dict().items()}, path)
    return path


def source_of(config: dict[str, Any]) -> ModelSource:
    """A record of where a tiny model came from."""
    return ModelSource("tiny", "random", hashlib.sha256(b"random").hexdigest(), config)


def random_heads(widths: tuple[int, ...], stages: tuple[int, ...] | None = None, *, seed: int = 1) -> Heads:
    """Heads of the right shape for a tower's stages."""
    generator = torch.Generator().manual_seed(seed)
    layers = tuple(
        (torch.randn(DIM, width, generator=generator), torch.randn(DIM, generator=generator)) for width in widths
    )
    return Heads(layers, stages, "gelu" if stages else None)


def picture_batch(count: int, size: tuple[int, int], *, seed: int = 2) -> torch.Tensor:
    """Normalised random pictures (count, 3, H, W)."""
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def at_size(config: dict[str, Any], model: Any, size: int) -> Any:
    """The same model at another image size, its tables resized by open_clip itself: the oracle of the towers."""
    from open_clip.model import resize_pos_embed

    larger = tiny_model({**config, "vision_cfg": {**config["vision_cfg"], "image_size": size}})
    state = dict(model.state_dict())
    if "visual.positional_embedding" in state:
        resize_pos_embed(state, larger)
    elif "visual.attnpool.positional_embedding" in state:
        state["visual.attnpool.positional_embedding"] = _resized_pool(state, size)
    larger.load_state_dict(state)
    return larger.eval()


def _resized_pool(state: dict[str, torch.Tensor], size: int) -> torch.Tensor:
    """A ResNet's attention-pool table through open_clip's resize of a ViT table of the same form."""
    from types import SimpleNamespace

    from open_clip.model import resize_pos_embed

    borrowed = {"visual.positional_embedding": state["visual.attnpool.positional_embedding"]}
    resize_pos_embed(borrowed, SimpleNamespace(visual=SimpleNamespace(grid_size=(size // 32, size // 32))))
    return borrowed["visual.positional_embedding"]
