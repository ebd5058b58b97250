"""One pass over the test pictures of a class: each is read, preprocessed and encoded once, then scored for every case.

Only the bank differs between cases, so the encoder runs once for a picture whatever the number of shots and seeds.
Reading and encoding run ahead in threads of their own, as in ``pipeline``; the maps go to the disk.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edgevand.errors import BadInputError
from edgevand_runtime.datasets import mask_at, read_defects, read_mask
from edgevand_runtime.evaluation.map_file import MapFile
from edgevand_runtime.pipeline import ahead
from edgevand_runtime.preprocess import load_image
from edgevand_runtime.sources.base import new_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgevand_runtime.datasets import DatasetClass, Sample
    from edgevand_runtime.detector import Detector
    from edgevand_runtime.engines import EncoderOutput
    from edgevand_runtime.evaluation.cases import Case
    from edgevand_runtime.frame import Frame
    from edgevand_runtime.preprocess import Prepared
    from edgevand_runtime.results import Result

__all__ = ["Judged", "Picture", "judge"]

_DEPTH = 2
"""Batches that may wait before each stage."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A test picture that could be read.

    Attributes:
        sample: which one.
        size: its width and height in pixels.
        mask: (S_h, S_w) bool at the bundle's image size; None where nothing is marked.
    """

    sample: Sample
    size: tuple[int, int]
    mask: NDArray[np.bool_] | None


@dataclass(slots=True, eq=False)
class Judged:
    """A case with what it said of every picture.

    Attributes:
        case: the row to be.
        pictures: those it judged: readable, and none that it enrolled itself.
        results: one for each of them, without its map.
        maps: (N, S_h, S_w) float32 raw maps, mapped from the disk; None where the method draws none.
    """

    case: Case
    pictures: list[Picture] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    maps: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """Pictures on their way through the encoder."""

    pictures: tuple[Picture, ...]
    frames: tuple[Frame, ...]
    tensors: tuple[Prepared, ...]
    busy: float


def judge(
    cases: Sequence[Case],
    dataset_class: DatasetClass,
    folder: Path,
    *,
    batch: int,
    failed: Callable[[Sample, str], None],
    told: Callable[[], None],
) -> list[Judged]:
    """Judge the test pictures of a class by every case.

    Args:
        cases: the rows to be, all with the same text.
        dataset_class: whose test pictures are judged.
        folder: where the maps are written.
        batch: pictures that go through the encoder together.
        failed: called with every picture that cannot be read, and why.
        told: called for every picture, read or not.

    Raises:
        OutputError: the maps cannot be written.
    """
    judged = [Judged(case) for case in cases]
    working = [(item, item.case.detector) for item in judged if item.case.detector is not None]
    if not working:
        return judged
    detector = working[0][1]
    image = detector.bundle.manifest.image
    size = (image.height, image.width)
    with ExitStack() as stack:
        files = [stack.enter_context(closing(MapFile(folder / f"{n}.f32", size))) for n in range(len(working))]
        read = ahead(_read(detector, dataset_class, size, batch, failed, told), _DEPTH)
        encoded = stack.enter_context(closing(ahead(_encode(detector, read), _DEPTH)))
        for item, outputs, busy in encoded:
            for (row, scorer), file in zip(working, files, strict=True):
                _score(row, scorer, file, item, outputs, busy)
        for (row, _), file in zip(working, files, strict=True):
            row.maps = file.read()
    return judged


def _read(
    detector: Detector,
    dataset_class: DatasetClass,
    size: tuple[int, int],
    batch: int,
    failed: Callable[[Sample, str], None],
    told: Callable[[], None],
) -> Generator[_Read, None, None]:
    """Read and preprocess pictures and masks; runs in a thread."""
    held: list[tuple[Picture, Frame, Prepared]] = []
    busy = 0.0
    for index, sample in enumerate(dataset_class.test):
        told()
        try:
            frame = new_frame(load_image(sample.image), index, str(sample.image))
            picture = Picture(sample, frame.size, _mask(sample, dataset_class, frame.size, size))
        except BadInputError as error:
            failed(sample, str(error))
            continue
        started = time.perf_counter()
        held.append((picture, frame, detector.preprocess(frame)))
        busy += time.perf_counter() - started
        if len(held) == batch:
            yield _batch(held, busy)
            held, busy = [], 0.0
    if held:
        yield _batch(held, busy)


def _batch(held: Sequence[tuple[Picture, Frame, Prepared]], busy: float) -> _Read:
    pictures, frames, tensors = zip(*held, strict=True)
    return _Read(pictures, frames, tensors, busy)


def _mask(
    sample: Sample, dataset_class: DatasetClass, frame_size: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.bool_] | None:
    """The picture's mask at the bundle's image size; what sPRO will read later is tried here, where it may fail."""
    if dataset_class.defects:
        read_defects(sample, dataset_class.defects)
    return mask_at(read_mask(sample, (frame_size[1], frame_size[0])), size) if sample.masks else None


def _encode(
    detector: Detector, batches: Generator[_Read, None, None]
) -> Generator[tuple[_Read, EncoderOutput, float], None, None]:
    """Run the encoder; runs in a thread."""
    with closing(batches):
        for item in batches:
            started = time.perf_counter()
            outputs = detector.encode(item.tensors)
            yield item, outputs, item.busy + time.perf_counter() - started


def _score(row: Judged, detector: Detector, file: MapFile, item: _Read, outputs: EncoderOutput, busy: float) -> None:
    """Score a batch for one case; what the case enrolled itself is passed over."""
    enrolled = {sample.name for sample in row.case.enrolled}
    results = detector.score(item.frames, outputs, time.perf_counter() - busy)
    for picture, result in zip(item.pictures, results, strict=True):
        if picture.sample.name in enrolled:
            continue
        if result.raw_map is not None:
            file.append(result.raw_map)
        row.pictures.append(picture)
        row.results.append(replace(result, raw_map=None))
