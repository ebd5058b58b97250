"""Once warm, a frame costs no large memory but its own map; and memory that is used again holds no older frame."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from edgevand.bundle import Bundle
from edgevand.home import builtin_bundle
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import open_engine
from edgevand_runtime.preprocess import to_tensor
from tests.runtime.streams import make_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.memory import MemoryBank

SMALL = 256 * 1024


class Nearby:
    """A memory bank that is searched without memory of its own: a patch's first channel is its distance."""

    def distances(self, queries: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        return [np.abs(stage[:, :, 0]) for stage in queries]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(builtin_bundle())


@pytest.fixture(params=["bank", "text"])
def detector(bundle: Bundle, request: pytest.FixtureRequest) -> Iterator[Detector]:
    memory = cast("MemoryBank", Nearby()) if request.param == "bank" else None
    with Detector(bundle, open_engine(bundle, device="cpu", threads=1), memory=memory) as detector:
        yield detector


@pytest.mark.parametrize("batch", [1, 2])
def test_a_frame_costs_no_large_memory_but_its_map(detector: Detector, batch: int) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 360, 640, 3), dtype=np.uint8)
    frames = [make_frame(number, picture) for number, picture in enumerate(pictures)]
    for _ in range(3):
        detector.detect(frames[:batch])
    tracemalloc.start()
    try:
        results: list[Any] = detector.detect(frames[:batch])
        held = results[0].raw_map.nbytes * batch
        before = tracemalloc.get_traced_memory()[0]
        peaks = []
        for number in range(5):
            tracemalloc.reset_peak()
            results = detector.detect([frames[number % 3], frames[0]][:batch])
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # The maps of the frames before are held while those of these are made; nothing else is large.
    assert max(peaks) < held + SMALL * batch
    assert after - before < SMALL


def test_frames_that_are_preprocessed_while_another_is_encoded_do_not_share_its_memory(bundle: Bundle) -> None:
    memory = cast("MemoryBank", Nearby())
    frames = [make_frame(number) for number in range(4)]
    expected = [to_tensor(frame.image, bundle.manifest.image) for frame in frames]
    with Detector(bundle, open_engine(bundle, device="cpu", threads=1), memory=memory) as detector:
        first = detector.preprocess(frames[0])
        second = detector.preprocess(frames[1])
        np.testing.assert_array_equal(first, expected[0])
        detector.encode([first])
        third = detector.preprocess(frames[2])
        assert np.shares_memory(third, first)
        np.testing.assert_array_equal(second, expected[1])
        np.testing.assert_array_equal(third, expected[2])


def test_results_keep_their_maps_when_later_frames_are_scored(detector: Detector) -> None:
    (first,) = detector.detect([make_frame(0)])
    assert first.raw_map is not None
    kept = first.raw_map.copy()
    detector.detect([make_frame(1)])
    np.testing.assert_array_equal(first.raw_map, kept)
