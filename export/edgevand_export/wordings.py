"""What a text tower makes of a wording: each state, and each ensemble's two sides.

Every sentence goes through the tower once, however many ensembles its state is in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from edgevand.errors import BadInputError
from edgevand.prompts import Embedded
from edgevand_export.text import embed_sentences, pool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from edgevand.prompts import Ensemble, Pooling, Wording
    from edgevand_export.text import Tokenizer

__all__ = ["StateEmbeddings", "embed_wording"]


@dataclass(frozen=True, slots=True)
class StateEmbeddings:
    """Sentence embeddings of states, (templates, D) each, not normalised, and the rule that pools them."""

    by_state: dict[str, Tensor]
    rule: Pooling

    def pooled(self, ensemble: Ensemble) -> Embedded:
        """An ensemble's states and sides."""
        sides = [self._side(ensemble.normal), self._side(ensemble.abnormal)]
        return Embedded(
            ensemble,
            self._states(ensemble.normal),
            self._states(ensemble.abnormal),
            torch.stack(sides).numpy(),
        )

    def _side(self, states: Iterable[str]) -> Tensor:
        """(D,) of all sentences of some states."""
        return pool(torch.cat([self.by_state[state] for state in states]), self.rule)

    def _states(self, states: Iterable[str]) -> Any:  # noqa: ANN401 (an array, which mypy takes torch's word for)
        """(states, D), each state's sentences by themselves, of length 1."""
        return torch.stack([pool(self.by_state[state], "normalise-mean-normalise") for state in states]).numpy()


def embed_wording(
    model: Any,  # noqa: ANN401 (open_clip has no types)
    tokenizer: Tokenizer,
    wordings: Iterable[Wording],
    rule: Pooling,
) -> StateEmbeddings:
    """Send all states of one object's wordings through the text tower.

    Args:
        model: open_clip model with a text tower, in evaluation mode.
        tokenizer: sentences to token ids (S, context) int64.
        wordings: of one object and with the same templates.
        rule: of the pack.

    Raises:
        BadInputError: the tower gives numbers that are not finite.
    """
    spoken: dict[str, list[str]] = {}
    for wording in wordings:
        for ensemble in wording.ensembles:
            spoken |= {state: wording.sentences([state]) for state in (*ensemble.normal, *ensemble.abnormal)}
    embeddings = embed_sentences(model, tokenizer([each for sentences in spoken.values() for each in sentences]))
    if not bool(embeddings.isfinite().all()):
        raise BadInputError(
            "expected finite text embeddings, found NaN or infinity; the weights are damaged, bring them again"
        )
    pieces = torch.split(embeddings, [len(sentences) for sentences in spoken.values()])
    return StateEmbeddings(dict(zip(spoken, pieces, strict=True)), rule)
