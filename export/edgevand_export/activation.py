"""Which GELU a model runs with (methods: the activation trap).

OpenAI trained with QuickGELU, x * sigmoid(1.702 x). The reference's factory, when the image size is not the native
one, builds the network from a config that does not say so and runs both towers with plain GELU: its heads, trained at
518 px, belong to plain GELU. open_clip's own default has changed over the years. So nothing here relies on a default:
the choice is made once, for both towers, and recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from edgevand.errors import UsageError
from edgevand_export.jit_archive import is_jit_archive

if TYPE_CHECKING:
    from edgevand_export.heads import Heads
    from edgevand_export.weights import ModelFiles

__all__ = ["Gelu", "choose_activation", "from_openai", "trained_activation"]

Gelu = Literal["gelu", "quick-gelu"]


def choose_activation(
    asked: Literal["auto", "gelu", "quick-gelu"],
    heads: Heads | None,
    *,
    trained: Gelu,
    openai: bool,
    resized: bool,
) -> Gelu:
    """The activation of both towers.

    Args:
        asked: what the person asked for.
        heads: the heads, or None.
        trained: what the weights were trained with, as far as their tag or config says.
        openai: whether the weights are OpenAI's.
        resized: whether the image size is not the model's native one.

    Raises:
        UsageError: heads that record another activation than was asked for.
    """
    recorded = heads.activation if heads is not None else None
    if asked != "auto":
        if recorded not in (None, "none", asked):
            raise UsageError(
                f"expected --activation {recorded}, which the heads were trained with, found {asked}; "
                "leave --activation out or take other heads"
            )
        return asked
    if recorded in ("gelu", "quick-gelu"):
        return recorded
    if heads is not None and openai:  # heads of the reference, which say nothing
        return "gelu" if resized else "quick-gelu"
    return trained


def from_openai(files: ModelFiles) -> bool:
    """Whether weights are OpenAI's: by their tag, or as they lie in a TorchScript archive such as OpenAI published."""
    return files.pretrained == "openai" or is_jit_archive(files.weights)


def trained_activation(files: ModelFiles) -> Gelu:
    """What weights were trained with: OpenAI's with QuickGELU, others as their tag or the model's config says."""
    quick = from_openai(files) or files.tag.get("quick_gelu") or files.config.get("quick_gelu")
    return "quick-gelu" if quick else "gelu"
