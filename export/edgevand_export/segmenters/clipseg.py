"""CLIPSeg as one graph: a tile goes through the image tower once, and the decoder through all prompts as one batch.

Lüddecke & Ecker, "Image Segmentation Using Text and Image Prompts" (CVPR 2022); the modules are those of transformers'
``CLIPSegForImageSegmentation``. Three things are done once, at export, instead of for every tile:

- the positional table is resized to the tile's grid (bicubic, not antialiased, as the library does it);
- each prompt's pair of FiLM vectors, ``film_mul(c)`` and ``film_add(c)``, is computed and baked into the graph;
- the text tower is left out: prompts and objects are data.

The same pass gives the tile's embedding: the class token after the last block, normalised and projected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgevand.errors import BadInputError, MissingDependencyError
from edgevand_export.segmenters.weights import Weights, read_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["CLIPSEG_KEY", "ClipSegGraph", "ClipSegModel", "load_clipseg", "open_clipseg", "published_config"]

CLIPSEG_KEY = "decoder.film_mul.weight"
"""A tensor by which CLIPSeg's weights are known."""

LEAST_PROBABILITY = 1e-6
"""The harmonic mean's guard (methods.md (d))."""

EPSILON = 1e-12


class ClipSegGraph(nn.Module):
    """Tiles to their embeddings and anomaly maps; what the ONNX graph computes."""

    def __init__(self, model: Any, conditions: Tensor, side: int) -> None:  # noqa: ANN401 (transformers)
        """Take over the weights.

        Args:
            model: ``CLIPSegForImageSegmentation`` in evaluation mode.
            conditions: (J, 512) text embeddings of the localising prompts, not normalised.
            side: of a tile in pixels, a multiple of the patches'.
        """
        super().__init__()
        vision, decoder = model.clip.vision_model, model.decoder
        self.patches = vision.embeddings.patch_embedding
        table = resized(vision.embeddings.position_embedding.weight.detach(), side // self.patches.kernel_size[0])
        self.first = nn.Buffer((vision.embeddings.class_embedding.detach() + table[0]).reshape(1, 1, -1))
        self.table = nn.Buffer(table[1:].unsqueeze(0))
        self.pre_norm, self.post_norm = vision.pre_layrnorm, vision.post_layernorm
        self.blocks = nn.ModuleList(Block(layer, norm_first=True) for layer in vision.encoder.layers)
        self.projection = model.clip.visual_projection
        self.extracted = tuple(model.extract_layers)
        self.reduces, self.last = decoder.reduces, decoder.transposed_convolution
        self.layers = nn.ModuleList(Block(layer, norm_first=False) for layer in decoder.layers)
        self.conditional = int(decoder.conditional_layer)
        self.prompts = len(conditions)
        self.film_mul = nn.Buffer(decoder.film_mul(conditions).detach().reshape(1, self.prompts, 1, -1))
        self.film_add = nn.Buffer(decoder.film_add(conditions).detach().reshape(1, self.prompts, 1, -1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Tiles (N, 3, S, S), normalised, to unit embeddings (N, 512) and maps (N, S, S) in (0, 1]."""
        embedding, activations = self.encode(image)
        return embedding / _length(embedding), harmonic_mean(self.decode(activations).sigmoid())

    def encode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Tiles (N, 3, S, S) to embeddings (N, 512) and activations (N, 1 + P, C) of the extracted blocks."""
        patches = self.patches(image).flatten(2).transpose(1, 2) + self.table
        x = self.pre_norm(torch.cat([self.first.expand(image.shape[0], -1, -1), patches], dim=1))
        found = {}
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.extracted:
                found[index] = x
        return self.projection(self.post_norm(x[:, 0])), [found[index] for index in self.extracted]

    def decode(self, activations: Sequence[Tensor]) -> Tensor:
        """Activations (N, 1 + P, C) to logits (N, J, S, S) of every prompt."""
        count, tokens = activations[0].shape[:2]
        x: Tensor | None = None
        last_first = zip(reversed(activations), self.reduces, self.layers, strict=True)
        for index, (activation, reduce, layer) in enumerate(last_first):
            reduced = reduce(activation).unsqueeze(1)
            x = reduced.expand(-1, self.prompts, -1, -1) if x is None else reduced + x
            if index == self.conditional:
                x = self.film_mul * x + self.film_add
            x = layer(x.reshape(-1, tokens, x.shape[-1])).reshape(-1, self.prompts, tokens, x.shape[-1])
        if x is None:
            raise ValueError("a decoder without layers")
        side = round((tokens - 1) ** 0.5)
        grid = x[:, :, 1:].transpose(2, 3).reshape(-1, x.shape[-1], side, side)
        logits: Tensor = self.last(grid)
        return logits.reshape(count, self.prompts, logits.shape[-2], logits.shape[-1])


class Block(nn.Module):
    """A transformer layer of CLIPSeg, attention spelled as matrix products: of the tower, or of the decoder."""

    def __init__(self, source: Any, *, norm_first: bool) -> None:  # noqa: ANN401 (transformers)
        """Take over an encoder's or decoder's layer; the decoder normalises after each sum."""
        super().__init__()
        self.norm_first = norm_first
        attention, mlp = source.self_attn, source.mlp
        self.heads, self.scale = attention.num_heads, attention.scale
        self.query, self.key, self.value = attention.q_proj, attention.k_proj, attention.v_proj
        self.out = attention.out_proj
        self.norm_1, self.norm_2 = source.layer_norm1, source.layer_norm2
        self.mlp = nn.Sequential(mlp.fc1, mlp.activation_fn, mlp.fc2)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (N, L, C) to tokens (N, L, C)."""
        if self.norm_first:
            x = x + self._attend(self.norm_1(x))
            mixed: Tensor = x + self.mlp(self.norm_2(x))
            return mixed
        x = self.norm_1(x + self._attend(x))
        normed: Tensor = self.norm_2(x + self.mlp(x))
        return normed

    def _attend(self, x: Tensor) -> Tensor:
        query, key, value = (self._split(project(x)) for project in (self.query, self.key, self.value))
        mixed = (query @ key.transpose(-1, -2) * self.scale).softmax(dim=-1) @ value
        merged: Tensor = self.out(mixed.transpose(1, 2).reshape(x.shape))
        return merged

    def _split(self, x: Tensor) -> Tensor:
        """(N, L, C) to (N, heads, L, C / heads)."""
        return x.reshape(x.shape[0], x.shape[1], self.heads, x.shape[2] // self.heads).transpose(1, 2)


class ClipSegModel(NamedTuple):
    """A loaded CLIPSeg."""

    module: Any
    """transformers' ``CLIPSegForImageSegmentation``, in evaluation mode, float32."""
    patch: int
    """Pixels of a patch's side."""
    dim: int
    """Length of an embedding."""

    @torch.no_grad()
    def embed(self, ids: Tensor) -> Tensor:
        """Sentences as token ids (S, 77), padded with 0, to embeddings (S, dim), not normalised.

        The text tower is causal: what follows the longest sentence's end changes nothing and is cut off.
        """
        length = int(ids.argmax(dim=-1).max()) + 1
        found: Tensor = self.module.clip.get_text_features(ids[:, :length]).pooler_output
        return found


def open_clipseg(path: Path) -> ClipSegModel:
    """Read CLIPSeg's weights as transformers saves them; nothing in them is executed.

    Args:
        path: a directory with ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``, or one such weights
            file; without a ``config.json`` beside it, it is taken for one of the published models.

    Raises:
        BadInputError: unreadable, or of another architecture.
        MissingDependencyError: transformers is not installed.
    """
    return load_clipseg(read_weights(path))


def load_clipseg(weights: Weights) -> ClipSegModel:
    """The model of weights that were read; see ``open_clipseg``."""
    try:
        from transformers import CLIPSegConfig, CLIPSegForImageSegmentation
    except ImportError as error:
        raise MissingDependencyError(
            "expected the package transformers, which CLIPSeg's modules come from, found none; install edgevand[export]"
        ) from error

    state, path = weights.state, weights.path
    if CLIPSEG_KEY not in state:
        raise BadInputError(
            f"expected CLIPSeg's weights as transformers saves them in {path}, found no tensor {CLIPSEG_KEY}; give "
            "those of CIDAS/clipseg-rd64-refined or a relative with --weights"
        )
    config = CLIPSegConfig(**(published_config(state) if weights.config is None else weights.config))
    with torch.device("meta"):
        module: Any = CLIPSegForImageSegmentation(config)
    weights.fill(module, "CLIPSeg")
    for part in (module.clip.text_model, module.clip.vision_model):  # buffers that no file holds
        embeddings = part.embeddings
        count = embeddings.position_embedding.weight.shape[0]
        embeddings.position_ids = torch.arange(count).expand((1, -1))
    patch = module.clip.vision_model.embeddings.patch_embedding.kernel_size[0]
    return ClipSegModel(module.eval(), int(patch), int(module.clip.projection_dim))


def published_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The config of a published model by its weights: all have ViT-B/16, the decoders differ."""
    patches = state.get("clip.vision_model.embeddings.patch_embedding.weight")
    table = state.get("clip.vision_model.embeddings.position_embedding.weight")
    vision = {}
    if patches is not None and table is not None:
        patch = patches.shape[-1]
        vision = {"patch_size": patch, "image_size": patch * round((len(table) - 1) ** 0.5)}
    return {
        "vision_config": vision,
        "reduce_dim": state[CLIPSEG_KEY].shape[0],
        "use_complex_transposed_convolution": "decoder.transposed_convolution.0.weight" in state,
    }


def resized(table: Tensor, side: int) -> Tensor:
    """A positional table (1 + g², C) for a grid of ``side`` by ``side``: bicubic, not antialiased; row 0 stays."""
    old = round((len(table) - 1) ** 0.5)
    if old == side:
        return table
    grid = table[1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    larger = functional.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], larger.permute(0, 2, 3, 1).reshape(side * side, -1)])


def harmonic_mean(probabilities: Tensor) -> Tensor:
    """Harmonic mean over the prompts, (N, J, …) to (N, …); probabilities below 1e-6 count as 1e-6."""
    inverse = probabilities.clamp_min(LEAST_PROBABILITY).reciprocal()
    return probabilities.shape[1] / inverse.sum(dim=1)


def _length(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.clamp_min(EPSILON)
