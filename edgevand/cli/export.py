"""``edgevand export``: PyTorch checkpoint to bundle."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgevand.cli.common import require_torch
from edgevand.cli.options import JsonFlag, OutputOption, QuietFlag, VerboseFlag
from edgevand.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgevand.bundle import ParityRecord
    from edgevand_export.export import ExportOptions

__all__ = ["export"]


def export(
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="open_clip model name, or the path of an open_clip model config. Default: ViT-L-14-336.",
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
        Path | None, typer.Option(metavar="DIR", help="With --text-only: the bundle that the text is for.")
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

    if bundle is not None and not text_only:
        raise UsageError("expected --bundle only together with --text-only, found it alone; give -o for a new bundle")
    wanted = tuple(dict.fromkeys(objects or ()))
    numbers = _stages(stages)
    require_torch("the export")
    if text_only:
        document, sentence = _text(bundle, wanted, output, pretrained, prompts, quiet=quiet)
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
        document, sentence = _bundle(options, quiet=quiet)
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
    if not manifest.has_heads:
        lines.append("no zero-shot map, because there was no --heads file; text score and memory bank work")
    return document, "\n".join(lines)


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
