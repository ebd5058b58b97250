"""``edgevand compare``: which method serves a person's own camera."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgevand.cli.common import open_bundle, print_json, say
from edgevand.cli.options import (
    BackendOption,
    DeviceOption,
    JsonFlag,
    ObjectOption,
    OutputOption,
    QuietFlag,
    SourceOption,
    ThreadsOption,
    VerboseFlag,
)
from edgevand.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["compare"]


def compare(
    source: SourceOption = None,
    anomalous: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Frames with something wrong; default: defects are drawn onto good frames."),
    ] = None,
    bundles: Annotated[
        list[Path] | None,
        typer.Option(
            "--bundle", metavar="DIR", help="Bundle to try; repeatable; default: the newest, else the built-in."
        ),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="NAME[:KEY=VALUE…]",
            help="Method to try, with options; repeatable; default: every one that a bundle is ready for.",
        ),
    ] = None,
    shots: Annotated[int, typer.Option("--shots", "-k", metavar="K", help="Good frames to enrol.")] = 8,
    frames: Annotated[int, typer.Option(metavar="N", help="Most frames to judge, of either kind.")] = 40,
    object_name: ObjectOption = None,
    budget: Annotated[
        float | None, typer.Option(metavar="MS", help="Most milliseconds that a recommended method takes for a frame.")
    ] = None,
    output: OutputOption = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonFlag = False,
    verbose: VerboseFlag = 0,
    quiet: QuietFlag = False,
) -> None:
    """Run the methods on your own frames and say which to take: accuracy, time, memory.

    Enrols with the first good frames and judges the later ones, beside anomalous frames, or drawn defects where there
    are none. -o DIR writes comparison.html, with the same frames under each method, and comparison.json.
    """
    from edgevand_runtime.comparison import CompareOptions
    from edgevand_runtime.comparison import compare as run
    from edgevand_runtime.comparison.measure import Runner

    if source is None:
        raise UsageError("expected --source URI with good frames, found none; give a folder, a video or a camera")
    options = CompareOptions(
        source=source,
        anomalous=anomalous,
        methods=tuple(methods or ()),
        shots=shots,
        frames=frames,
        object_name=object_name,
        budget_ms=budget,
        runner=Runner(backend, device, threads),
    )
    named: list[Path | None] = list(bundles) if bundles else [None]
    opened = [open_bundle(path, quiet=quiet or as_json) for path in named]
    document = run(opened, options, output, lambda line: say(f"edgevand: {line}", quiet=quiet or as_json))
    if as_json:
        print_json(document)
        return
    if quiet:
        return
    print("\n".join(_table(document)))
    if output is not None:
        print(f"report: {output / 'comparison.html'}")


def _table(document: dict[str, Any]) -> list[str]:
    """The comparison for people."""
    counts = document["frames"]
    kind = "with drawn defects" if document["drawn"] else "anomalous"
    width = max(len(one["label"]) for one in document["methods"])
    head = f"{'method':<{width}}  AUROC  ±      separation  found  false alarms  a frame    memory    bank      bundle"
    lines = [
        f"{counts['enrolled']} frames enrolled; judged {counts['normal']} good ones and {counts['anomalous']} {kind}",
        head,
    ]
    for one in document["methods"]:
        separation = "-" if one["separation"] is None else f"{one['separation']:.1f} sd"
        lines.append(
            f"{one['label']:<{width}}  {one['auroc']:.3f}  {2 * one['auroc_error']:.3f}  {separation:>10}  "
            f"{_share(one['found']):>5}  {_share(one['false_alarms']):>12}  {one['milliseconds']:>6.1f} ms  "
            f"{one['memory_bytes'] / 2**20:>5.0f} MB  {one['bank_bytes'] / 2**20:>5.1f} MB  "
            f"{one['bundle_bytes'] / 2**20:>6.1f} MB"
        )
    lines += _left_out(document["left_out"])
    recommended = document["recommended"]
    word = "recommended" if recommended["label"] is not None else "no recommendation"
    return [*lines, f"{word}: {recommended['sentence']}"]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _left_out(found: Sequence[dict[str, str]]) -> list[str]:
    """What was not compared."""
    return [f"not compared: {one['label']}, {one['reason']}" for one in found]
