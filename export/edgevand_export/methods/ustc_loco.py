"""Text of ustc-loco: the groups of a prompt pack through the text tower, for every object of a bundle (methods.md (c)).

No graph: the encoder's own is used. What is written is told in ``edgevand_runtime.methods.ustc_loco``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand.bundle import MethodRecord
from edgevand.errors import UsageError
from edgevand.prompts import Embedded, load_pack, word
from edgevand.tensors import write_tensors
from edgevand_export.export import bundle_model
from edgevand_export.wordings import embed_wording
from edgevand_runtime.methods.ustc_loco import Table, UstcLocoSettings, pack_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand.bundle import Bundle
    from edgevand.prompts import PromptPack
    from edgevand_export.text import Tokenizer

__all__ = ["export_ustc_loco", "group_texts"]

_FILE = "ustc-loco.safetensors"
_GENERIC = ""
_SHOWN = 5


def export_ustc_loco(
    base: Bundle,
    settings: dict[str, Any],
    weights: tuple[Path, ...],
    folder: Path,
    report: Callable[[str], None],
    *,
    objects: Sequence[str] | None = None,
) -> MethodRecord:
    """Prepare a bundle for ustc-loco; see ``methods.Exporter``.

    Args:
        base: the bundle to start from, with text.
        settings: the method's options.
        weights: the checkpoint that ``base`` was made from; none where it is found by its name.
        folder: staging directory of the new bundle.
        report: called with a line for people when a step begins.
        objects: whose text is made; None for those of ``base`` and the pack's categories.

    Raises:
        UsageError: several weights, or a bundle whose encoder has no text tower.
        BadInputError: weights of another model, or a prompts file that cannot be used.
        UnavailableError: the weights are not on this machine.
    """
    options = UstcLocoSettings.model_validate(settings)
    if len(weights) > 1:
        raise UsageError(
            f"expected the one checkpoint that {base.path} was made from as --weights, found {len(weights)}; give one"
        )
    if base.whole.text is None:
        raise UsageError(
            f"expected a bundle with text for ustc-loco, found {base.path} without; export it from a CLIP checkpoint"
        )
    pack = load_pack(options.pack)
    model, tokenizer = bundle_model(base, str(weights[0]) if weights else None, report)
    named = tuple(dict.fromkeys(objects or (*base.objects, *pack.categories)))
    generic = [name for name in named if word(pack, name).category is None]
    report(f"text of {len(named)} objects with the prompts {pack.name}")
    if generic:
        shown = ", ".join(generic[:_SHOWN]) + (f" and {len(generic) - _SHOWN} more" if generic[_SHOWN:] else "")
        report(f"the pack has no pairs of their own for {shown}: the generic ones are used")
    tensors = group_texts(model, tokenizer, pack, options, named)
    write_tensors(folder / _FILE, tensors)
    unusual = options.model_copy(update={"pack": pack.name}).model_dump(mode="json", exclude_defaults=True)
    return MethodRecord(name="ustc-loco", settings=unusual, tensors=_FILE)


def group_texts(
    model: Any,  # noqa: ANN401 (open_clip has no types)
    tokenizer: Tokenizer,
    pack: PromptPack,
    options: UstcLocoSettings,
    objects: Sequence[str],
) -> dict[str, NDArray[Any]]:
    """Every object's text, by the names that the runtime knows.

    Args:
        model: open_clip model with a text tower, in evaluation mode.
        tokenizer: sentences to token ids (S, context) int64.
        pack: with groups.
        options: of the method.
        objects: names.

    Raises:
        UsageError: a pack without groups.
        BadInputError: the tower gives numbers that are not finite.
    """
    tensors: dict[str, NDArray[Any]] = {}
    of_objects, wordings = {}, {}
    for name in objects:
        whole = word(pack, name, domain=options.domain)
        grouped = word(pack, name, combine="per-group-max", domain=options.domain)
        states = embed_wording(model, tokenizer, [whole], pack.pooling)  # which speaks every state of the groups
        groups = [states.pooled(ensemble) for ensemble in grouped.ensembles]
        sides = [states.pooled(whole.ensembles[0]).sides, *(group.sides for group in groups)]
        tensors[f"sides:{name}"] = np.stack(sides).astype(np.float32)
        tensors[f"directions:{name}"] = np.concatenate([_directions(group) for group in groups]).astype(np.float16)
        of_objects[name] = grouped.category or _GENERIC
        wordings[of_objects[name]] = tuple(
            (one.name, tuple(_bare(state) for state in one.abnormal)) for one in grouped.ensembles
        )
    table = Table(pack=pack.name, domain=options.domain, objects=of_objects, wordings=wordings)
    return {**tensors, "words": pack_json(table)}


def _directions(group: Embedded) -> NDArray[np.floating[Any]]:
    """(abnormal states, D): from the normal half of its pair to each abnormal state, or from the normal side."""
    start = group.normal if group.ensemble.pairs else group.sides[:1]
    return np.asarray(group.abnormal - start)


def _bare(state: str) -> str:
    """A state without its object, for a sentence: ``{} with a missing pin`` is ``a missing pin``."""
    return " ".join(state.replace("{}", " ").split()).removeprefix("with ")
