from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edgevand.errors import EndOfSourceError, FrameError, SourceError
from edgevand_runtime import shots as module
from edgevand_runtime.quality import Refusal
from edgevand_runtime.shots import RefusedFrame, Shot, ShotTaker
from edgevand_runtime.sources import Source, SourceStatus
from edgevand_runtime.sources.base import new_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.frame import Frame


def texture(seed: int, noise: float = 0.0) -> NDArray[np.uint8]:
    cells = np.random.default_rng(seed).integers(40, 215, (30, 40, 3), np.uint8)
    picture = cv2.resize(cells, (640, 480), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    shake = np.random.default_rng(round(noise * 1000)).normal(0, 2, picture.shape) if noise else 0
    return np.clip(np.round(picture + shake), 0, 255).astype(np.uint8)


class ListSource(Source):
    """Gives pictures; None is an unreadable one. With fps it is a stream."""

    def __init__(self, pictures: Sequence[NDArray[np.uint8] | None], fps: float | None = None) -> None:
        self.uri = "list"
        self.pictures = pictures
        self.fps = fps
        self.position = 0

    def read(self, timeout: float | None = None) -> Frame | None:
        index = self.position
        if index >= len(self.pictures):
            raise EndOfSourceError(self.uri)
        self.position += 1
        picture = self.pictures[index]
        if picture is None:
            raise FrameError(f"{index}.png", "broken")
        return new_frame(picture, index, f"{index}.png", None if self.fps is None else index / self.fps)

    def status(self) -> SourceStatus:
        return SourceStatus(connected=True, frames=self.position)

    def close(self) -> None:
        pass


def taker(source: Source, interval: float = 0.5) -> ShotTaker:
    return ShotTaker(source, interval, lambda _: None, lambda _: None)


def indices(found: Sequence[Shot]) -> list[int]:
    return [shot.frame.index for shot in found]


def test_the_first_k_fit_frames_are_taken_in_order_and_nothing_behind_them_is_read() -> None:
    source = ListSource([texture(seed) for seed in range(10)])
    found = taker(source)
    found.take(4)
    assert indices(found.shots) == [0, 1, 2, 3]
    assert source.position == 4
    assert [shot.group for shot in found.shots] == [0, 1, 2, 3]


def test_bad_frames_are_refused_each_with_its_reason() -> None:
    soft = np.asarray(cv2.GaussianBlur(texture(5), (0, 0), 20), np.uint8)
    dark = np.zeros((480, 640, 3), np.uint8)
    found = taker(ListSource([texture(0), None, soft, dark, texture(1)]))
    found.take(2)
    assert indices(found.shots) == [0, 4]
    assert [(r.index, r.reason.split(":")[0]) for r in found.refused] == [
        (1, "unreadable"),
        (2, "blurred"),
        (3, "too dark"),
    ]


def test_near_copies_wait_and_are_left_when_other_frames_come() -> None:
    found = taker(ListSource([texture(0), texture(0, 0.1), texture(0), texture(1)]))
    found.take(2)
    found.leave_copies()
    assert indices(found.shots) == [0, 3]
    assert [r.reason.split(":")[0] for r in found.refused] == ["near-copy", "repeated frame"]


def test_a_scene_that_stands_still_is_taken_as_copies_of_one_group() -> None:
    found = taker(ListSource([texture(0, 0.1 * n) for n in range(5)]))
    found.take(4)
    assert indices(found.shots) == [0, 1, 2, 3]
    assert {shot.group for shot in found.shots} == {0}


def test_frames_of_a_stream_keep_their_distance_in_time() -> None:
    found = taker(ListSource([texture(seed) for seed in range(30)], fps=10), interval=0.5)
    found.take(3)
    assert indices(found.shots) == [0, 5, 10]
    assert found.skipped == 8


def test_a_still_stream_is_not_waited_for_for_ever() -> None:
    source = ListSource([texture(0, 0.001 * n) for n in range(20)], fps=2)
    found = taker(source)
    found.take(4)
    assert len(found.shots) == 4
    assert source.position == 12


def test_a_stream_of_nothing_usable_is_given_up() -> None:
    source = ListSource([np.zeros((480, 640, 3), np.uint8)] * 1000, fps=2)
    found = taker(source)
    found.take(4)
    assert found.shots == []
    assert source.position == 40
    assert "all 40 were refused (the first: too dark" in str(found.nothing_taken())


def test_taking_all_takes_copies_too() -> None:
    found = taker(ListSource([texture(0), texture(0, 0.1), texture(1)]))
    found.take(None)
    assert sorted(indices(found.shots)) == [0, 1, 2]
    assert {shot.frame.index: shot.group for shot in found.shots} == {0: 0, 1: 0, 2: 1}


def test_a_shot_given_back_is_replaced_by_the_next_frame() -> None:
    told: list[Shot | RefusedFrame] = []
    found = ShotTaker(ListSource([texture(seed) for seed in range(5)]), 0.5, lambda _: None, told.append)
    found.take(3)
    found.refuse(found.shots[1], Refusal("out of place", 3.0, 2.0, "score"))
    found.take(3)
    assert indices(found.shots) == [0, 2, 3]
    assert [type(item).__name__ for item in told] == ["Shot", "Shot", "Shot", "RefusedFrame", "Shot"]


def test_a_live_source_that_sends_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(ListSource):
        live = True

        def read(self, timeout: float | None = None) -> Frame | None:
            return None

    monkeypatch.setattr(module, "_SILENCE", 0.05)
    with pytest.raises(SourceError, match="open but sends nothing"):
        taker(Silent([])).take(1)
