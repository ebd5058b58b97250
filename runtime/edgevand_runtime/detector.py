"""The path of a frame: preprocess, encode, search, judge.

One object holds what is heavy (engine, memory bank); the steps are separate methods, so that ``score`` and ``monitor``
run them side by side for different frames. Each step takes one thread at a time, for it keeps the memory that it
works in: once warm, a frame costs no large memory but its own map.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgevand.errors import BadInputError, UsageError
from edgevand_runtime.calibration import calibrated_score, manual_limit, p_value
from edgevand_runtime.engines import Seen, open_engine
from edgevand_runtime.engines.device_bank import DeviceEngine
from edgevand_runtime.features import open_memory
from edgevand_runtime.frame import iso_time
from edgevand_runtime.memory import MemoryBank
from edgevand_runtime.methods import kind_of, open_method
from edgevand_runtime.methods.texts import ChosenText, choose_text
from edgevand_runtime.preprocess import Parts, crop, to_tensor
from edgevand_runtime.regions import find_regions
from edgevand_runtime.results import Result
from edgevand_runtime.threads import available_cores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray
    from typing_extensions import Self

    from edgevand.bank import Bank, LimitRecord
    from edgevand.bundle import Bundle, Precision
    from edgevand_runtime.engines import EncoderOutput, Engine
    from edgevand_runtime.features import Memory
    from edgevand_runtime.frame import Frame
    from edgevand_runtime.methods import RawScore
    from edgevand_runtime.methods.base import Search
    from edgevand_runtime.preprocess import Prepared

__all__ = ["Detector", "roi_at_image_size"]

_LOG = logging.getLogger(__name__)


class Detector:
    """Scores frames with one bundle and, where enrolled, one bank."""

    def __init__(  # noqa: PLR0913 - as of open, by name
        self,
        bundle: Bundle,
        engine: Engine,
        bank: Bank | None = None,
        *,
        object_name: str | None = None,
        text_file: Path | None = None,
        threshold: float | None = None,
        camera: str | None = None,
        memory: Memory | None = None,
    ) -> None:
        """Bring bundle, engine and bank together; ``Detector.open`` opens the engine as well.

        Args:
            bundle: an opened bundle.
            engine: runs the bundle's graph; closed with the detector.
            bank: a bank of this bundle, or None for zero-shot.
            object_name: whose text embeddings to use; a bank brings its own.
            text_file: embeddings made later by ``edgevand export --text-only``.
            threshold: on the raw score, set by hand; replaces the bank's.
            camera: name that results carry.
            memory: the search over the bank's features, where it shares its work with that of another bank.

        Raises:
            UsageError: an object that bundle, file or bank do not have, or nothing to score with.
        """
        if bank is not None:
            bundle = bundle.as_method(bank.record.method, bank.record.settings)
        self.bundle = bundle
        self.bank = bank
        self.engine = engine
        self.camera = camera
        manifest = bundle.manifest
        self.memory = memory
        kind = kind_of(manifest)
        if memory is None and bank is not None and kind.searches:
            self.memory = open_memory(manifest, bank)
        chosen = _text_of(bundle, bank, object_name, text_file)
        self.object_name, self._text = chosen.object_name, chosen.text
        if bank is None and (kind.needs_frames or (self._text is None and kind.searches)):
            wanted, found = ("a bank", "none") if kind.needs_frames else ("a bank or text embeddings", "neither")
            message = f"expected {wanted} to score with, found {found}; enrol normal frames with edgevand enroll."
            raise UsageError(message)
        size = (manifest.image.height, manifest.image.width)
        inside = None if bank is None else roi_at_image_size(bank.roi_mask(), size)
        searched: Search | None = self.memory
        self._run = engine.run
        if memory is None and isinstance(self.memory, MemoryBank) and isinstance(engine, DeviceEngine):
            on_device = engine.search_on_device(self.memory)
            if on_device is not None:
                searched, self._run = on_device, engine.run_on_device
        features = chosen.own if bank is None else bank.features
        self._method = open_method(manifest, self._text, searched, inside, features=features)
        self._boxes = kind.open.boxes
        self._image_limit, self._map_limit, self.calibration = _limits(bank, threshold)
        self._manual = threshold is not None
        self._free: deque[NDArray[np.float32]] = deque()  # memory of tensors whose frames are encoded
        self._stack = np.empty((0, 3, *size), np.float32)

    @classmethod
    def open(  # noqa: PLR0913 - the options of the command line, by name
        cls,
        bundle: Bundle,
        bank: Bank | None = None,
        *,
        object_name: str | None = None,
        text_file: Path | None = None,
        backend: str = "auto",
        device: str = "auto",
        precision: Precision | None = None,
        threads: int | None = None,
        threshold: float | None = None,
        camera: str | None = None,
    ) -> Detector:
        """Open the bundle's engine and make the detector; see ``__init__`` and ``engines.open_engine``.

        Without a ``precision`` it is the bank's, whose thresholds hold for that one; another is warned of.
        """
        if bank is not None:
            bundle = bundle.as_method(bank.record.method, bank.record.settings)
            enrolled = bank.record.precision
            if precision is not None and precision != enrolled:
                bundle.graph_in(precision)  # what is not there is refused without a warning before
                _LOG.warning(
                    "the bank was enrolled in %s, for which its thresholds hold, and the graph runs in %s; enrol again "
                    "with --precision %s if scores move",
                    enrolled,
                    precision,
                    precision,
                )
            precision = precision or enrolled
        threads = threads or available_cores()
        engine = open_engine(bundle, backend=backend, device=device, precision=precision, threads=threads)
        try:
            return cls(
                bundle,
                engine,
                bank,
                object_name=object_name,
                text_file=text_file,
                threshold=threshold,
                camera=camera,
            )
        except BaseException:
            engine.close()
            raise

    @property
    def draws_map(self) -> bool:
        """Whether there can be a raw map: with a bank, by heads, or by a method's own graph."""
        own = self.bundle.manifest.graph != self.bundle.whole.graph
        return self.bank is not None or self.bundle.manifest.has_heads or own

    def preprocess(self, frame: Frame) -> Prepared:
        """(3, H, W) float32: the frame as the encoder wants it; or its parts, for a method that sees it in parts.

        Raises:
            BadInputError: the bank has a region of interest and the frame another size than the enrolled ones.
        """
        if self.bank is not None and self.bank.record.roi is not None and frame.size != self.bank.record.frame_size:
            width, height = self.bank.record.frame_size
            message = (
                f"expected frames of {width}x{height}, for which the bank's region of interest was drawn, "
                f"found {frame.size[0]}x{frame.size[1]} in {frame.source}; enrol again at this size."
            )
            raise BadInputError(message)
        image = self.bundle.manifest.image
        boxes = self._boxes(self.bundle.manifest, frame.size)
        if boxes is not None:
            return Parts(np.stack([to_tensor(crop(frame.image, box), image) for box in boxes]), frame.size)
        try:
            free = self._free.pop()
        except IndexError:
            free = np.empty((3, image.height, image.width), np.float32)
        return to_tensor(frame.image, image, free)

    def encode(self, tensors: Sequence[Prepared]) -> EncoderOutput:
        """Run the encoder once over N preprocessed frames; later frames are preprocessed into their memory."""
        parts = [each for each in tensors if isinstance(each, Parts)]
        if parts:
            outputs = self._run(np.concatenate([each.tensors for each in parts]), self._text)
            return outputs.of(Seen(tuple(len(each.tensors) for each in parts), tuple(each.size for each in parts)))
        whole = [each for each in tensors if not isinstance(each, Parts)]
        outputs = self._run(self._batch(whole), self._text)
        self._free.extend(whole)
        return outputs

    def search(self, outputs: EncoderOutput) -> list[RawScore]:
        """Search the memory bank for N encoded frames and draw their maps."""
        return self._method.score(outputs)

    def judge(self, frames: Sequence[Frame], found: Sequence[RawScore], started: float) -> list[Result]:
        """Calibrate what ``search`` found of N frames and find regions; ``started`` as for ``score``."""
        return [self._result(frame, raw, started) for frame, raw in zip(frames, found, strict=True)]

    def score(self, frames: Sequence[Frame], outputs: EncoderOutput, started: float) -> list[Result]:
        """Turn encoder outputs into results.

        Args:
            frames: the N frames.
            outputs: what ``encode`` said of them.
            started: ``time.perf_counter()`` when their preprocessing began; the latency counts from there.
        """
        return self.judge(frames, self.search(outputs), started)

    def detect(self, frames: Sequence[Frame]) -> list[Result]:
        """Score frames in one batch: preprocess, encode, score."""
        started = time.perf_counter()
        outputs = self.encode([self.preprocess(frame) for frame in frames])
        return self.score(frames, outputs, started)

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _batch(self, tensors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """(N, 3, H, W) of N tensors (3, H, W), in memory that is used again."""
        if len(tensors) == 1:
            return tensors[0][None]
        if len(self._stack) < len(tensors):
            self._stack = np.empty((len(tensors), *self._stack.shape[1:]), np.float32)
        return np.stack(tensors, out=self._stack[: len(tensors)])

    def _result(self, frame: Frame, raw: RawScore, started: float) -> Result:
        limit = self._image_limit
        score = None if limit is None else calibrated_score(raw.raw_score, limit)
        map_limit = self._limit_of_map(raw)
        regions = (
            find_regions(raw.raw_map, map_limit.threshold, frame.size, lambda peak: calibrated_score(peak, map_limit))
            if raw.raw_map is not None and map_limit is not None
            else ()
        )
        calibrated = None if self.bank is None or self._manual else self.bank.record.calibration
        return Result(
            source=frame.source,
            camera=self.camera,
            frame=frame.index,
            time=iso_time(frame.time),
            text_score=raw.text_score,
            map_max=raw.map_max,
            raw_score=raw.raw_score,
            score=score,
            threshold=None if limit is None else 0.5,
            calibration=self.calibration,
            p_value=None if calibrated is None else p_value(raw.raw_score, calibrated),
            anomalous=None if limit is None else raw.raw_score > limit.threshold,
            regions=regions,
            latency_ms=(time.perf_counter() - started) * 1000,
            method=self.bundle.manifest.method,
            bundle=self.bundle.hash,
            bank=None if self.bank is None else self.bank.hash,
            engine=self.engine.name,
            precision=self.engine.precision,
            raw_map=raw.raw_map,
            map_threshold=None if map_limit is None else map_limit.threshold,
            map_normal=None if self._map_limit is None else math.exp(self._map_limit.mean),
            reason=raw.reason,
            marks=raw.marks,
        )

    def _limit_of_map(self, raw: RawScore) -> LimitRecord | None:
        """The map's own limit: calibrated like the score, or what the hand-set threshold leaves for the map.

        A pixel counts as anomalous under a hand-set threshold T when, were it the map's maximum, the frame would be;
        without a bank, where T is a probability, when its mean over the maps' probabilities is above T.
        """
        if not self._manual or self._image_limit is None or raw.map_max is None:
            return self._map_limit
        threshold = self._image_limit.threshold
        if self.bank is None and self._method.summed_maps:
            return manual_limit(threshold * self._method.summed_maps, None)
        return manual_limit(max(threshold - (raw.raw_score - raw.map_max), 1e-6), self._map_limit)


def roi_at_image_size(mask: NDArray[np.uint8] | None, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Region of interest at the bundle's image size.

    Args:
        mask: (H, W) uint8 at frame size, 0 or 255; None for the whole frame.
        size: rows and columns of the bundle's image.

    Raises:
        BadInputError: the region is so small that nothing of it is left.
    """
    if mask is None:
        return None
    inside: NDArray[np.bool_] = cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_AREA) >= 128  # noqa: PLR2004 - half of 255
    if not inside.any():
        message = (
            f"expected a region of interest of at least one pixel at {size[1]}x{size[0]}, found none; draw it larger."
        )
        raise BadInputError(message)
    return inside


def _text_of(bundle: Bundle, bank: Bank | None, object_name: str | None, text_file: Path | None) -> ChosenText:
    """A bank was calibrated with its own text, so that one is used."""
    if bank is None:
        return choose_text(bundle, object_name, text_file)
    if object_name is not None and object_name != bank.record.object:
        message = (
            f"expected --object {bank.record.object}, for which the bank was enrolled and calibrated, "
            f"found {object_name}; enrol again for another object."
        )
        raise UsageError(message)
    return ChosenText(bank.record.object, bank.features.get("text"), {})


def _limits(bank: Bank | None, threshold: float | None) -> tuple[LimitRecord | None, LimitRecord | None, str]:
    """Limits of image score and map, and the kind of calibration that results carry."""
    calibration = None if bank is None else bank.record.calibration
    image, map_ = (None, None) if calibration is None else (calibration.image, calibration.map)
    if threshold is not None:
        if not threshold > 0 or not np.isfinite(threshold):
            message = (
                f"expected --threshold to be a raw score above 0, found {threshold}; read raw_score in the results "
                "first."
            )
            raise UsageError(message)
        return manual_limit(threshold, image), map_, "manual"
    return image, map_, "none" if calibration is None else calibration.kind
