"""``edgevand info``: what a bundle, a bank or an engine is."""

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
        typer.Argument(
            metavar="[PATH]", help="A bundle, a bank or an engine; default: the newest bank, else the bundle in use."
        ),
    ] = None,
    *,
    as_json: JsonFlag = False,
    verbose: VerboseFlag = 0,
    quiet: QuietFlag = False,
) -> None:
    """Say what a bundle, bank or engine is.

    Reads and checks it, runs nothing. Hashes and parity are the business of `edgevand verify`.
    """
    from edgevand.bank import Bank
    from edgevand.bundle import Bundle
    from edgevand.home import builtin_bundle, newest_bank, newest_bundle

    chosen = path or newest_bank() or newest_bundle() or builtin_bundle()
    if chosen.is_file():
        document = _of_engine(chosen)
    elif (chosen / "bank.json").is_file():
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


def _of_engine(path: Path) -> dict[str, Any]:
    """A TensorRT engine, by its plan or its record."""
    from edgevand.errors import BadInputError
    from edgevand_runtime.engines.engine_files import read_engine_record, read_plan

    engine = path.with_suffix("") if path.suffix == ".json" else path
    record = read_engine_record(engine)
    if record is None:
        raise BadInputError(
            f"expected a bundle, a bank or an engine with its .json beside it at {path}, found none; "
            "make an engine with edgevand build"
        )
    read_plan(engine, record)
    return {
        "schema": "edgevand.info/1",
        "kind": "engine",
        "path": str(engine),
        "bytes": record.plan.size,
        "proved": record.parity is not None,
        "record": record.model_dump(mode="json", exclude={"schema_"}),
    }


def _show(document: dict[str, Any]) -> None:
    """The table for people."""
    from rich.console import Console
    from rich.table import Table

    rows = {"bundle": _bundle_rows, "bank": _bank_rows, "engine": _engine_rows}[document["kind"]](document)
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
        "method": _methods(manifest),
        "score with a bank": f"{' + '.join(manifest['score']['terms'])}, {manifest['score']['image']} of the map",
        "graph": f"ONNX opset {graph['opset']}, {graph['precision']}, {document['bytes'] / 1e6:.1f} MB in all",
        "parity": f"{parity['reference']} against {parity['engine']}: "
        + ("no output" if worst is None else f"largest difference {worst['max_abs']:.1e} ({worst['output']})"),
        **{f"variant {each['graph']['precision']}": _variant(each) for each in manifest["variants"]},
        "made": f"{manifest['created']} by {manifest['generator']}",
        "hash": document["hash"],
    }


def _methods(manifest: dict[str, Any]) -> str:
    """The method that scores where nobody names one, and those that the bundle was prepared for besides."""
    prepared = [each["name"] for each in manifest["methods"] if each["name"] != manifest["method"]]
    return f"{manifest['method']}" + (f"; prepared for {', '.join(prepared)} as well" if prepared else "")


def _variant(variant: dict[str, Any]) -> str:
    """Certificate and gate of the graph in another precision."""
    parity, gate = variant["parity"], variant["gate"]
    worst = min((output["cosine"] for output in parity["outputs"]), default=1.0)
    certificate = f"map differs by at most {parity['map_max_abs']:.1e}, outputs' cosine at least {worst:.5f}"
    return f"{parity['engine']}: {certificate}\n{_gate(gate)}"


def _gate(gate: dict[str, Any]) -> str:
    """What a gate found."""
    verdict = "passed" if gate["passed"] else "not passed"
    return (
        f"gate on {gate['frames']} frames ({gate['engine']}) {verdict}: scores moved by at most {gate['moved']:.2f} "
        f"deviations (limit {gate['moved_limit']:g}), {gate['ranking']:.1%} of the order kept "
        f"(limit {gate['ranking_limit']:.0%})"
    )


def _bank_rows(document: dict[str, Any]) -> dict[str, str]:
    """Name and value of each line."""
    record = document["record"]
    calibration, roi = record["calibration"], record["roi"]
    limit = calibration["image"]
    return {
        "source": record["source"],
        "method": "\n".join([record["method"], *(f"{key}={value}" for key, value in record["settings"].items())]),
        "frames": f"{len(record['frames'])} of {record['frame_size'][0]}x{record['frame_size'][1]}, "
        f"{calibration['n']} independent",
        "augmented by": ", ".join(record["augment"]) or "nothing",
        "region of interest": "the whole frame" if roi is None else str(roi),
        "object": record["object"] or "none: the bundle has no text",
        "patches searched": _searched(record),
        "threshold": "none" if limit is None else f"{limit['threshold']:.4g} on the raw score ({calibration['kind']})",
        "promise": document["promise"],
        "precision": "\n".join(
            [record["precision"], *(f"{each['precision']}: {_gate(each)}" for each in record["gates"])]
        ),
        "version": str(record["version"]),
        "made": f"{record['created']} by {record['generator']}, {document['bytes'] / 1e6:.1f} MB",
        "bundle": record["bundle"],
        "hash": document["hash"],
    }


def _engine_rows(document: dict[str, Any]) -> dict[str, str]:
    """Name and value of each line."""
    record = document["record"]
    options, parity = record["options"], record["parity"]
    workspace = "" if options["workspace_mb"] is None else f", workspace {options['workspace_mb']} MiB"
    proof = (
        f"unproved: no {record['target']} had run it; edgevand verify --backend {record['library']} does on the device"
    )
    if parity is not None:
        worst = max(parity, key=lambda check: check["max_abs"] or 0.0)
        proof = f"proved where it was built: largest difference {worst['max_abs']:.1e} ({worst['name']})"
    return {
        "library": f"{record['library']} {record['library_version']}",
        "for": record["target"] if record["gpu"] is None else f"{record['gpu']} ({record['target']})",
        "driver": record["driver"] or "built without a GPU",
        "precision": f"{record['precision']}, strongly typed, no TF32",
        "batch": f"1 to {options['batch']}{workspace}",
        "parity": proof,
        "made": f"{record['created']} by {record['generator']}, {document['bytes'] / 1e6:.1f} MB",
        "graph": record["graph"],
        "bundle": record["bundle"],
    }


def _searched(record: dict[str, Any]) -> str:
    """How much of the bank the search holds in memory."""
    coreset = record["coreset"]
    if coreset is None:
        return "every one"
    held, every = sum(coreset["rows"]), sum(coreset["of"])
    return (
        f"{held} of {every}, in {record['memory_mb']:g} MB; every other lies within {max(coreset['radius']):.3f} of "
        f"one, and scores move by at most {coreset['moved']:.3g} ({coreset['frames']} enrolled frames measured)"
    )
