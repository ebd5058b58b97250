"""Camera faults are told from the part, and never where it is uncertain."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edgevand_runtime.camera_health import CameraHealth, HealthRule, View, shift_of_view
from edgevand_runtime.sources import open_source
from tests.runtime.streams import make_frame

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

SIZE = (320, 240)
STEP = 0.1  # seconds between the frames of make_frame


@lru_cache(maxsize=16)
def drawn(part: tuple[int, int] | None, *, rim: bool) -> NDArray[np.uint8]:
    """A machine with structure all round, and a part in the middle."""
    fixed = np.random.default_rng(7)
    image = np.full((SIZE[1], SIZE[0], 3), 120, np.uint8)
    if rim:
        for _ in range(160):
            x, y = int(fixed.integers(0, SIZE[0])), int(fixed.integers(0, SIZE[1]))
            if abs(x - 160) > 85 or abs(y - 120) > 60:
                colour = [int(value) for value in fixed.integers(20, 230, 3)]
                cv2.rectangle(
                    image, (x, y), (x + int(fixed.integers(3, 16)), y + int(fixed.integers(3, 16))), colour, -1
                )
    if part is not None:
        cv2.circle(image, part, 45, (40, 160, 220), -1)
        cv2.circle(image, part, 20, (10, 20, 60), -1)
        cv2.putText(image, "OK", (part[0] - 14, part[1] + 6), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (250, 250, 250), 1)
    return image


def scene(seed: int = 0, *, part: tuple[int, int] | None = (160, 120), rim: bool = True) -> NDArray[np.uint8]:
    """The machine, the same for every seed, with the sensor noise of one frame."""
    noise = np.random.default_rng(1000 + seed).integers(-3, 4, (SIZE[1], SIZE[0], 3), dtype=np.int16)
    return np.asarray(np.clip(drawn(part, rim=rim) + noise, 0, 255), np.uint8)


def move(image: NDArray[np.uint8], x: float, y: float) -> NDArray[np.uint8]:
    return np.asarray(
        cv2.warpAffine(image, np.array([[1, 0, x], [0, 1, y]], np.float32), SIZE, borderMode=cv2.BORDER_REFLECT),
        np.uint8,
    )


def blur(image: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def watch(
    health: CameraHealth, picture: Callable[[int], NDArray[np.uint8]], count: int, first: int = 0
) -> list[tuple[tuple[str, ...], bool]]:
    """The faults, and whether the part may be judged, for each of ``count`` frames at 10 fps."""
    answers: list[tuple[tuple[str, ...], bool]] = []
    for index in range(first, first + count):
        frame = make_frame(index, picture(index))
        answer = health.see(frame, frame.monotonic)
        answers.append((tuple(answer.faults), answer.trusted))
    return answers


@pytest.fixture
def health() -> CameraHealth:
    return CameraHealth([scene(seed) for seed in range(4)], SIZE)


def test_a_normal_view_has_no_fault(health: CameraHealth) -> None:
    assert set(watch(health, scene, 60)) == {((), True)}


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("a missing part", lambda index: scene(index, part=None)),
        ("a part that lies askew", lambda index: scene(index, part=(185, 135))),
        (
            "a hand over half the view",
            lambda index: cv2.rectangle(scene(index), (0, 60), (200, 240), (130, 160, 210), -1),
        ),
        (
            "a smeared part",
            lambda index: np.where(np.indices((240, 320, 3))[0] > 120, blur(scene(index), 5), scene(index)),
        ),
        ("dimmer light", lambda index: (scene(index) * 0.4).astype(np.uint8)),
    ],
)
def test_what_ails_the_part_is_no_fault_of_the_camera(
    health: CameraHealth, name: str, picture: Callable[[int], NDArray[np.uint8]]
) -> None:
    assert set(watch(health, picture, 60)) == {((), True)}, name


def test_a_part_missing_from_a_plain_view_is_no_blur() -> None:
    """Without the part the view loses its detail, but its coarse structure too."""
    health = CameraHealth([scene(seed, rim=False) for seed in range(4)], SIZE)
    assert set(watch(health, lambda index: scene(index, rim=False, part=None), 60)) == {((), True)}


def test_a_part_moved_before_a_plain_background_is_no_moved_view() -> None:
    health = CameraHealth([scene(seed, rim=False) for seed in range(4)], SIZE)
    assert set(watch(health, lambda index: scene(index, rim=False, part=(180, 130)), 60)) == {((), True)}


def test_a_black_view_is_a_fault_after_two_seconds_and_does_not_count_for_the_part_from_the_first_frame() -> None:
    health = CameraHealth([scene(seed) for seed in range(4)], SIZE)
    watch(health, scene, 5)
    answers = watch(health, lambda index: (scene(index) * 0.02).astype(np.uint8), 40, first=5)
    assert {trusted for _, trusted in answers} == {False}
    assert [faults for faults, _ in answers] == [()] * 20 + [("black",)] * 20
    after = [faults for faults, _ in watch(health, scene, 20, first=45)]
    assert after == [("black",)] * 10 + [()] * 10


def test_a_dark_scene_that_was_enrolled_dark_is_not_black() -> None:
    dark = [(scene(seed) * 0.05).astype(np.uint8) for seed in range(4)]
    assert set(watch(CameraHealth(dark, SIZE), lambda index: (scene(index) * 0.05).astype(np.uint8), 60)) == {
        ((), True)
    }


def test_a_lens_out_of_focus_is_blurred(health: CameraHealth) -> None:
    answers = watch(health, lambda index: blur(scene(index), 5), 80)
    assert [faults for faults, _ in answers] == [()] * 50 + [("blurred",)] * 30
    assert {trusted for _, trusted in answers} == {False}


@pytest.mark.parametrize(("x", "y"), [(22, 0), (-16, 13), (0, -20), (40, 10)])
def test_a_view_that_moved_is_told_with_how_far(health: CameraHealth, x: int, y: int) -> None:
    answers = watch(health, lambda index: move(scene(index), x, y), 80)
    assert [faults for faults, _ in answers] == [()] * 50 + [("moved",)] * 30
    assert [trusted for _, trusted in answers] == [True] * 50 + [False] * 30
    frame = make_frame(80, move(scene(80), x, y))
    sentence = health.see(frame, frame.monotonic).faults["moved"]
    assert f"{abs(x) / SIZE[0] * 100:.0f} %" in sentence
    assert ("left" if x < 0 else "right") in sentence


def test_the_shift_is_measured_to_a_pixel_and_its_arguments_stay_as_they_were() -> None:
    still, moved = View(scene(0)), View(move(scene(1), 12.0, -7.0))
    before = still.structure.copy()
    dx, dy, fit = shift_of_view(moved, still)
    assert dx * SIZE[0] == pytest.approx(12, abs=1)
    assert dy * SIZE[0] == pytest.approx(-7, abs=1)
    assert fit > 0.8
    assert np.array_equal(still.structure, before)


def test_identical_frames_are_frozen_after_fifteen_seconds(health: CameraHealth) -> None:
    still = scene(3)
    answers = watch(health, lambda _: still, 200)
    assert answers[150] == ((), True)
    assert answers[152] == (("frozen",), False)
    assert watch(health, scene, 1, first=200) == [((), True)]


def test_one_changed_pixel_is_a_living_camera(health: CameraHealth) -> None:
    def picture(index: int) -> NDArray[np.uint8]:
        image = scene(3)
        image[100, 100, 0] = index % 2
        return image

    assert set(watch(health, picture, 200)) == {((), True)}


def test_an_outage_is_lost_after_a_second_and_over_with_the_first_frame(health: CameraHealth) -> None:
    assert health.missing("cable", 1000.0).faults == {}
    assert health.missing("cable", 1000.9).faults == {}
    assert set(health.missing("cable", 1001.0).faults) == {"lost"}
    assert "cable" in health.missing("cable", 1001.2).faults["lost"]
    frame = make_frame(20, scene(1))
    assert health.see(frame, frame.monotonic).faults == {}


def test_a_fault_from_before_an_outage_is_found_anew(health: CameraHealth) -> None:
    watch(health, lambda index: (scene(index) * 0.02).astype(np.uint8), 30)
    assert set(health.missing("cable", 1003.0).faults) == {"black"}
    assert set(health.missing("cable", 1004.1).faults) == {"lost"}
    frame = make_frame(60, scene(1))
    assert health.see(frame, frame.monotonic).faults == {}


def test_frames_of_another_size_are_resized_and_not_judged(health: CameraHealth) -> None:
    frame = make_frame(0, scene(0)[:120])
    answer = health.see(frame, None)
    assert set(answer.faults) == {"resized"}
    assert "320x120" in answer.faults["resized"]
    assert not answer.trusted


def test_pictures_that_are_no_stream_have_no_health(health: CameraHealth) -> None:
    black = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    for index in range(300):
        answer = health.see(make_frame(index, black), None)
        assert answer.trusted
        assert not answer.faults


def test_without_a_bank_black_and_frozen_are_still_told() -> None:
    health = CameraHealth(rule=HealthRule(frozen=3.0))
    black = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    assert watch(health, lambda _: black, 40)[-1] == (("frozen", "black"), False)
    assert set(watch(CameraHealth(), lambda index: blur(scene(index), 8), 80)) == {((), True)}


def test_a_real_video_in_which_bottles_are_taken_away_has_no_camera_fault(shared_data: Path) -> None:
    """A hand comes in, bottles vanish, and the fixed camera is in order all the while."""
    with open_source(shared_data / "video" / "bottle-detection.mp4") as source:
        frames = [frame for frame in source if frame.index % 3 == 0]
    health = CameraHealth([frame.image for frame in frames[:50:6]], frames[0].size)
    assert {tuple(health.see(frame, frame.media_time).faults) for frame in frames} == {()}
    view = [frame.image for frame in frames[:50]]
    shifted = CameraHealth([move_by(image, 0.06) for image in view[::6]], frames[0].size)
    last = [shifted.see(frame, frame.media_time * 3).faults for frame in frames[:50] if frame.media_time is not None][
        -1
    ]
    assert set(last) == {"moved"}


def move_by(image: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    matrix = np.array([[1, 0, share * width], [0, 1, 0]], np.float32)
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8)
