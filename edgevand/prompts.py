"""Prompt packs: the sentences that tell normal from abnormal.

A pack has states (``flawless {}``), templates (``a photo of a {}.``) and the rule by which the embeddings of one
side become one vector. A sentence is ``template(state(object))``, the object's name as written. The packs of
``prompts.json``: ``april-gan`` (arXiv 2305.17382), ``winclip``, ``anovl``, ``vvv``, ``loco``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast, get_args

from edgevand.errors import BadInputError, UsageError

__all__ = ["DEFAULT_PACK", "Pooling", "PromptPack", "compile_prompts", "load_pack", "pack_names"]

DEFAULT_PACK = "april-gan"
BLANK = "{}"

Pooling = Literal["normalise-mean-normalise", "mean-raw-normalise", "mean-similarity"]


@dataclass(frozen=True)
class PromptPack:
    """One pack.

    Attributes:
        name: its name; for a file, the file's stem.
        normal_states: each with one ``{}`` for the object.
        abnormal_states: likewise.
        templates: each with one ``{}`` for the state.
        pooling: how the embeddings of one side become one vector.
    """

    name: str
    normal_states: tuple[str, ...]
    abnormal_states: tuple[str, ...]
    templates: tuple[str, ...]
    pooling: Pooling = "normalise-mean-normalise"

    def to_json(self) -> dict[str, Any]:
        """The pack as a prompts file: what ``load_pack`` reads again."""
        return {
            "name": self.name,
            "normal_states": list(self.normal_states),
            "abnormal_states": list(self.abnormal_states),
            "templates": list(self.templates),
            "pooling": {"rule": self.pooling},
        }


def pack_names() -> tuple[str, ...]:
    """Names of the packs that come with edgevand."""
    return tuple(_shipped())


def load_pack(name: str | Path) -> PromptPack:
    """A pack by its name, or from a JSON file of the same form.

    Raises:
        UsageError: neither a pack's name nor a file.
        BadInputError: a file that is no prompt pack: not JSON, no state, a template without ``{}``.
    """
    packs = _shipped()
    if str(name) in packs:
        return _checked(packs[str(name)], str(name), f"pack {name}")
    path = Path(name)
    if not path.is_file():
        raise UsageError(
            f"expected a prompt pack ({', '.join(packs)}) or a prompts file, found {str(name)!r}; change --prompts"
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(f"expected JSON in the prompts file {path}, found {error}; correct the file") from error
    if not isinstance(record, dict):
        raise BadInputError(
            f"expected an object with normal_states, abnormal_states and templates in {path}, "
            f"found a {type(record).__name__}; correct the file"
        )
    return _checked(record, str(record.get("name", path.stem)), str(path))


def compile_prompts(pack: PromptPack, name: str) -> tuple[list[str], list[str]]:
    """All sentences for one object: (normal, abnormal), for each state, for each template.

    Args:
        pack: the pack.
        name: the object's name, used as written.

    Raises:
        UsageError: an empty name.
    """
    if not name.strip():
        raise UsageError("expected the name of an object, found an empty one; change --object")

    def sentences(states: tuple[str, ...]) -> list[str]:
        return [template.replace(BLANK, state.replace(BLANK, name)) for state in states for template in pack.templates]

    return sentences(pack.normal_states), sentences(pack.abnormal_states)


def _shipped() -> dict[str, Any]:
    """The packs of ``prompts.json``."""
    packs: dict[str, Any] = json.loads(files("edgevand").joinpath("prompts.json").read_text(encoding="utf-8"))
    return packs


def _checked(record: dict[str, Any], name: str, where: str) -> PromptPack:
    """A pack from its JSON, or one sentence on what is wrong with it."""
    pooling = record.get("pooling", {"rule": "normalise-mean-normalise"})
    rule = pooling.get("rule") if isinstance(pooling, dict) else pooling
    if rule not in get_args(Pooling):
        raise BadInputError(
            f"expected the pooling rule {', '.join(get_args(Pooling))} in {where}, found {rule!r}; correct the file"
        )
    normal, abnormal, templates = (
        _phrases(record, key, where) for key in ("normal_states", "abnormal_states", "templates")
    )
    return PromptPack(name, normal, abnormal, templates, cast("Pooling", rule))


def _phrases(record: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    """One list of a pack: not empty, each phrase with exactly one blank."""
    phrases = record.get(key)
    if not isinstance(phrases, list) or not phrases:
        raise BadInputError(
            f"expected a list of {key} in {where}, found {phrases!r}; add at least one phrase with {{}}"
        )
    for phrase in phrases:
        if not isinstance(phrase, str) or phrase.count(BLANK) != 1:
            raise BadInputError(
                f"expected exactly one {{}} in each of {key} of {where}, found {phrase!r}; correct the phrase"
            )
    return tuple(phrases)
