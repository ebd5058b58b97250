"""The picture of a frame that was judged wrongly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from edgevand_runtime.evaluation.pictures import draw_worst
from edgevand_runtime.results import Result

RESULT = Result(
    source="part.png",
    camera=None,
    frame=0,
    time="2026-11-24T11:20:18.000Z",
    text_score=None,
    map_max=1.0,
    raw_score=1.0,
    score=0.4,
    threshold=1.2,
    calibration="extrapolated",
    p_value=None,
    anomalous=False,
    regions=(),
    latency_ms=1.0,
    method="april-gan",
    bundle="sha256:0",
    bank=None,
    engine="fake",
    precision="fp32",
    raw_map=np.zeros((32, 32), np.float32),
    map_threshold=1.2,
)


def drawn(image: np.ndarray, mask: np.ndarray | None = None, **changes: Any) -> np.ndarray:
    jpeg = draw_worst(image, replace(RESULT, **changes), mask)
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def green(picture: np.ndarray) -> np.ndarray:
    """Where the outline's green is, (H, W) bool."""
    blue, *_ = channels = [picture[..., channel].astype(int) for channel in range(3)]
    return (channels[1] > 150) & (blue < 140) & (channels[2] < 140)


@pytest.mark.parametrize("size", [(60, 80), (300, 400), (2000, 1200), (10, 900)])
def test_frame_and_map_stand_side_by_side_whatever_the_size(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 120, np.uint8)
    picture = drawn(image)
    assert picture.shape[1] == 804
    height = round(size[0] * 400 / size[1])
    assert picture[: max(1, height - 4), 2:398].mean() == pytest.approx(120, abs=2)
    assert (image == 120).all()


def test_the_labelled_defect_is_outlined_on_the_frame_alone() -> None:
    image = np.full((300, 400, 3), 120, np.uint8)
    mask = np.zeros((300, 400), bool)
    mask[100:150, 200:260] = True
    left = green(drawn(image, mask))[:300, :400]
    assert left[:, 190:270].any()
    rows, columns = np.nonzero(left)
    assert 94 <= rows.min() <= 101
    assert 196 <= columns.min() <= 202
    assert not left[110:140, 212:248].any()
    assert not green(drawn(image, np.zeros((300, 400), bool)))[:, :400].any()
    assert (image == 120).all()


def test_the_map_colours_the_right_half() -> None:
    hot = np.zeros((32, 32), np.float32)
    hot[8:16, 8:16] = 3.0
    image = np.full((300, 400, 3), 120, np.uint8)
    difference = np.abs(drawn(image, raw_map=hot).astype(int) - drawn(image)).max(axis=2)[:300]
    assert difference[:, :400].max() < 8
    assert difference[75:150, 504:604].mean() > 20
