"""``edgevand prompts``: packs of sentences, a person's own file, and what a text tower makes of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgevand.cli.common import print_json, require_torch, say
from edgevand.cli.options import JsonFlag, OutputOption, QuietFlag, VerboseFlag
from edgevand.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevand.prompts import PromptPack, Separation, Wording

__all__ = ["prompts"]

_SCHEMA = "edgevand.prompts/1"


def prompts(
    action: Annotated[
        Literal["list", "show", "check", "compile"],
        typer.Argument(metavar="list|show|check|compile", help="What to do; list if nothing is said."),
    ] = "list",
    pack: Annotated[
        str | None, typer.Argument(metavar="[PACK|FILE]", help="A pack's name, or a prompts file of your own.")
    ] = None,
    *,
    object_name: Annotated[
        str | None, typer.Option("--object", metavar="NAME", help="With compile: the object, as sentences name it.")
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With compile: whose pairs to add; default: the object's, where it has any."),
    ] = None,
    combine: Annotated[
        Literal["append", "per-group-max"],
        typer.Option(help="All pairs into the two lists, or each group by itself (docs/methods/ustc-loco.md)."),
    ] = "append",
    domain: Annotated[
        Literal["none", "auto", "object", "texture"],
        typer.Option(help="Templates for kinds of pictures, after AnoVL; auto: texture for classes that are one."),
    ] = "none",
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME|FILE",
            help="With compile: an open_clip model whose text tower measures the sentences; repeatable.",
        ),
    ] = None,
    pretrained: Annotated[
        list[str] | None,
        typer.Option(metavar="TAG|FILE", help="Weights of each --model in turn, or of --bundle; repeatable."),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With compile: measure with the model that this bundle was made from."),
    ] = None,
    output: OutputOption = None,
    as_json: JsonFlag = False,
    verbose: VerboseFlag = 0,
    quiet: QuietFlag = False,
) -> None:
    """List the packs, show one, check a prompts file, or compile one for an object and measure it.

    compile prints every sentence by group; with --model or --bundle it prints how far each text tower holds normal and
    abnormal apart, and names the states that cancel each other.
    """
    given: dict[str, object] = {"--object": object_name, "--category": category, "--output": output, "--bundle": bundle}
    given |= {"--model": models, "--pretrained": pretrained}
    extra = [option for option, value in given.items() if value is not None]
    if action != "compile" and extra:
        raise UsageError(f"expected {extra[0]} with compile, found it with {action}; leave it out")
    if (action == "list") != (pack is None):
        wanted = "no pack" if action == "list" else "a pack or a file"
        raise UsageError(f"expected {wanted} after {action}, found {pack or 'none'}; see edgevand prompts --help")
    if action == "list":
        _list(as_json=as_json)
        return
    from edgevand.prompts import load_pack

    opened = load_pack(str(pack))
    if action == "compile":
        if object_name is None:
            raise UsageError(
                "expected --object NAME with compile, found none; name the object as a photo's caption would"
            )
        from edgevand.prompts import word

        wording = word(opened, object_name, category=category, combine=combine, domain=domain)
        for sentence in wording.told:
            say(f"edgevand: {sentence}", quiet=quiet)
        measured = _measured(opened, wording, models or (), pretrained or (), bundle, quiet=quiet or as_json)
        _compiled(opened, wording, measured, output, as_json=as_json, quiet=quiet)
        return
    if as_json:
        print_json({"schema": _SCHEMA, **_summary(opened), **({"pack": opened.to_json()} if action == "show" else {})})
    elif action == "show":
        print("\n".join(_shown(opened)))
    else:
        print(f"{pack}: {_counted(_summary(opened))}")


def _list(*, as_json: bool) -> None:
    """The packs of the package."""
    from edgevand.prompts import load_pack, pack_names

    summaries = [_summary(load_pack(name)) for name in pack_names()]
    if as_json:
        print_json({"schema": _SCHEMA, "packs": summaries})
        return
    for summary in summaries:
        print(f"{summary['name']:<12}{_counted(summary)}")


def _summary(pack: PromptPack) -> dict[str, Any]:
    """Counts of a pack."""
    return {
        "name": pack.name,
        "normal_states": len(pack.normal_states),
        "abnormal_states": len(pack.abnormal_states),
        "templates": len(pack.templates),
        "pooling": pack.pooling,
        "groups": {group: len(pairs) for group, pairs in pack.groups.items()},
        "categories": {
            name: {group: len(pairs) for group, pairs in one.groups.items()} for name, one in pack.categories.items()
        },
        "kinds": {kind: len(templates) for kind, templates in pack.kinds.items()},
    }


def _counted(summary: dict[str, Any]) -> str:
    """Counts of a pack in words."""
    states = f"{summary['normal_states']} normal and {summary['abnormal_states']} abnormal states"
    parts = [f"{states}, {summary['templates']} templates, {summary['pooling']}"]
    if summary["kinds"]:
        parts.append("templates for " + " and ".join(summary["kinds"]))
    if summary["groups"] or summary["categories"]:
        parts.append("groups " + ", ".join(f"{name} {count}" for name, count in summary["groups"].items()))
    if summary["categories"]:
        parts.append("pairs of their own for " + ", ".join(summary["categories"]))
    return "; ".join(parts)


def _shown(pack: PromptPack) -> list[str]:
    """A whole pack for people."""
    lines = [f"{pack.name}: {_counted(_summary(pack))}"]
    plain = {"normal states": pack.normal_states, "abnormal states": pack.abnormal_states, "templates": pack.templates}
    plain |= {f"templates for {kind}": templates for kind, templates in pack.kinds.items()}
    for title, phrases in plain.items():
        lines += ["", title, *(f"  {phrase}" for phrase in phrases)]
    grouped = {"every object": pack.groups} | {
        f"{name} ({one.object_name})": one.groups for name, one in pack.categories.items()
    }
    for owner, groups in grouped.items():
        for group, pairs in groups.items():
            lines += ["", f"{group}, {owner}", *(f"  {pair.normal}  |  {pair.abnormal}" for pair in pairs)]
    return lines


def _measured(
    pack: PromptPack,
    wording: Wording,
    models: Sequence[str],
    pretrained: Sequence[str],
    bundle: Path | None,
    *,
    quiet: bool,
) -> list[tuple[str, Separation]]:
    """Separation by encoder: that of each model and of the bundle."""
    if not models and bundle is None:
        if pretrained:
            raise UsageError("expected --model or --bundle with --pretrained, found neither; name the model")
        return []
    wanted = len(models) + (bundle is not None)
    if pretrained and len(pretrained) != wanted:
        raise UsageError(
            f"expected a --pretrained for each --model and for --bundle, {wanted} in turn, found {len(pretrained)}; "
            "give them all or none"
        )
    require_torch("measuring sentences")
    from edgevand.cli.common import open_bundle
    from edgevand.prompts import separate
    from edgevand_export.export import bundle_model, named_model
    from edgevand_export.wordings import embed_wording

    found = []
    for place in range(wanted):
        weights = pretrained[place] if pretrained else None
        if place < len(models):
            called = " ".join(filter(None, (models[place], weights)))
            clip, tokenizer = named_model(models[place], weights, lambda line: say(line, quiet=quiet))
        else:
            opened = open_bundle(bundle)
            called = opened.manifest.model.name
            clip, tokenizer = bundle_model(opened, weights, lambda line: say(line, quiet=quiet))
        states = embed_wording(clip, tokenizer, [wording], pack.pooling)
        found.append((called, separate([states.pooled(ensemble) for ensemble in wording.ensembles])))
    return found


def _compiled(
    pack: PromptPack,
    wording: Wording,
    measured: Sequence[tuple[str, Separation]],
    output: Path | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Print, or write, the sentences and what was measured."""
    sentences = {
        one.name: {"normal": wording.sentences(one.normal), "abnormal": wording.sentences(one.abnormal)}
        for one in wording.ensembles
    }
    document = {
        "schema": _SCHEMA,
        "pack": pack.name,
        "object_name": wording.object_name,
        "category": wording.category,
        "pooling": pack.pooling,
        "ensembles": sentences,
        "encoders": {name: asdict(separation) for name, separation in measured},
    }
    if output is not None:
        from edgevand.staging import write_atomic

        write_atomic(output, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
        say(f"edgevand: sentences written to {output}", quiet=quiet)
    if as_json:
        print_json(document)
        return
    if output is None and not measured:
        for name, sides in sentences.items():
            for side, spoken in sides.items():
                print(f"{name}, {side}: {len(spoken)} sentences")
                print("\n".join(f"  {sentence}" for sentence in spoken))
    for name, separation in measured:
        _table(name, wording, separation)


def _table(encoder: str, wording: Wording, separation: Separation) -> None:
    """What one encoder makes of the sentences."""
    print(f"{encoder}: text separation for {wording.object_name!r}")
    print(f"  {'group':<14}{'normal':>8}{'abnormal':>10}{'cosine':>9}{'swing':>8}{'agreement':>11}")
    for one in separation.groups:
        agreement = "-" if one.agreement is None else f"{one.agreement:.2f}"
        print(f"  {one.name:<14}{one.normal:>8}{one.abnormal:>10}{one.cosine:>9.3f}{one.swing:>8.1f}{agreement:>11}")
    for fault in separation.faults:
        print(f"  - {fault.sentence}")
    if not separation.faults:
        print("  no states that cancel each other")
