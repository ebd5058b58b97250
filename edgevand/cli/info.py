"""``edgevand info``: what a bundle or a bank is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgevand.cli.common import print_json
from edgevand.cli.options import JsonFlag, QuietFlag, VerboseFlag

if TYPE_CHECKING:
    from edgevand.bank import Bank
    from edgevand.bundle import Bundle

__all__ = ["info"]


def info(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="A bundle or a bank; default: the newest bank, else the bundle in use."),
    ] = None,
    *,
    as_json: JsonFlag = False,
    verbose: VerboseFlag = 0,
    quiet: QuietFlag = False,
) -> None:
    """Say what a bundle or bank is.

    Reads and checks it, runs nothing. Hashes and parity are the business of `edgevand verify`.
    """
    from edgevand.bank import Bank
    from edgevand.bundle import Bundle
    from edgevand.home import builtin_bundle, newest_bank, newest_bundle

    chosen = path or newest_bank() or newest_bundle() or builtin_bundle()
    if (chosen / "bank.json").is_file():
        document = _of_bank(Bank.open(chosen))
    else:
        document = _of_bundle(Bundle.open(chosen, verify=False))
    if as_json:
        print_json(document)
    else:
        _show(document)


def _of_bundle(bundle: Bundle) -> dict[str, Any]:
    """A bundle, with what follows from its manifest spelt out."""
    manifest = bundle.manifest
    record = manifest.model_dump(mode="json", exclude={"schema_", "files"})
    return {
        "schema": "edgevand.info/1",
        "kind": "bundle",
        "path": str(bundle.path),
        "hash": bundle.hash,
        "bytes": sum(file.size for file in manifest.files.values()),
        "heads": manifest.has_heads,
        "objects": list(bundle.objects),
        "manifest": record,
    }


def _of_bank(bank: Bank) -> dict[str, Any]:
    """A bank, with what its calibration promises."""
    from edgevand_runtime.calibration import promise

    record = bank.record
    return {
        "schema": "edgevand.info/1",
        "kind": "bank",
        "path": str(bank.path),
        "hash": bank.hash,
        "bytes": sum(file.size for file in record.files.values()),
        "promise": promise(record.calibration),
        "record": record.model_dump(mode="json", exclude={"schema_", "files"}),
    }


def _show(document: dict[str, Any]) -> None:
    """The table for people."""
    from rich.console import Console
    from rich.table import Table

    rows = _bundle_rows(document) if document["kind"] == "bundle" else _bank_rows(document)
    table = Table(title=f"{document['kind']} {document['path']}", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)


def _bundle_rows(document: dict[str, Any]) -> dict[str, str]:
    """Name and value of each line."""
    manifest = document["manifest"]
    model, image, graph, parity = (manifest[name] for name in ("model", "image", "graph", "parity"))
    stages = [
        f"{stage['index']}: {stage['grid'][0]}x{stage['grid'][1]} patches of {stage['width']}"
        + (", head" if stage["head"] else "")
        for stage in manifest["stages"]
    ]
    worst = max(parity["outputs"], key=lambda output: output["max_abs"], default=None)
    return {
        "model": f"{model['name']} ({model['architecture']}), weights {model['pretrained']}",
        "activation": f"image {model['image_activation']}, text {model['text_activation']}",
        "image": f"{image['width']}x{image['height']} pixels",
        "stages": "\n".join(stages),
        "zero-shot map": "yes" if document["heads"] else "no: the bundle has no heads, so maps need a bank (enroll)",
        "objects": ", ".join(document["objects"]) or "none: the bundle has no text",
        "score with a bank": f"{' + '.join(manifest['score']['terms'])}, {manifest['score']['image']} of the map",
        "graph": f"ONNX opset {graph['opset']}, {graph['precision']}, {document['bytes'] / 1e6:.1f} MB in all",
        "parity": f"{parity['reference']} against {parity['engine']}: "
        + ("no output" if worst is None else f"largest difference {worst['max_abs']:.1e} ({worst['output']})"),
        "made": f"{manifest['created']} by {manifest['generator']}",
        "hash": document["hash"],
    }


def _bank_rows(document: dict[str, Any]) -> dict[str, str]:
    """Name and value of each line."""
    record = document["record"]
    calibration, roi = record["calibration"], record["roi"]
    limit = calibration["image"]
    return {
        "source": record["source"],
        "frames": f"{len(record['frames'])} of {record['frame_size'][0]}x{record['frame_size'][1]}, "
        f"{calibration['n']} independent",
        "augmented by": ", ".join(record["augment"]) or "nothing",
        "region of interest": "the whole frame" if roi is None else str(roi),
        "object": record["object"] or "none: the bundle has no text",
        "threshold": "none" if limit is None else f"{limit['threshold']:.4g} on the raw score ({calibration['kind']})",
        "promise": document["promise"],
        "version": str(record["version"]),
        "made": f"{record['created']} by {record['generator']}, {document['bytes'] / 1e6:.1f} MB",
        "bundle": record["bundle"],
        "hash": document["hash"],
    }
