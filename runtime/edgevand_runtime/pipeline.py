"""Decode, encode and search at the same time, results in the order of the input.

One primitive does it: ``ahead`` runs an iterator in a thread of its own and keeps a bounded number of its items
ready. The pipeline is three such threads, chained: read and preprocess, encode, search; the caller's own thread
writes. No stage waits for another one unless it is full or empty, an exception of any stage reaches the caller,
and closing the outermost iterator (Ctrl-C, an error, ``break``) stops and joins them all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from queue import Empty, Queue
from typing import TYPE_CHECKING, Generic, TypeVar

from edgevand_runtime.frame import Frame

if TYPE_CHECKING:
    from edgevand_runtime.detector import Detector
    from edgevand_runtime.engines import EncoderOutput
    from edgevand_runtime.preprocess import Prepared
    from edgevand_runtime.results import Result

__all__ = ["Failure", "Scored", "ahead", "score_frames"]

T = TypeVar("T")

_DRAIN_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Failure:
    """A frame or a source that could not be read.

    Attributes:
        source: path or URI.
        frame: its index in the source.
        message: the sentence for the user.
    """

    source: str
    frame: int
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A frame with its result.

    Attributes:
        frame: what was scored.
        result: its verdict.
        outputs: what the encoder said of the batch that the frame was in.
        row: the frame's place in that batch.
    """

    frame: Frame
    result: Result
    outputs: EncoderOutput
    row: int


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """A batch in the order of the input.

    Attributes:
        items: what was read.
        tensors: one for each frame among them.
        busy: seconds of work that went into it so far; waiting in a queue is no latency of the frame.
    """

    items: tuple[Frame | Failure, ...]
    tensors: tuple[Prepared, ...]
    busy: float

    @property
    def frames(self) -> list[Frame]:
        """The frames that could be read."""
        return [item for item in self.items if isinstance(item, Frame)]


@dataclass(frozen=True, slots=True)
class _Raised:
    """An exception on its way from a stage to its consumer."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class _Item(Generic[T]):
    """A value on its way from a stage to its consumer."""

    value: T


def score_frames(
    detector: Detector, items: Iterable[Frame | Failure], *, batch: int = 1, depth: int = 2
) -> Generator[Scored | Failure, None, None]:
    """Score frames as they are read; failures pass through at their place.

    Args:
        detector: what scores; its three steps are called from three threads, each from one only.
        items: frames and failures in order; read in a thread, and closed there if it is a generator.
        batch: frames that go through the encoder together.
        depth: batches that may wait before each stage.

    Yields:
        One item for each one read, in the same order.
    """
    prepared = ahead(_prepare(detector, items, batch), depth)
    encoded = ahead(_encode(detector, prepared), depth)
    found = ahead(_search(detector, encoded), depth)
    try:
        for group in found:
            yield from group
    finally:
        found.close()


def ahead(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """Iterate in a thread of its own, at most ``depth`` items ahead of the consumer.

    The thread starts with the first item asked for. An exception of ``items`` is raised at its place in the
    order. Closing the generator stops the thread after the item it is at, closes ``items`` there and joins it.
    """
    queue: Queue[_Item[T] | _Raised | None] = Queue(maxsize=depth)
    stop = threading.Event()
    thread = threading.Thread(target=_fill, args=(items, queue, stop), name="edgevand-ahead", daemon=True)
    thread.start()
    try:
        while (entry := queue.get()) is not None:
            if isinstance(entry, _Raised):
                raise entry.error
            yield entry.value
    finally:
        stop.set()
        while thread.is_alive():  # it may wait for a free place in the queue
            try:
                queue.get(timeout=_DRAIN_SECONDS)
            except Empty:
                continue
        thread.join()


def _fill(items: Iterable[T], queue: Queue[_Item[T] | _Raised | None], stop: threading.Event) -> None:
    """Body of the thread of ``ahead``."""
    iterator: Iterator[T] = iter(items)
    try:
        for value in iterator:
            queue.put(_Item(value))
            if stop.is_set():
                break
    except BaseException as error:  # noqa: BLE001 (it is raised again in the consumer's thread)
        queue.put(_Raised(error))
    finally:
        if isinstance(iterator, Generator):
            iterator.close()
        queue.put(None)


def _prepare(detector: Detector, items: Iterable[Frame | Failure], batch: int) -> Iterator[_Prepared]:
    """Read and preprocess; a batch is full when it holds ``batch`` frames, whatever failures lie between them."""
    held: list[Frame | Failure] = []
    tensors: list[Prepared] = []
    busy = 0.0
    try:
        for item in items:
            held.append(item)
            if isinstance(item, Frame):
                started = time.perf_counter()
                tensors.append(detector.preprocess(item))
                busy += time.perf_counter() - started
            if len(tensors) == batch or not tensors:
                yield _Prepared(tuple(held), tuple(tensors), busy)
                held, tensors, busy = [], [], 0.0
        if held:
            yield _Prepared(tuple(held), tuple(tensors), busy)
    finally:
        if isinstance(items, Generator):
            items.close()


def _encode(
    detector: Detector, batches: Generator[_Prepared, None, None]
) -> Generator[tuple[_Prepared, EncoderOutput | None], None, None]:
    """Run the encoder; a batch without any frame has no output."""
    try:
        for batch in batches:
            started = time.perf_counter()
            outputs = detector.encode(batch.tensors) if batch.tensors else None
            yield replace(batch, busy=batch.busy + time.perf_counter() - started), outputs
    finally:
        batches.close()


def _search(
    detector: Detector, batches: Generator[tuple[_Prepared, EncoderOutput | None], None, None]
) -> Generator[list[Scored | Failure], None, None]:
    """Turn encoder outputs into results and put the failures back at their places."""
    try:
        for batch, outputs in batches:
            group: list[Scored | Failure] = []
            results = [] if outputs is None else detector.score(batch.frames, outputs, time.perf_counter() - batch.busy)
            found = iter(enumerate(results))
            for item in batch.items:
                if isinstance(item, Failure):
                    group.append(item)
                elif outputs is not None:
                    row, result = next(found)
                    group.append(Scored(item, result, outputs, row))
            yield group
    finally:
        batches.close()
