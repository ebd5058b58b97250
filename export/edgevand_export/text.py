"""Text embeddings of objects: the sentences of a prompt pack through the text tower, pooled to one vector a side.

The text tower is never exported: embeddings are data. The pooling rule is the pack's own (methods of the reports);
``normalise-mean-normalise`` is APRIL-GAN's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from edgevand.errors import BadInputError
from edgevand.prompts import compile_prompts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgevand.prompts import Pooling, PromptPack

    Tokenizer = Callable[[list[str]], Tensor]

__all__ = ["embed_objects", "embed_sentences", "pool"]

BATCH = 64


def embed_objects(
    model: Any,  # noqa: ANN401 (open_clip has no types)
    tokenizer: Tokenizer,
    pack: PromptPack,
    objects: Sequence[str],
) -> dict[str, NDArray[np.float32]]:
    """Text embeddings of each object.

    Args:
        model: open_clip model with a text tower, in evaluation mode.
        tokenizer: sentences to token ids (S, context) int64.
        pack: states, templates and pooling rule.
        objects: names as written.

    Returns:
        Object to (2, D) float32, rows (normal, abnormal).

    Raises:
        BadInputError: the tower gives numbers that are not finite.
    """
    result = {}
    for name in objects:
        sides = [pool(embed_sentences(model, tokenizer(side)), pack.pooling) for side in compile_prompts(pack, name)]
        embedding = torch.stack(sides)
        if not bool(embedding.isfinite().all()):
            raise BadInputError(
                f"expected finite text embeddings for {name!r}, found NaN or infinity; the weights are damaged, "
                "bring them again"
            )
        result[name] = embedding.numpy()
    return result


@torch.no_grad()
def embed_sentences(model: Any, ids: Tensor) -> Tensor:  # noqa: ANN401
    """Sentence embeddings, not normalised, as ``model.encode_text`` gives them.

    A causal text tower never looks past the end token, so what follows the longest sentence's end is left out:
    the prompts have 10 to 20 tokens of the 77.

    Args:
        model: open_clip model.
        ids: (S, context) int64 token ids.

    Returns:
        (S, D) float32.
    """
    encode = _causal(model, ids) if _is_causal(model) else model.encode_text
    return torch.cat([encode(batch).float() for batch in torch.split(ids, BATCH)])


def pool(embeddings: Tensor, rule: Pooling) -> Tensor:
    """Make one vector of a side's sentence embeddings.

    Args:
        embeddings: (S, D), not normalised.
        rule: of the pack.

    Returns:
        (D,). Of unit length but for ``mean-similarity``, where the length carries the sentences' agreement.
    """
    if rule == "mean-raw-normalise":
        return _unit(embeddings.mean(dim=0))
    mean = _unit(embeddings).mean(dim=0)
    return mean if rule == "mean-similarity" else _unit(mean)


def _unit(x: Tensor) -> Tensor:
    """Rows of length 1."""
    return torch.nn.functional.normalize(x, dim=-1)


def _is_causal(model: Any) -> bool:  # noqa: ANN401
    """Whether the text tower is open_clip's own, causal, and reads the feature at the end token (= argmax)."""
    tower = getattr(model, "text", model)
    pool_type = getattr(tower, "text_pool_type", None) or getattr(tower, "pool_type", None)
    return (
        type(tower).__name__ in {"CLIP", "TextTransformer"}
        and pool_type == "argmax"
        and tower.attn_mask is not None
        and getattr(tower, "cls_emb", None) is None
    )


def _causal(model: Any, ids: Tensor) -> Callable[[Tensor], Tensor]:  # noqa: ANN401
    """The text tower, cut off after the longest sentence."""
    tower = getattr(model, "text", model)
    length = int(ids.argmax(dim=-1).max()) + 1
    projection = tower.text_projection

    def encode(batch: Tensor) -> Tensor:
        kept = batch[:, :length]
        x = tower.token_embedding(kept) + tower.positional_embedding[:length]
        x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:length, :length]))
        ends: Tensor = x[torch.arange(len(kept)), kept.argmax(dim=-1)]
        if projection is None:
            return ends
        projected: Tensor = projection(ends) if isinstance(projection, torch.nn.Module) else ends @ projection
        return projected

    return encode
