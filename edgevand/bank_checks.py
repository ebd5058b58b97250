"""What a bank's types cannot say: fields that agree with each other, with the features and with the bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand.errors import FormatError
from edgevand.text_files import check_embedding

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand.bank import BankRecord
    from edgevand.bundle import Manifest

__all__ = ["check_features", "check_record", "thumbnail_name"]

MAX_FRAMES = 9999
_TOLERANCE = {np.dtype(np.float32): 1e-3, np.dtype(np.float16): 1e-2}
_REMEDY = "enrol again or copy the bank again"


def thumbnail_name(frame_id: int) -> str:
    """Path of a frame's thumbnail inside the bank."""
    return f"frames/{frame_id:04d}.jpg"


def check_record(record: BankRecord, path: Path) -> None:
    """Hold the fields of ``bank.json`` against each other.

    Raises:
        FormatError: they contradict each other; ``path`` is named.
    """
    ids = [frame.id for frame in record.frames]
    width, height = record.frame_size
    wanted = {"features.safetensors", "contact-sheet.jpg", *map(thumbnail_name, ids)}
    if record.roi == "roi.png":
        wanted.add("roi.png")
    fault = None
    if not 0 < len(ids) <= MAX_FRAMES or len(set(ids)) != len(ids) or max(ids) > MAX_FRAMES:
        fault = f"1 to {MAX_FRAMES} frames with ids of their own up to {MAX_FRAMES}, found {len(ids)} frames"
    elif not (0 < width <= 65535 and 0 < height <= 65535):  # noqa: PLR2004 - what JPEG and PNG thumbnails allow too
        fault = f"a frame size of 1 to 65535 pixels a side, found {width}x{height}"
    elif isinstance(record.roi, tuple) and not _inside(record.roi, width, height):
        fault = f"a region of interest inside the frame of {width}x{height}, found {record.roi}"
    elif set(record.files) != wanted:
        first = min(set(record.files) ^ wanted)
        fault = f"the file {first!r} {'to be listed, found none' if first in wanted else 'not to be listed, found it'}"
    elif record.previous is not None and record.previous >= record.version:
        fault = f"a previous version before {record.version}, found {record.previous}"
    if fault:
        msg = f"{path}: expected {fault}; {_REMEDY}"
        raise FormatError(msg)


def check_features(
    features: Mapping[str, NDArray[Any]], record: BankRecord, manifest: Manifest | None, path: Path
) -> None:
    """Hold the tensors against the record and, where it is given, the bundle's manifest.

    Raises:
        FormatError: a tensor is missing or superfluous, has another shape or dtype, is not finite or not of unit
            length; ``path`` is named.
    """
    frames = len(record.frames)
    stages = sorted(int(name[7:]) for name in features if name.startswith("tokens_") and name[7:].isdecimal())
    heads = {name for name in features if name.startswith("logits_")}
    if manifest is not None:
        stages = [stage.index for stage in manifest.stages]
        _check_against_bundle(features, manifest, path)
    wanted = {"embedding", *(f"tokens_{index}" for index in stages)} | (
        {"text"} if record.object is not None else set()
    )
    if set(features) - heads != wanted or not stages or not heads <= {f"logits_{index}" for index in stages}:
        msg = f"expected the tensors {sorted(wanted)} in {path}, found {sorted(features)}; {_REMEDY}"
        raise FormatError(msg)
    copies = {tensor.shape[1:2] for name, tensor in features.items() if name.startswith("tokens_") and tensor.ndim == 4}  # noqa: PLR2004 - [F, 1 + A, P, C]
    if len(copies) > 1:
        msg = f"{path}: expected as many augmented copies in each stage, found {sorted(copies)}; {_REMEDY}"
        raise FormatError(msg)
    for name, tensor in features.items():
        if name == "text":
            check_embedding(tensor, f"{path}: {name}")
            continue
        dimensions, halves = {"tokens": (4, True), "logits": (3, False)}.get(name.split("_")[0], (2, False))
        fits = tensor.dtype == np.float32 or (halves and tensor.dtype == np.float16)
        if tensor.ndim != dimensions or tensor.shape[0] != frames or tensor.size == 0 or not fits:
            found = f"{list(tensor.shape)} {tensor.dtype}"
            msg = f"{path}: expected {name} of {dimensions} dimensions for {frames} frames, found {found}; {_REMEDY}"
            raise FormatError(msg)
        _check_values(tensor, name, path)


def _check_against_bundle(features: Mapping[str, NDArray[Any]], manifest: Manifest, path: Path) -> None:
    """Shapes behind the frame axis, which the bundle knows."""
    wanted: dict[str, tuple[int, ...]] = {"embedding": (manifest.embedding_dim,), "text": (manifest.embedding_dim,)}
    for stage in manifest.stages:
        wanted[f"tokens_{stage.index}"] = (stage.grid[0] * stage.grid[1], stage.width)
        if stage.head:
            wanted[f"logits_{stage.index}"] = stage.grid
    for name, tensor in features.items():
        shape = wanted.get(name)
        if shape is not None and tensor.shape[-len(shape) :] != shape:
            msg = f"{path}: expected {name} to end in {shape} as the bundle says, found {list(tensor.shape)}; {_REMEDY}"
            raise FormatError(msg)


def _check_values(tensor: NDArray[Any], name: str, path: Path) -> None:
    """Finite everywhere; rows of tokens and embeddings of length 1, or 0 where the network gave nothing."""
    tolerance = None if name.startswith("logits_") else _TOLERANCE[tensor.dtype]
    for frame in tensor:  # one at a time bounds the memory of the float32 copy
        values = frame.astype(np.float32, copy=False)
        if tolerance is None:
            fine = bool(np.isfinite(values).all())
        else:
            squares = np.einsum("...c,...c->...", values, values)  # NaN and infinity fail both comparisons
            fine = bool(np.all((np.abs(squares - 1.0) <= 2 * tolerance) | (squares == 0.0)))
        if not fine:
            kind = "finite values" if tolerance is None else "finite vectors of length 1"
            msg = f"{path}: expected {kind} in {name}, found others; {_REMEDY}"
            raise FormatError(msg)


def _inside(roi: tuple[int, int, int, int], width: int, height: int) -> bool:
    """Whether x, y, w, h is a rectangle of at least one pixel inside the frame."""
    x, y, w, h = roi
    return min(x, y) >= 0 and min(w, h) >= 1 and x + w <= width and y + h <= height
