"""What a bank's types cannot say: fields that agree with each other, with the features and with the bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand.errors import FormatError
from edgevand.text_files import check_embedding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand.bank import BankRecord
    from edgevand.bundle import Manifest, MethodRecord
    from edgevand.tensors import TensorFile

__all__ = ["check_coreset", "check_features", "check_record", "thumbnail_name"]

MAX_FRAMES = 9999
_TOLERANCE = {np.dtype(np.float32): 1e-3, np.dtype(np.float16): 1e-2}
_ROWS = 4096
"""Rows of a coreset whose values are looked at together, in single precision."""
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
    if record.coreset is not None:
        wanted.add("coreset.safetensors")
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
    features: Mapping[str, NDArray[Any] | Sequence[NDArray[Any]]],
    record: BankRecord,
    manifest: Manifest | None,
    path: Path,
    *,
    every_row: bool = True,
) -> None:
    """Hold the tensors against the record and, where it is given, the bundle's manifest.

    Args:
        features: by name; one of all frames may be a sequence of the frames' own.
        record: of the bank.
        manifest: of the bundle.
        path: named in the errors.
        every_row: look at the values of the tokens as well; without it they stay on the disk.

    Raises:
        FormatError: a tensor is missing or superfluous, has another shape or dtype, is not finite or not of unit
            length.
    """
    if record.layout == "summary":
        _check_summary(features, path)
        return
    frames = len(record.frames)
    features = {name: tensor for name, tensor in features.items() if not name.startswith("own_")}
    shapes = {name: _shape(tensor) for name, tensor in features.items()}
    stages = _stages(features)
    heads = {name for name in features if name.startswith("logits_")}
    others = {name for name in features if name.startswith(("map_", "kept_"))}
    if manifest is not None:
        stages = [stage.index for stage in manifest.stages]
        _check_against_bundle(shapes, manifest, path)
    wanted = {f"tokens_{index}" for index in stages} | ({"text"} if record.object is not None else set())
    wanted |= {"embedding"} if "embedding" in features or not others else set()
    alone = not stages and not others
    if set(features) - heads - others != wanted or alone or not heads <= {f"logits_{index}" for index in stages}:
        msg = f"expected the tensors {sorted(wanted)} in {path}, found {sorted(features)}; {_REMEDY}"
        raise FormatError(msg)
    copies = {shape[1:2] for name, shape in shapes.items() if name.startswith("tokens_") and len(shape) == 4}  # noqa: PLR2004 - [F, 1 + A, P, C]
    if len(copies) > 1:
        msg = f"{path}: expected as many augmented copies in each stage, found {sorted(copies)}; {_REMEDY}"
        raise FormatError(msg)
    for name, tensor in features.items():
        if name == "text":
            check_embedding(np.asarray(tensor), f"{path}: {name}")
            continue
        shape, dtype = shapes[name], tensor[0].dtype if shapes[name] else np.dtype(object)
        kinds = {"tokens": (4, True), "logits": (3, False), "map": (3, False), "kept": (len(shape), True)}
        dimensions, halves = kinds.get(name.split("_")[0], (2, False))
        fits = dtype == np.float32 or (halves and dtype == np.float16)
        alike = isinstance(tensor, np.ndarray) or all(
            each.shape == shape[1:] and each.dtype == dtype for each in tensor
        )
        if len(shape) != dimensions or shape[0] != frames or 0 in shape or not fits or not alike:
            found = f"{list(shape)} {dtype}" if alike else "frames of several shapes"
            msg = f"{path}: expected {name} of {dimensions} dimensions for {frames} frames, found {found}; {_REMEDY}"
            raise FormatError(msg)
        if every_row or not name.startswith("tokens_"):
            _check_values(tensor, name, path)


def check_coreset(file: TensorFile, features: Mapping[str, NDArray[Any]], record: BankRecord, path: Path) -> None:
    """Hold the rows that are searched against the features that they were taken from.

    Args:
        file: ``coreset.safetensors``.
        features: of the bank, whose shapes count.
        record: of the bank.
        path: named in the errors.

    Raises:
        FormatError: it was made of other features, or tensors or record do not fit them.
    """
    stages = _stages(features)
    if file.metadata != {"features": record.files["features.safetensors"].sha256}:
        msg = f"expected {path} to be of the features beside it, found one of others; {_REMEDY}"
        raise FormatError(msg)
    if set(file.tensors) != {f"{kind}_{index}" for index in stages for kind in ("rows", "places")}:
        msg = f"expected rows and places of the stages {stages} in {path}, found {sorted(file.tensors)}; {_REMEDY}"
        raise FormatError(msg)
    every = [features[f"tokens_{index}"].shape for index in stages]
    told = record.coreset
    all_rows = tuple(frames * copies * patches for frames, copies, patches, _ in every)
    if told is None or told.of != all_rows or not len(told.rows) == len(told.radius) == len(all_rows):
        msg = f"{path}: expected the record to tell of {list(all_rows)} rows, found {told}; {_REMEDY}"
        raise FormatError(msg)
    for index, shape, count, total in zip(stages, every, told.rows, all_rows, strict=True):
        rows, places = file.tensors[f"rows_{index}"], file.tensors[f"places_{index}"]
        shapes = rows.shape == (count, shape[-1]) and places.shape == (count,)
        if not shapes or rows.dtype != np.float16 or places.dtype != np.int64:
            found = f"{list(rows.shape)} {rows.dtype} at {list(places.shape)} {places.dtype}"
            wanted = f"{count} rows of {shape[-1]} in half precision of stage {index}"
            msg = f"{path}: expected {wanted}, found {found}; {_REMEDY}"
            raise FormatError(msg)
        if places[0] < 0 or places[-1] >= total or (np.diff(places) <= 0).any():
            msg = f"{path}: expected the places of stage {index} to rise from 0 to {total - 1}, found others; {_REMEDY}"
            raise FormatError(msg)
        _check_values(np.array_split(rows, -(-count // _ROWS)), f"rows_{index}", path)


def _own(manifest: Manifest) -> list[MethodRecord]:
    """What the bundle was prepared with for the method that the manifest is seen by."""
    return [record for record in manifest.methods if record.name == manifest.method]


def _check_summary(features: Mapping[str, NDArray[Any] | Sequence[NDArray[Any]]], path: Path) -> None:
    """Finite numbers; what they mean is for the method to say."""
    for name, tensor in features.items():
        values = np.asarray(tensor)
        if values.dtype.kind not in "fi" or not np.isfinite(values).all():
            msg = f"{path}: expected finite numbers in {name}, found others; {_REMEDY}"
            raise FormatError(msg)


def _stages(features: Mapping[str, Any]) -> list[int]:
    """Indices of the stages that there are tokens of, rising."""
    return sorted(int(name[7:]) for name in features if name.startswith("tokens_") and name[7:].isdecimal())


def _shape(tensor: NDArray[Any] | Sequence[NDArray[Any]]) -> tuple[int, ...]:
    """Shape of a tensor, or of the one that a sequence of arrays stacks up to."""
    if isinstance(tensor, np.ndarray):
        return tensor.shape
    return (len(tensor), *(tensor[0].shape if len(tensor) else ()))


def _check_against_bundle(shapes: Mapping[str, tuple[int, ...]], manifest: Manifest, path: Path) -> None:
    """Shapes behind the frame axis, which the bundle knows."""
    wanted: dict[str, tuple[int, ...]] = {"embedding": (manifest.embedding_dim,)}
    wanted |= {f"map_{each.name}": each.grid for each in manifest.maps}
    if manifest.text is not None and all(record.graph is None for record in _own(manifest)):
        wanted["text"] = (manifest.embedding_dim,)
    for stage in manifest.stages:
        wanted[f"tokens_{stage.index}"] = (stage.grid[0] * stage.grid[1], stage.width)
        if stage.head:
            wanted[f"logits_{stage.index}"] = stage.grid
    for name, found in shapes.items():
        shape = wanted.get(name)
        if shape is not None and found[-len(shape) :] != shape:
            msg = f"{path}: expected {name} to end in {shape} as the bundle says, found {list(found)}; {_REMEDY}"
            raise FormatError(msg)


def _check_values(tensor: NDArray[Any] | Sequence[NDArray[Any]], name: str, path: Path) -> None:
    """Finite everywhere; rows of tokens and embeddings of length 1, or 0 where the network gave nothing."""
    tolerance = _TOLERANCE[tensor[0].dtype] if name.startswith(("tokens_", "embedding", "rows_")) else None
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
