from __future__ import annotations

import numpy as np

from edgevand_runtime.regions import find_regions


def identity(value: float) -> float:
    return value


def test_regions_are_connected_components_above_the_threshold_in_source_pixels_highest_first() -> None:
    raw = np.zeros((10, 20), np.float32)
    raw[1:3, 2:6] = 0.6
    raw[2, 3] = 0.7
    raw[6:9, 10:12] = 0.9
    found = find_regions(raw, 0.5, (40, 30), identity)
    assert [(r.x, r.y, r.w, r.h, r.area) for r in found] == [(20, 18, 4, 9, 36), (4, 3, 8, 6, 48)]
    np.testing.assert_allclose([r.peak for r in found], [0.9, 0.7], rtol=1e-6)


def test_diagonal_pixels_belong_together_and_the_threshold_itself_is_not_above() -> None:
    raw = np.eye(4, dtype=np.float32)
    assert len(find_regions(raw, 0.5, (4, 4), identity)) == 1
    assert find_regions(raw, 1.0, (4, 4), identity) == ()


def test_boxes_cover_whole_pixels_and_stay_inside_a_frame_smaller_than_the_map() -> None:
    raw = np.ones((112, 112), np.float32)
    (region,) = find_regions(raw, 0.5, (3, 2), identity)
    assert (region.x, region.y, region.w, region.h) == (0, 0, 3, 2)


def test_the_order_is_that_of_the_map_also_where_every_calibrated_peak_is_1() -> None:
    raw = np.zeros((10, 20), np.float32)
    raw[0, 0], raw[5, 5] = 3, 4
    first, second = find_regions(raw, 0.5, (20, 10), lambda _: 1.0)
    assert (first.x, second.x) == (5, 0)
