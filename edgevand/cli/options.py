"""Options that several commands share, declared once so that they read and mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

if TYPE_CHECKING:
    from edgevand.bundle import Precision

__all__ = [
    "AugmentOption",
    "BackendOption",
    "BankOption",
    "BundleOption",
    "DeviceOption",
    "JsonFlag",
    "LocalityOption",
    "MethodOption",
    "ObjectOption",
    "OutputOption",
    "PrecisionOption",
    "QuietFlag",
    "SetOption",
    "SourceOption",
    "TextOption",
    "ThreadsOption",
    "ThresholdOption",
    "VerboseFlag",
    "poses",
    "wanted_precision",
    "with_locality",
]

SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source",
        "--camera",
        metavar="URI",
        help="Where frames come from: camera index, /dev/video0, rtsp://…, http://…, csi://0, gst:PIPELINE, "
        "a video, an image, a folder, a glob, or test://conveyor.",
    ),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="PATH", help="Where the result is written.")
]
AugmentOption = Annotated[
    str | None,
    typer.Option(
        metavar="rotate,flip|none",
        help="Add turned or mirrored copies of each frame, or none (default: what the bundle recommends).",
    ),
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method", metavar="NAME", help="Method to score with (`edgevand methods`); default: the bundle's own."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An option of the method (`edgevand methods show`); repeatable."),
]
LocalityOption = Annotated[
    str | None,
    typer.Option(
        metavar="off|auto|R",
        help="Compare a patch only with enrolled ones within R cells of its place; auto: if the view is fixed. As "
        "--set locality.",
    ),
]
BundleOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Bundle to use; default: the newest exported one, else the built-in one."),
]
BankOption = Annotated[Path | None, typer.Option(metavar="DIR", help="Bank to use, as written by `edgevand enroll`.")]
ObjectOption = Annotated[
    str | None, typer.Option("--object", metavar="NAME", help="Object whose text embeddings are used.")
]
TextOption = Annotated[
    Path | None,
    typer.Option(
        "--text", metavar="FILE", help="Text embeddings of further objects, from `edgevand export --text-only`."
    ),
]
ThresholdOption = Annotated[
    float | None, typer.Option(metavar="RAW", help="Threshold on the raw score, in place of the bank's calibration.")
]
DeviceOption = Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N, gpu or gpu:N (Intel's).")]
BackendOption = Annotated[
    str,
    typer.Option(
        metavar="BACKEND",
        help="auto (the fastest that computes here what PyTorch did), onnxruntime, openvino, tensorrt, tensorrt-rtx, "
        "onnxruntime-openvino or onnxruntime-tensorrt.",
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(metavar="PRECISION", help="auto (the bank's, else the bundle's first), fp32, fp16 or int8."),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="Processor threads; default: the cores this process may use."),
]
JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else there.")
]
VerboseFlag = Annotated[
    int,
    typer.Option("--verbose", "-v", count=True, help="Say what is done; twice: everything, and tracebacks of errors."),
]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


def with_locality(pairs: list[str] | None, locality: str | None) -> list[str]:
    """What ``--set`` and ``--locality`` say together."""
    return [*(pairs or ()), *([] if locality is None else [f"locality={locality}"])]


def poses(augment: str | None) -> tuple[str, ...] | None:
    """``--augment``: names between commas, ``none`` for no copies; None where the bundle decides."""
    if augment is None:
        return None
    return () if augment.strip() == "none" else tuple(part.strip() for part in augment.split(","))


def wanted_precision(text: str) -> Precision | None:
    """``--precision``: None for auto, which leaves it to the bank or the bundle.

    Raises:
        UsageError: it is none of the precisions.
    """
    from edgevand.bundle import Precision
    from edgevand.errors import UsageError

    known: tuple[Precision, ...] = get_args(Precision)
    if text == "auto":
        return None
    for precision in known:
        if text == precision:
            return precision
    raise UsageError(f"expected --precision auto, {' or '.join(known)}, found {text!r}; choose one")
