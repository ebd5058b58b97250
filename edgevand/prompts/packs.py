"""Packs as files: the shipped ``prompts.json``, and a person's own of the same form.

::

    {"normal_states": ["flawless {}"], "abnormal_states": ["damaged {}"], "templates": ["a photo of a {}."],
     "pooling": {"rule": "normalise-mean-normalise"},
     "templates_by_kind": {"texture": ["a surface picture of the {}"]}, "texture_classes": ["carpet"],
     "logical": {"generic": {"loss": [{"normal": "complete {}", "abnormal": "incomplete {}"}]},
                 "categories": {"tray": {"object_name": "tea tray", "loss": [{"normal": …, "abnormal": …}]}}}}

The first three are needed. Other keys are for people and are not read.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from edgevand.errors import BadInputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BLANK",
    "DEFAULT_PACK",
    "STRUCTURAL",
    "Category",
    "Groups",
    "Pair",
    "Pooling",
    "PromptPack",
    "compile_prompts",
    "load_pack",
    "pack_names",
]

DEFAULT_PACK = "april-gan"
BLANK = "{}"
STRUCTURAL = "structural"
"""What the plain states are called beside a pack's groups."""

Pooling = Literal["normalise-mean-normalise", "mean-raw-normalise", "mean-similarity"]

_NO_GROUPS = {"object_name", "constraints"}
"""Keys of a category that are no groups."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A state as it should be and the same state gone wrong, each with one ``{}`` for the object."""

    normal: str
    abnormal: str


Groups = dict[str, tuple[Pair, ...]]
"""Pairs by the kind of mistake."""


@dataclass(frozen=True, slots=True)
class Category:
    """What a pack knows of one category.

    Attributes:
        object_name: what the category's object is called in sentences.
        groups: pairs for this category alone.
    """

    object_name: str
    groups: Groups


@dataclass(frozen=True)
class PromptPack:
    """One pack.

    Attributes:
        name: its name; for a file, the file's stem.
        normal_states: each with one ``{}`` for the object.
        abnormal_states: likewise.
        templates: each with one ``{}`` for the state.
        pooling: how the embeddings of one side become one vector.
        groups: pairs that hold for every object.
        categories: pairs for single categories, by name.
        kinds: templates for kinds of pictures (``object``, ``texture``) in place of ``templates``.
        textures: objects that are of the kind ``texture``.
    """

    name: str
    normal_states: tuple[str, ...]
    abnormal_states: tuple[str, ...]
    templates: tuple[str, ...]
    pooling: Pooling = "normalise-mean-normalise"
    groups: Groups = field(default_factory=dict)
    categories: Mapping[str, Category] = field(default_factory=dict)
    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    textures: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The pack as a prompts file: what ``load_pack`` reads again."""
        document: dict[str, Any] = {
            "name": self.name,
            "normal_states": list(self.normal_states),
            "abnormal_states": list(self.abnormal_states),
            "templates": list(self.templates),
            "pooling": {"rule": self.pooling},
        }
        if self.kinds:
            document["templates_by_kind"] = {kind: list(each) for kind, each in self.kinds.items()}
            document["texture_classes"] = list(self.textures)
        if self.groups or self.categories:
            document["logical"] = {
                "generic": _listed(self.groups),
                "categories": {
                    name: {"object_name": one.object_name, **_listed(one.groups)}
                    for name, one in self.categories.items()
                },
            }
        return document


def pack_names() -> tuple[str, ...]:
    """Names of the packs that come with edgevand."""
    return tuple(_shipped())


def load_pack(name: str | Path) -> PromptPack:
    """A pack by its name, or from a JSON file of the same form.

    Raises:
        UsageError: neither a pack's name nor a file.
        BadInputError: a file that is no prompt pack: not JSON, no state, a template without ``{}``, a group of only
            normal states, a state that is normal and abnormal.
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
    """All sentences of the plain states for one object: (normal, abnormal), for each state, for each template.

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


def _listed(groups: Groups) -> dict[str, list[dict[str, str]]]:
    """Groups as JSON."""
    return {group: [asdict(pair) for pair in pairs] for group, pairs in groups.items()}


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
    both = next((state for state in normal if state in abnormal), None)
    if both is not None:
        raise BadInputError(f"expected each state on one side in {where}, found {both!r} on both; correct the file")
    kinds = _object(record, "templates_by_kind", where)
    logical = _object(record, "logical", where)
    generic = _groups(_object(logical, "generic", where), where)
    return PromptPack(
        name,
        normal,
        abnormal,
        templates,
        cast("Pooling", rule),
        generic,
        {each: _category(each, _object(logical, "categories", where), where) for each in logical.get("categories", {})},
        {kind: _phrases(kinds, kind, where) for kind in kinds},
        tuple(map(str, record.get("texture_classes", ()))),
    )


def _category(name: str, categories: dict[str, Any], where: str) -> Category:
    """One category of a pack."""
    record = _object(categories, name, where)
    called = record.get("object_name", name)
    if not isinstance(called, str) or not called.strip():
        raise BadInputError(f"expected a name in object_name of {name} in {where}, found {called!r}; correct the file")
    groups = {group: pairs for group, pairs in record.items() if group not in _NO_GROUPS}
    return Category(called, _groups(groups, f"{name} of {where}"))


def _groups(record: dict[str, Any], where: str) -> Groups:
    """Groups of pairs."""
    if STRUCTURAL in record:
        raise BadInputError(
            f"expected another name for the group {STRUCTURAL} in {where}, which is what the plain states are called; "
            "rename it"
        )
    return {group: _pairs(group, pairs, where) for group, pairs in record.items()}


def _pairs(group: str, record: object, where: str) -> tuple[Pair, ...]:
    """The pairs of one group: each phrase with exactly one blank, no side empty."""
    if not isinstance(record, list) or not record or not all(isinstance(pair, dict) for pair in record):
        raise BadInputError(
            f'expected a list of pairs {{"normal": …, "abnormal": …}} in the group {group} of {where}, '
            f"found {str(record)[:80]}; correct the file"
        )
    for side, other in (("abnormal", "normal"), ("normal", "abnormal")):
        if not any(pair.get(side) for pair in record):
            raise BadInputError(
                f"expected normal and abnormal states in the group {group} of {where}, found only {other} ones, which "
                f"tell nothing apart; add the {side} half of each pair"
            )
    for pair in record:
        for side in ("normal", "abnormal"):
            phrase = pair.get(side)
            if not isinstance(phrase, str) or phrase.count(BLANK) != 1:
                raise BadInputError(
                    f"expected a phrase with exactly one {{}} as {side} in each pair of the group {group} of {where}, "
                    f"found {phrase!r}; correct the pair"
                )
        if pair["normal"] == pair["abnormal"]:
            raise BadInputError(
                f"expected two phrases in each pair of the group {group} of {where}, found {pair['normal']!r} twice; "
                "correct the pair"
            )
    return tuple(Pair(pair["normal"], pair["abnormal"]) for pair in record)


def _object(record: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    """A part of a pack that is an object of JSON; empty where it is absent."""
    part = record.get(key, {})
    if not isinstance(part, dict):
        raise BadInputError(f"expected an object as {key} in {where}, found a {type(part).__name__}; correct the file")
    return part


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
