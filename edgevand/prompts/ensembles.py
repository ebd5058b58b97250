"""Which sentences speak for normal and for abnormal, once a pack has groups (methods.md (c)).

``append``: all pairs join the plain states, and there is one ensemble, ``all``; this is what the report of
USTC-IAT-United describes. ``per-group-max``: the plain states (``structural``) and each group are ensembles of their
own, each is pooled by itself and says its own abnormal probability, and the highest counts, so that a rare mistake is
not averaged away and the group that fired is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgevand.errors import UsageError
from edgevand.prompts.packs import BLANK, STRUCTURAL, Pair, load_pack

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgevand.prompts.packs import Category, PromptPack

__all__ = ["ALL", "Combine", "Domain", "Ensemble", "Wording", "word"]

Combine = Literal["append", "per-group-max"]
Domain = Literal["none", "auto", "object", "texture"]

ALL = "all"
"""Name of the one ensemble of ``append``."""

_DOMAIN_PACK = "anovl"


@dataclass(frozen=True, slots=True)
class Ensemble:
    """States that become one normal and one abnormal vector.

    Attributes:
        name: ``all``, ``structural`` or a group's name.
        normal: states with one ``{}`` for the object.
        abnormal: likewise.
        pairs: those among them that belong together.
    """

    name: str
    normal: tuple[str, ...]
    abnormal: tuple[str, ...]
    pairs: tuple[Pair, ...] = ()


@dataclass(frozen=True, slots=True)
class Wording:
    """What is said of one object.

    Attributes:
        object_name: as sentences call it: the category's own name for it, else as given.
        category: whose pairs are among the states; None for the generic ones alone.
        templates: each with one ``{}`` for the state.
        ensembles: one for ``append``, else the plain states and each group.
        told: what a person may want to know of the choices made, in sentences.
    """

    object_name: str
    category: str | None
    templates: tuple[str, ...]
    ensembles: tuple[Ensemble, ...]
    told: tuple[str, ...] = ()

    def sentences(self, states: Iterable[str]) -> list[str]:
        """For each state, for each template: the sentence about the object."""
        spoken = [state.replace(BLANK, self.object_name) for state in states]
        return [template.replace(BLANK, state) for state in spoken for template in self.templates]


def word(
    pack: PromptPack,
    name: str,
    *,
    category: str | None = None,
    combine: Combine = "append",
    domain: Domain = "none",
) -> Wording:
    """Word a pack for one object.

    Args:
        pack: states, templates and groups.
        name: the object; a category's name, or what the category calls its object, finds the category's pairs.
        category: whose pairs to add to the generic ones; None finds it by ``name``, and leaves it at the generic ones
            where there is none, which ``told`` says.
        combine: see the top of this module.
        domain: templates for kinds of pictures: the pack's own in place of its templates or, where it has none, those
            of ``anovl`` besides its templates; ``auto``: texture for the classes that the pack calls so, object for
            every other.

    Raises:
        UsageError: an empty name, a category or a kind that the pack does not have, or no groups to keep apart.
    """
    if not name.strip():
        raise UsageError("expected the name of an object, found an empty one; change --object")
    found, told = _category(pack, name, category)
    chosen = pack.categories[found] if found is not None else None
    called = chosen.object_name if chosen is not None else name
    grouped = _grouped(pack, chosen)
    if combine == "per-group-max" and not grouped:
        raise UsageError(
            f"expected a pack with groups for --combine per-group-max, found {pack.name} without any; choose the pack "
            "loco, or add groups under logical (docs/commands/prompts.md)"
        )
    every = tuple(pair for pairs in grouped.values() for pair in pairs)
    ensembles = [_ensemble(ALL, every, pack)]
    if combine == "per-group-max":
        ensembles = [_ensemble(STRUCTURAL, (), pack), *(_ensemble(name, pairs) for name, pairs in grouped.items())]
    return Wording(called, found, _templates(pack, domain, name), tuple(ensembles), told)


def _category(pack: PromptPack, name: str, wanted: str | None) -> tuple[str | None, tuple[str, ...]]:
    """The category whose pairs are added, and what to say of it."""
    if wanted is not None:
        if wanted not in pack.categories:
            known = ", ".join(pack.categories) or "none"
            raise UsageError(
                f"expected a category that the pack {pack.name} has pairs for ({known}), found {wanted!r}; leave "
                "--category out for the generic pairs, or add pairs for it to a file of your own"
            )
        return wanted, ()
    for category, record in pack.categories.items():
        if name in {category, record.object_name}:
            return category, ()
    if not pack.groups:
        return None, ()
    return None, (f"the pack {pack.name} has no pairs for {name!r} alone; the generic ones are used",)


def _grouped(pack: PromptPack, category: Category | None) -> dict[str, tuple[Pair, ...]]:
    """Generic pairs and the category's by group."""
    own = {} if category is None else category.groups
    return {name: pack.groups.get(name, ()) + own.get(name, ()) for name in dict.fromkeys((*pack.groups, *own))}


def _ensemble(name: str, pairs: tuple[Pair, ...], plain: PromptPack | None = None) -> Ensemble:
    """Pairs, after the plain states of a pack where it is given."""
    normal, abnormal = ((), ()) if plain is None else (plain.normal_states, plain.abnormal_states)
    return Ensemble(
        name,
        (*normal, *(pair.normal for pair in pairs)),
        (*abnormal, *(pair.abnormal for pair in pairs)),
        pairs,
    )


def _templates(pack: PromptPack, domain: Domain, name: str) -> tuple[str, ...]:
    """The templates of a domain."""
    if domain == "none":
        return pack.templates
    kinds = pack if pack.kinds else load_pack(_DOMAIN_PACK)
    kind = ("texture" if name in kinds.textures else "object") if domain == "auto" else domain
    if kinds is not pack:
        return (*pack.templates, *kinds.kinds[kind])
    if kind not in pack.kinds:
        raise UsageError(
            f"expected --domain {' or '.join(pack.kinds)} with the pack {pack.name}, found {kind}; choose one of them"
        )
    return pack.kinds[kind]
