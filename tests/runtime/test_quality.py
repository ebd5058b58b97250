from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgevand_runtime.quality import NEAR_COPY, blurred, exposure_fault, look_at, nearest_look

if TYPE_CHECKING:
    from numpy.typing import NDArray


def texture(seed: int = 0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(40, 215, (60, 80, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC), np.uint8)


def grey(level: int) -> NDArray[np.uint8]:
    return np.full((480, 640, 3), level, np.uint8)


def test_a_frame_out_of_focus_is_blurred_beside_sharp_ones_and_says_by_how_much() -> None:
    sharp = [look_at(texture(seed)) for seed in range(4)]
    soft = look_at(np.asarray(cv2.GaussianBlur(texture(9), (0, 0), 6), np.uint8))
    refusal = blurred(soft, sharp)
    assert refusal is not None
    assert refusal.measure < refusal.limit
    assert str(refusal).startswith("blurred: sharpness ")
    assert all(blurred(look, sharp) is None for look in sharp)


def test_a_smooth_scene_is_not_blurred_beside_its_own_kind() -> None:
    smooth = [look_at(np.asarray(cv2.GaussianBlur(texture(seed), (0, 0), 6), np.uint8)) for seed in range(3)]
    assert all(blurred(look, smooth) is None for look in smooth)
    assert blurred(smooth[0], []) is None


def test_black_white_and_featureless_frames_are_refused_with_their_measure() -> None:
    faults = [exposure_fault(look_at(grey(level))) for level in (2, 254, 128)]
    assert [fault.reason for fault in faults if fault] == ["too dark", "too bright", "no contrast"]
    assert exposure_fault(look_at(texture())) is None


def test_sensor_noise_makes_a_near_copy_and_another_part_does_not() -> None:
    first = texture()
    noise = np.random.default_rng(1).normal(0, 2, first.shape)
    copy = np.clip(np.round(first + noise), 0, 255).astype(np.uint8)
    looks = [look_at(texture(7)), look_at(first)]
    near = nearest_look(look_at(copy), looks)
    assert near is not None
    assert near[0] == 1
    assert near[1] < NEAR_COPY
    assert look_at(first).difference(look_at(texture(7))) > NEAR_COPY
    assert look_at(first).difference(look_at(first.copy())) == 0
    assert nearest_look(look_at(first), []) is None
