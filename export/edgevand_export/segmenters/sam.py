"""SAM in two graphs (Kirillov et al., "Segment Anything", ICCV 2023): the picture once, then points in batches.

The modules are those of transformers' ``SamModel``. Points take the batch axis, so that one graph serves any number of
them; each is one foreground point, and has three masks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from edgevand.errors import BadInputError, MissingDependencyError

if TYPE_CHECKING:
    from edgevand_export.segmenters.weights import Weights

__all__ = ["SAM_KEY", "SamDecoder", "SamEncoder", "load_sam", "published_config"]

SAM_KEY = "mask_decoder.iou_token.weight"
"""A tensor by which the weights are known."""

# Of the published vision encoders by their width: layers, heads, and the blocks with global attention.
PUBLISHED = {
    768: (12, 12, [2, 5, 8, 11]),
    1024: (24, 16, [5, 11, 17, 23]),
    1280: (32, 16, [7, 15, 23, 31]),
}


class SamEncoder(nn.Module):
    """The picture's embedding."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 (transformers)
        """Take over the weights of a ``SamModel``."""
        super().__init__()
        self.vision = model.vision_encoder

    def forward(self, image: Tensor) -> Tensor:
        """(1, 3, S, S), normalised, to (1, C, S / 16, S / 16)."""
        found: Tensor = self.vision(image).last_hidden_state
        return found


class SamDecoder(nn.Module):
    """Masks of points."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 (transformers)
        """Take over the weights of a ``SamModel``; what does not depend on the points is computed once."""
        super().__init__()
        self.prompts, self.masks = model.prompt_encoder, model.mask_decoder
        self.positions = nn.Buffer(model.get_image_wide_positional_embeddings().detach())
        nothing = model.prompt_encoder.no_mask_embed.weight.detach()
        self.no_mask = nn.Buffer(nothing.reshape(1, -1, 1, 1))

    def forward(self, embedding: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding (1, C, h, w) and points (P, 2) in pixels of SAM's input to logits (P, 3, 4h, 4w) and IoU (P, 3)."""
        coordinates = points[:, None, None]
        labels = torch.ones_like(coordinates[..., 0])
        sparse = self.prompts._embed_points(coordinates, labels, pad=True)  # noqa: SLF001 (all but the unused inputs)
        count = points.shape[0]
        logits, predicted = self.masks(
            image_embeddings=embedding.expand(count, -1, -1, -1),
            image_positional_embeddings=self.positions.expand(count, -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=self.no_mask.expand(count, -1, *embedding.shape[2:]),
            multimask_output=True,
        )
        return logits[:, 0], predicted[:, 0]


def load_sam(weights: Weights) -> Any:  # noqa: ANN401 (transformers)
    """A ``SamModel`` of transformers in evaluation mode, float32.

    Raises:
        BadInputError: weights of another architecture.
        MissingDependencyError: transformers is not installed.
    """
    try:
        from transformers import SamConfig, SamModel
    except ImportError as error:
        raise MissingDependencyError(
            "expected the package transformers, which SAM's modules come from, found none; install edgevand[export]"
        ) from error

    state = weights.state
    if SAM_KEY not in state:
        raise BadInputError(
            f"expected SAM's weights as transformers saves them in {weights.path}, found no tensor {SAM_KEY}; give "
            "those of facebook/sam-vit-huge or a relative with --weights"
        )
    config = SamConfig(**(published_config(_width(state)) if weights.config is None else weights.config))
    config._attn_implementation = "eager"  # noqa: SLF001 (as matrix products; the other ways do not export)
    with torch.device("meta"):
        module: Any = SamModel(config)
    shared = "shared_image_embedding.positional_embedding"
    twin = f"prompt_encoder.{shared.replace('image_', '')}"
    state.setdefault(twin, state.get(shared, torch.empty(0)))  # one tensor under two names, saved under either
    state.setdefault(shared, state[twin])
    weights.fill(module, "SAM")
    return module.eval()


def published_config(width: int) -> dict[str, Any]:
    """The config of a published model by its vision encoder's width; empty for another width."""
    if width not in PUBLISHED:
        return {}
    layers, heads, everywhere = PUBLISHED[width]
    return {
        "vision_config": {
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "global_attn_indexes": everywhere,
            "mlp_dim": 4 * width,
        }
    }


def _width(state: dict[str, Tensor]) -> int:
    """Of the vision encoder; 0 where the weights do not tell."""
    table = state.get("vision_encoder.pos_embed")
    return 0 if table is None else table.shape[-1]
