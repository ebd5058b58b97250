"""``comparison.html``: the same frames under each method, in one page that holds everything and loads nothing."""

from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from edgevand import __version__
from edgevand.errors import MissingDependencyError, OutputError
from edgevand.staging import staged_directory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.comparison.frames import ComparedFrames
    from edgevand_runtime.comparison.measure import Measured

__all__ = ["require_page", "write_report"]

_TEMPLATE = "comparison.html.jinja"
_WIDTH = 400
"""Of a picture in the page, in pixels."""

_QUALITY = 80


def require_page(output: Path) -> None:
    """Find out whether the report can be written, before anything is measured.

    Raises:
        MissingDependencyError: a package is missing.
        OutputError: something is there already.
    """
    if importlib.util.find_spec("jinja2") is None:
        raise MissingDependencyError(
            "expected the package jinja2 for comparison.html, found none; install it with pip install "
            "'edgevand[eval]', or leave out -o"
        )
    if output.exists():
        raise OutputError(
            f"expected a new directory for the comparison, found that {output} is already there; remove it or give "
            "another -o"
        )


def write_report(
    output: Path,
    document: Mapping[str, Any],
    frames: ComparedFrames,
    measured: Sequence[Measured],
    shown: Sequence[int],
) -> None:
    """Write ``comparison.html`` and ``comparison.json`` into a directory that appears whole or not at all.

    Args:
        output: the directory.
        document: ``edgevand.comparison/1``.
        frames: that were compared.
        measured: the methods, in the order of the document.
        shown: places of the judged frames that there are pictures of.

    Raises:
        OutputError: it cannot be written.
    """
    page = _render(document, frames, measured, shown)
    with staged_directory(output) as staging:
        (staging / "comparison.json").write_text(
            json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8"
        )
        (staging / "comparison.html").write_bytes(page.encode("utf-8", "backslashreplace"))


def _render(
    document: Mapping[str, Any], frames: ComparedFrames, measured: Sequence[Measured], shown: Sequence[int]
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    judged = (*frames.normal, *frames.anomalous)
    rows = []
    for place in shown:
        anomalous = place >= len(frames.normal)
        cells = []
        for one in measured:
            result = (*one.normal, *one.anomalous)[place]
            cells.append(
                {
                    "label": one.label,
                    "picture": _data(_without_strip(one.pictures[place], judged[place].image)),
                    "right": result.anomalous is anomalous,
                    "verdict": _verdict(result.anomalous, anomalous=anomalous),
                    "reason": None if result.anomalous is False else result.reason,
                }
            )
        frame = judged[place]
        kind = "normal" if not anomalous else "drawn defect" if frames.drawn else "anomalous"
        rows.append({"name": Path(frame.source).name, "kind": kind, "picture": _data(frame.image), "cells": cells})
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("page")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    fastest = min(one.milliseconds for one in measured)
    return environment.get_template(_TEMPLATE).render(
        comparison=document, rows=rows, version=__version__, fastest=fastest
    )


def _verdict(called: bool | None, *, anomalous: bool) -> str:  # noqa: FBT001 - a result's own verdict
    """A verdict in a word, beside what is true."""
    if called is None:
        return "no threshold"
    if anomalous:
        return "found" if called else "missed"
    return "false alarm" if called else "quiet"


def _without_strip(overlay: NDArray[Any], image: NDArray[Any]) -> NDArray[Any]:
    """An overlay's picture; the words of its strip would be too small here, and stand below."""
    return overlay[: round(image.shape[0] * overlay.shape[1] / image.shape[1])]


def _data(image: NDArray[Any]) -> str:
    """A picture as the address of an ``img``."""
    scale = _WIDTH / image.shape[1]
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    _, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
