from __future__ import annotations

import numpy as np
import pytest

from edgevand.errors import UsageError
from edgevand_runtime.drawn.conveyor import ConveyorScene
from edgevand_runtime.sources import open_source
from edgevand_runtime.sources.conveyor import ConveyorOptions, ConveyorSource, LiveConveyorSource, parse_conveyor


def test_with_an_end_every_frame_counts_and_equals_the_drawing() -> None:
    source = open_source("test://conveyor?frames=4&seed=3&fps=20")
    assert isinstance(source, ConveyorSource)
    with source:
        frames = list(source)
    scene = ConveyorScene(seed=3, defect_rate=0.1)
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [frame.media_time for frame in frames] == [0, 0.05, 0.1, 0.15]
    for frame in frames:
        np.testing.assert_array_equal(frame.image, scene.frame(frame.index)[0])
    assert source.length == 4


def test_the_truth_of_a_frame_is_known_by_its_number() -> None:
    source = open_source("test://conveyor?frames=30&defects=0.5")
    assert isinstance(source, ConveyorSource)
    scene = ConveyorScene(seed=0, defect_rate=0.5)
    truths = {index: source.truth(index) for index in range(18, 30)}
    assert {truth is None for truth in truths.values()} == {True, False}
    for index, truth in truths.items():
        expected = scene.frame(index)[1]
        if truth is None or expected is None:
            assert truth is expected
        else:
            np.testing.assert_array_equal(truth, expected)


def test_without_an_end_it_is_a_live_camera_at_ten_frames_a_second() -> None:
    with open_source("test://conveyor") as source:
        assert isinstance(source, LiveConveyorSource)
        assert source.live
        first, second, third = (source.read(30) for _ in range(3))
        assert first is not None
        assert second is not None
        assert third is not None
        assert third.monotonic - first.monotonic >= 0.1
        np.testing.assert_array_equal(second.image, ConveyorScene().frame(second.index)[0])
        assert source.truth(0) is None


def test_a_live_belt_with_an_end_ends() -> None:
    with open_source("test://conveyor?frames=3&live=1&fps=200") as source:
        assert source.live
        assert [frame.index for frame in source][-1] == 2
        assert source.status().error is None


def test_parameters_are_read() -> None:
    assert parse_conveyor("test://conveyor") == ConveyorOptions(fps=10, frames=None, seed=0, defects=0.1, live=True)
    assert parse_conveyor("test://conveyor?fps=2.5&frames=7&seed=4&defects=0&live=1") == ConveyorOptions(
        fps=2.5, frames=7, seed=4, defects=0, live=True
    )
    assert parse_conveyor("test://conveyor?live=0") == ConveyorOptions(live=False)


@pytest.mark.parametrize(
    "query",
    ["?speed=3", "?fps=0", "?fps=nan", "?frames=0", "?defects=1.1", "?live=yes", "?seed=-1", "/belt", "?frames=x"],
)
def test_parameters_that_make_no_sense_are_refused(query: str) -> None:
    with pytest.raises(UsageError, match="test://conveyor"):
        open_source(f"test://conveyor{query}")
