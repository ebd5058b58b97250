"""The pipeline keeps the order, passes failures and exceptions on, works ahead within bounds and stops when told."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from edgevand.errors import BadInputError
from edgevand_runtime.engines import EncoderOutput
from edgevand_runtime.pipeline import Failure, Scored, ahead, score_frames
from tests.runtime.streams import make_frame, make_result

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from edgevand_runtime.detector import Detector
    from edgevand_runtime.frame import Frame
    from edgevand_runtime.results import Result


class SlowDetector:
    """Scores a frame by its index; notes in which threads its steps ran and which batches it was given."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.batches: list[int] = []
        self.threads: dict[str, set[str]] = {"preprocess": set(), "encode": set(), "score": set()}
        self._seconds = seconds

    def _work(self, step: str) -> None:
        self.threads[step].add(str(threading.get_ident()))
        time.sleep(self._seconds)

    def preprocess(self, frame: Frame) -> Any:
        self._work("preprocess")
        return np.full((3, 2, 2), frame.index, np.float32)

    def encode(self, tensors: Sequence[Any]) -> EncoderOutput:
        self._work("encode")
        self.batches.append(len(tensors))
        return EncoderOutput(np.stack([tensor[:, 0, 0] for tensor in tensors]), (), ())

    def score(self, frames: Sequence[Frame], outputs: EncoderOutput, started: float) -> list[Result]:
        self._work("score")
        assert [frame.index for frame in frames] == outputs.embedding[:, 0].astype(int).tolist()
        assert started <= time.perf_counter()
        return [make_result(frame, score=frame.index / 1000) for frame in frames]


def run(detector: SlowDetector, items: Any, **options: Any) -> Generator[Scored | Failure, None, None]:
    return score_frames(cast("Detector", detector), items, **options)


@pytest.mark.parametrize("batch", [1, 3, 4, 50])
def test_results_come_in_the_order_of_the_input_with_failures_at_their_places(batch: int) -> None:
    items = [Failure("bad", i, "unreadable") if i % 5 == 2 else make_frame(i) for i in range(23)]
    found = list(run(SlowDetector(), iter(items), batch=batch))
    assert [one.frame if isinstance(one, Failure) else one.frame.index for one in found] == list(range(23))
    for number, one in enumerate(found):
        assert isinstance(one, Failure) == (number % 5 == 2)
        if isinstance(one, Scored):
            assert one.result.frame == number
            assert one.outputs.embedding[one.row, 0] == number


def test_batches_are_full_whatever_failures_lie_between_and_only_the_last_one_is_short() -> None:
    items = [Failure("bad", i, "unreadable") if i % 3 == 1 else make_frame(i) for i in range(15)]
    detector = SlowDetector()
    list(run(detector, iter(items), batch=4))
    assert detector.batches == [4, 4, 2]


def test_a_failure_before_the_first_frame_is_passed_on_at_once() -> None:
    def items() -> Iterator[Frame | Failure]:
        yield Failure("bad", 0, "unreadable")
        gate.wait(10)
        yield make_frame(1)

    gate = threading.Event()
    found = run(SlowDetector(), items(), batch=8)
    assert isinstance(next(found), Failure)
    gate.set()
    assert isinstance(next(found), Scored)


def test_each_step_has_its_own_thread() -> None:
    detector = SlowDetector()
    list(run(detector, map(make_frame, range(6))))
    owners = list(detector.threads.values())
    assert all(len(threads) == 1 for threads in owners)
    assert len(set.union(*owners)) == 3
    assert str(threading.get_ident()) not in set.union(*owners)


@pytest.mark.parametrize("step", ["preprocess", "encode", "score"])
def test_an_exception_of_any_step_reaches_the_caller_and_every_thread_ends(step: str) -> None:
    class Broken(SlowDetector):
        def _work(self, name: str) -> None:
            if name == step:
                raise BadInputError(f"{step} failed")

    before = set(threading.enumerate())
    with pytest.raises(BadInputError, match=f"{step} failed"):
        list(run(Broken(), map(make_frame, range(6))))
    assert not [thread for thread in set(threading.enumerate()) - before if thread.is_alive()]


def test_an_exception_of_the_source_comes_after_the_results_before_it() -> None:
    def items() -> Iterator[Frame]:
        yield make_frame(0)
        yield make_frame(1)
        raise BadInputError("the source broke")

    found: list[Any] = []
    with pytest.raises(BadInputError, match="the source broke"):
        found.extend(run(SlowDetector(), items()))
    assert [one.frame.index for one in found] == [0, 1]


def test_closing_it_half_way_closes_the_source_and_leaves_no_thread_behind() -> None:
    closed = threading.Event()

    def items() -> Iterator[Frame]:
        try:
            for index in range(10_000):
                yield make_frame(index)
        finally:
            closed.set()

    before = set(threading.enumerate())
    found = run(SlowDetector(), items())
    for _ in range(3):
        next(found)
    found.close()
    assert closed.is_set()
    assert not [thread for thread in set(threading.enumerate()) - before if thread.is_alive()]


def test_it_works_ahead_of_its_consumer_by_a_bounded_number_of_items() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    stream = ahead(items(), depth=3)
    assert next(stream) == 1
    deadline = time.monotonic() + 10
    while taken < 5 and time.monotonic() < deadline:  # one handed out, three waiting, one at the full queue
        time.sleep(0.01)
    time.sleep(0.05)
    assert taken == 5
    stream.close()
