"""``edgevand export``: PyTorch checkpoint to bundle."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgevand.cli.common import require_torch
from edgevand.cli.options import JsonFlag, OutputOption, QuietFlag, SetOption, VerboseFlag
from edgevand.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgevand.bundle import ParityRecord
    from edgevand_export.export import ExportOptions

__all__ = ["export"]


def export(
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="open_clip model name or config path; timm:NAME for a tower without text. Default: ViT-L-14-336.",
        ),
    ] = None,
    for_: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="DEVICE",
            help="Model, image size and precision for jetson-orin-nano, jetson-agx-orin, rtx, cpu or pi5; "
            "what is given beside it goes before it.",
        ),
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(
            metavar="TAG|FILE",
            help="open_clip tag, or local weights: .safetensors, .pt. Default: openai, or the only tag.",
        ),
    ] = None,
    activation: Annotated[
        Literal["auto", "gelu", "quick-gelu"],
        typer.Option(help="Of both towers; auto: what heads or weights were trained with."),
    ] = "auto",
    image_size: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Side in pixels; default: 518 for ViTs of patch 14, else native."),
    ] = None,
    stages: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="1-based blocks; default: those of the heads, or four equal groups."),
    ] = None,
    heads: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Linear heads (.safetensors, or the reference's .pth): they draw the zero-shot map."
        ),
    ] = None,
    objects: Annotated[
        list[str] | None,
        typer.Option("--object", metavar="NAME", help="Object whose text embeddings are stored; repeatable."),
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(metavar="PACK|FILE", help="Prompt pack or prompts file; default: april-gan.")
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"] | None,
        typer.Option(help="Of a second graph beside the fp32 one, with proofs of its own; fp32 (default): none."),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE", help="Frames of good parts: they set the scales of int8 and judge the precision."
        ),
    ] = None,
    format_: Annotated[Literal["onnx"], typer.Option("--format", help="Of the graph.")] = "onnx",
    text_only: Annotated[
        bool, typer.Option("--text-only", help="Write text embeddings of further objects for --bundle, no graph.")
    ] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="With --text-only: the bundle that the text is for; with --method: the one to start from.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="Prepare a bundle for this method (`edgevand methods`): --bundle, else what --model exports.",
        ),
    ] = None,
    settings: SetOption = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option(
            "--weights", metavar="FILE", help="With --method: what `edgevand train` wrote or you bring; repeatable."
        ),
    ] = None,
    output: OutputOption = None,
    json_: JsonFlag = False,
    verbose: VerboseFlag = 0,
    quiet: QuietFlag = False,
) -> None:
    """Turn a CLIP checkpoint into a bundle, proved number by number.

    Without arguments: ViT-L-14-336 with OpenAI's weights at 518 px, below $EDGEVAND_HOME/bundles. The export ends with
    a parity certificate (torch against the graph run by ONNX Runtime) or fails and leaves nothing.
    """
    from edgevand.prompts import DEFAULT_PACK

    if bundle is not None and not text_only and method is None:
        raise UsageError(
            "expected --bundle only together with --text-only or --method, found it alone; give -o for a new bundle"
        )
    if method is None and (settings or weights):
        raise UsageError("expected --method with --set or --weights, found none; name the method they are for")
    wanted = tuple(dict.fromkeys(objects or ()))
    numbers = _stages(stages)
    require_torch("the export")
    if text_only:
        document, sentence = _text(bundle, wanted, output, pretrained, prompts, quiet=quiet)
    elif method is not None and bundle is not None:
        document, sentence = _method(bundle, method, settings or (), weights or (), output, quiet=quiet)
    else:
        from edgevand_export.export import DEFAULT_MODEL, DEFAULT_OBJECT, ExportOptions
        from edgevand_export.presets import find_preset

        preset = find_preset(for_, precision=precision, calibrated=calibrate is not None)
        if preset is not None:
            image_size = image_size or (preset.image_size if model is None else None)  # another model has its own
            model, precision = model or preset.model, precision or preset.precision
            _reporter(quiet=quiet)(f"{model} in {precision} for {for_}, to be run with --backend {preset.backend}")
        options = ExportOptions(
            model=model or DEFAULT_MODEL,
            pretrained=pretrained,
            activation=activation,
            image_size=image_size,
            stages=numbers,
            heads=heads,
            objects=wanted or (DEFAULT_OBJECT,),
            prompts=prompts or DEFAULT_PACK,
            precision=precision or "fp32",
            calibrate=calibrate,
            output=output,
        )
        if method is None:
            document, sentence = _bundle(options, quiet=quiet)
        else:
            document, sentence = _both(options, method, settings or (), weights or (), quiet=quiet)
    print(json.dumps(document, ensure_ascii=False) if json_ else sentence)


def _bundle(options: ExportOptions, *, quiet: bool) -> tuple[dict[str, Any], str]:
    """Export a bundle; the document for machines and the lines for people."""
    from edgevand_export.export import export_bundle

    bundle = export_bundle(options, _reporter(quiet=quiet))
    manifest = bundle.manifest
    document = {
        "bundle": str(bundle.path),
        "hash": bundle.hash,
        "model": {"name": manifest.model.name, "pretrained": manifest.model.pretrained},
        "activation": {"image": manifest.model.image_activation, "text": manifest.model.text_activation},
        "image_size": [manifest.image.height, manifest.image.width],
        "stages": [stage.index for stage in manifest.stages],
        "zero_shot_map": manifest.has_heads,
        "objects": list(bundle.objects),
        "precision": manifest.graph.precision,
        "parity": manifest.parity.model_dump(mode="json"),
        "variants": [variant.model_dump(mode="json") for variant in manifest.variants],
    }
    lines = [f"{bundle.path}", _certificate(manifest.graph.precision, manifest.parity)]
    for variant in manifest.variants:
        gate = variant.gate
        lines.append(_certificate(variant.graph.precision, variant.parity))
        lines.append(
            f"gate of {gate.precision} on {gate.frames} frames: scores moved by at most {gate.moved:.2f} deviations "
            f"(limit {gate.moved_limit:g}), {gate.ranking:.1%} of the order kept (limit {gate.ranking_limit:.0%})"
        )
    if not bundle.objects:
        lines.append("no zero-shot score, because the model has no text tower; enrol frames, then it scores")
    elif not manifest.has_heads:
        lines.append("no zero-shot map, because there was no --heads file; text score and memory bank work")
    return document, "\n".join(lines)


def _method(
    bundle: Path, method: str, settings: Sequence[str], weights: Sequence[Path], output: Path | None, *, quiet: bool
) -> tuple[dict[str, Any], str]:
    """Prepare a bundle for a method; the document for machines and the lines for people."""
    from edgevand.cli.common import open_bundle
    from edgevand_export.methods.preparing import prepare_bundle

    prepared = prepare_bundle(open_bundle(bundle), method, settings, weights, output, _reporter(quiet=quiet))
    own = prepared.whole.methods[-1].graph
    document = {
        "bundle": str(prepared.path),
        "hash": prepared.hash,
        "method": method,
        "settings": prepared.manifest.settings,
        "parity": (own.parity if own else prepared.whole.parity).model_dump(mode="json"),
    }
    if own is None:
        certified = f"{method} scores what the encoder gives, whose certificate is the bundle's"
    else:
        certified = _certificate(own.graph.precision, own.parity)
    return document, f"{prepared.path}\n{certified}"


def _both(
    options: ExportOptions, method: str, settings: Sequence[str], weights: Sequence[Path], *, quiet: bool
) -> tuple[dict[str, Any], str]:
    """Export a model for a moment, and prepare it for a method."""
    import tempfile
    from dataclasses import replace

    from edgevand_runtime.methods.choosing import find_kind

    find_kind(method)
    with tempfile.TemporaryDirectory(prefix="edgevand-") as folder:
        base = Path(folder) / "bundle"
        _bundle(replace(options, output=base), quiet=quiet)
        return _method(base, method, settings, weights, options.output, quiet=quiet)


def _certificate(precision: str, parity: ParityRecord) -> str:
    """One line: how far a graph is from torch."""
    cosines = [output.cosine for output in parity.outputs if output.output.startswith("tokens")]
    worst = f", tokens' cosine at least {min(cosines):.5f}" if cosines and precision != "fp32" else ""
    return (
        f"parity of {precision} with torch on the golden sample: map {parity.map_max_abs:.1e}, "
        f"score {parity.score_max_abs:.1e} (largest differences){worst}"
    )


def _text(
    bundle: Path | None,
    objects: tuple[str, ...],
    output: Path | None,
    pretrained: str | None,
    prompts: str | None,
    *,
    quiet: bool,
) -> tuple[dict[str, Any], str]:
    """Write a text file; the document for machines and the line for people."""
    from edgevand_export.export import export_text

    for option, value in (("--bundle", bundle), ("--object", objects), ("-o", output)):
        if not value:
            raise UsageError(f"expected --bundle, --object and -o with --text-only, found no {option}; give it")
    if bundle is None or output is None:  # for the type checker: refused above
        raise UsageError("expected --bundle and -o with --text-only, found one missing; give both")
    export_text(bundle, objects, output, pretrained=pretrained, prompts=prompts, report=_reporter(quiet=quiet))
    return {"text": str(output), "bundle": str(bundle), "objects": list(objects)}, str(output)


def _reporter(*, quiet: bool) -> Callable[[str], None]:
    """What happens to the lines that say what is being done."""
    return lambda line: None if quiet else print(f"edgevand: {line}", file=sys.stderr)


def _stages(text: str | None) -> tuple[int, ...] | None:
    """``6,12,18,24`` as numbers."""
    if text is None:
        return None
    try:
        return tuple(int(each) for each in text.split(","))
    except ValueError:
        raise UsageError(f"expected --stages as numbers such as 6,12,18,24, found {text!r}; correct it") from None
