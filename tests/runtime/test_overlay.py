"""Overlays can be read and compared: colours mean the same on every frame, boxes and words are where they belong."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edgevand_runtime.overlay import UNCALIBRATED_SCALE, draw_heat, draw_overlay, uncalibrated_scale
from edgevand_runtime.results import Region, Result
from tests.runtime.streams import make_frame, make_result
from tests.tiny import write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

GREY = np.full((480, 640, 3), 128, np.uint8)


def result(raw_map: NDArray[np.float32] | None, score: float | None = 0.2, **fields: object) -> Result:
    return replace(make_result(make_frame(0), score), **{"raw_map": raw_map, "regions": (), **fields})  # type: ignore[arg-type]


def ramp(top: float) -> NDArray[np.float32]:
    """A map (48, 64) that rises from 0 on the left to ``top`` on the right."""
    return np.tile(np.linspace(0, top, 64, dtype=np.float32), (48, 1))


def warmth(pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Red minus blue, of BGR."""
    return np.subtract(pixels[..., 2], pixels[..., 0], dtype=np.int16)


def test_a_value_has_the_same_colour_whatever_else_is_on_the_frame() -> None:
    quiet, loud = np.full((48, 64), 1.2, np.float32), np.full((48, 64), 1.2, np.float32)
    loud[:10, :10] = 9.0
    here = draw_heat(GREY, quiet, 1.0, 0.5)[400, 600]
    there = draw_heat(GREY, loud, 1.0, 0.5)[400, 600]
    assert here.tolist() == there.tolist()
    assert here.tolist() != [128, 128, 128]


def test_nothing_is_drawn_up_to_the_start_then_cool_colours_then_warm_ones_from_the_threshold() -> None:
    row = draw_heat(GREY, ramp(2.0), 1.0, 0.5)[240]
    at = np.linspace(0, 2.0, 640)
    assert (row[at < 0.49] == 128).all()
    assert (warmth(row[(at > 0.6) & (at < 0.98)]) < 0).all()
    assert (warmth(row[(at > 1.02) & (at < 1.5)]) > 0).all()


def test_the_colours_start_where_normal_frames_end_or_at_half_the_threshold_where_that_is_not_known() -> None:
    steps = np.linspace(0, 1.0, 640)
    for normal, start in ((0.8, 0.8), (None, 0.5), (0.99, 0.5), (3.0, 0.5)):
        drawn = draw_overlay(GREY, result(ramp(1.0), map_threshold=1.0, map_normal=normal))[200]
        touched = steps[(drawn != 128).any(axis=1)]
        assert touched.min() == pytest.approx(start, abs=0.05)


def test_a_line_runs_where_the_map_crosses_the_threshold() -> None:
    raw_map = np.zeros((48, 64), np.float32)
    raw_map[10:30, 20:50] = 3.0
    drawn = draw_heat(GREY, raw_map, 1.0, 0.5)
    white = (drawn.min(axis=2) > 240).nonzero()
    assert white[1].min() == pytest.approx(200, abs=12)
    assert white[1].max() == pytest.approx(500, abs=12)
    assert white[0].min() == pytest.approx(100, abs=12)


def test_the_frame_is_not_written_to_and_the_strip_hides_none_of_it() -> None:
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    before = image.copy()
    drawn = draw_overlay(image, result(np.zeros((8, 8), np.float32)))
    assert (image == before).all()
    assert (drawn[:480] == image).all()
    assert 480 < drawn.shape[0] < 560
    assert drawn.shape[1] == 640


def test_a_box_stands_around_each_region_at_its_place() -> None:
    region = Region(x=200, y=150, w=100, h=80, area=5000, peak=0.9)
    plain = draw_overlay(GREY, result(np.zeros((8, 8), np.float32)))
    boxed = draw_overlay(GREY, result(np.zeros((8, 8), np.float32), regions=(region,)))
    rows, columns = (plain != boxed).any(axis=2).nonzero()
    assert columns.min() == pytest.approx(200, abs=4)
    assert columns.max() == pytest.approx(300, abs=4)
    assert rows.max() == pytest.approx(230, abs=4)
    assert 100 < rows.min() < 150, "the label stands above the box"
    assert boxed[230 - 1, 250].min() > 240


def test_labels_of_regions_at_the_rim_stay_on_the_picture() -> None:
    corners = [(0, 0), (630, 0), (0, 470), (630, 470), (0, 240)]
    regions = tuple(Region(x=x, y=y, w=10, h=10, area=100, peak=0.7) for x, y in corners)
    whole = Region(x=0, y=0, w=640, h=480, area=640 * 480, peak=0.8)
    plain = draw_overlay(GREY, result(np.zeros((8, 8), np.float32)))
    for region in (*regions, whole):
        drawn = draw_overlay(GREY, result(np.zeros((8, 8), np.float32), regions=(region,)))
        assert drawn.shape == plain.shape
        dark = ((drawn != plain).any(axis=2) & (drawn.max(axis=2) < 60))[:480]
        assert dark.sum() > 200, "the ground of the label is there"


def test_verdicts_can_be_told_apart_by_their_colour() -> None:
    strips = [
        draw_overlay(GREY, result(None, score))[480:, :120].reshape(-1, 3).astype(int) for score in (0.9, 0.1, None)
    ]
    red, green, grey = (strip[strip.max(axis=1) > 90].mean(axis=0) for strip in strips)
    assert red[2] > red[1] + 40
    assert green[1] > green[2] + 20
    assert np.ptp(grey) < 25


def test_without_calibration_the_scale_is_fixed_and_is_that_of_the_bundle(tmp_path: Path) -> None:
    heads = write_tiny_bundle(tmp_path / "heads", heads=True, objects=["bottle"]).manifest
    plain = write_tiny_bundle(tmp_path / "plain").manifest
    assert uncalibrated_scale(heads, bank=False) == 0.5
    assert uncalibrated_scale(heads, bank=True) == 0.75
    assert uncalibrated_scale(plain, bank=True) == 0.25
    assert uncalibrated_scale(plain, bank=False) == UNCALIBRATED_SCALE
    steps = np.linspace(0, 2.0, 640)
    drawn = draw_overlay(GREY, result(ramp(2.0), None), uncalibrated_scale=0.6)[200]
    assert steps[(drawn != 128).any(axis=1)].min() == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (24, 16), (96, 96), (1200, 200), (4000, 3000)])
def test_frames_of_any_size_get_a_picture_whose_words_fit(size: tuple[int, int]) -> None:
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    region = Region(x=0, y=0, w=max(1, size[0] // 2), h=max(1, size[1] // 2), area=1, peak=0.5)
    drawn = draw_overlay(image, result(np.ones((8, 8), np.float32), 0.9, regions=(region,), map_threshold=0.5))
    assert drawn.dtype == np.uint8
    assert drawn.shape[1] % size[0] == 0
    assert drawn.shape[1] >= min(size[0], 480)
    assert cv2.imencode(".jpg", drawn)[0]


def test_a_map_with_infinities_or_nan_is_drawn_without_a_warning() -> None:
    raw_map = ramp(2.0)
    raw_map[0, :4] = (np.nan, np.inf, -np.inf, 1e30)
    with np.errstate(all="raise"):
        draw_overlay(GREY, result(raw_map, 0.9, map_threshold=1.0))
