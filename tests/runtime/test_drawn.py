"""What the program draws is reproducible, and its truth is what can be seen."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from edgevand_runtime.drawn.catalogue import CATALOGUE, Product
from edgevand_runtime.drawn.conveyor import ConveyorScene
from edgevand_runtime.drawn.fields import box, circle, coverage, noise_tile, polygon, polyline
from edgevand_runtime.drawn.picture import VISIBLE

EVERY_DEFECT = [(name, kind) for name in CATALOGUE for kind in Product(name, 0, 64).kinds]


def _differing(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Largest difference of a channel, in grey levels."""
    return np.asarray(np.abs(one.astype(int) - other.astype(int)).max(axis=2))


def _assert_truth_is_visible(clean: np.ndarray, image: np.ndarray, truth: np.ndarray) -> None:
    """Outside the mask nothing visible differs, and what differs clearly is inside; only gaps of a pixel are closed."""
    assert truth.dtype == np.uint8
    assert set(np.unique(truth)) == {0, 255}
    difference = _differing(clean, image)
    assert difference[truth == 0].max() <= VISIBLE + 1  # one level of rounding
    inside = (difference >= VISIBLE - 1).astype(np.uint8)
    assert np.all(cv2.dilate(inside, np.ones((3, 3), np.uint8))[truth == 255])


@pytest.mark.parametrize(("name", "kind"), EVERY_DEFECT)
def test_truth_is_where_the_picture_differs_from_the_whole_part(name: str, kind: str) -> None:
    """Closed form: the same index drawn with and without the defect."""
    product = Product(name, 3, 96)
    clean, drawing = product.draw(5), product.draw(5, kind)
    assert drawing.defect == kind
    assert drawing.truth is not None
    _assert_truth_is_visible(clean.image, drawing.image, drawing.truth)


def test_a_defect_of_a_part_can_be_seen_at_full_size() -> None:
    """Every kind of defect shows on at least a four-thousandth of the picture, and on less than half of it."""
    for name in ("flange", "label"):
        product = Product(name, 1)
        for kind in product.kinds:
            truth = product.draw(0, kind).truth
            assert truth is not None
            assert 1 / 4000 <= np.count_nonzero(truth) / truth.size < 0.5, (name, kind)


def test_the_conveyor_is_a_function_of_seed_and_index() -> None:
    """Another scene of the same seed gives the same bytes in any order; another seed or index does not."""
    scene, again = ConveyorScene(4, 0.5, size=(320, 240)), ConveyorScene(4, 0.5, size=(320, 240))
    frames = [scene.frame(index) for index in range(20, 23)]
    for index in reversed(range(20, 23)):
        image, truth, kind = again.frame(index)
        first = frames[index - 20]
        assert np.array_equal(image, first[0])
        assert kind == first[2]
        assert np.array_equal(np.zeros(0) if truth is None else truth, np.zeros(0) if first[1] is None else first[1])
    assert not np.array_equal(scene.clean(20), scene.clean(21))
    assert not np.array_equal(scene.clean(20), ConveyorScene(5, 0.5, size=(320, 240)).clean(20))


def test_the_conveyors_truth_is_visible_and_its_start_is_clean() -> None:
    """With a rate of 1 every frame is defective but the first twenty."""
    scene = ConveyorScene(1, 1.0, size=(320, 240))
    for index in (0, 7, 19):
        image, truth, kind = scene.frame(index)
        assert truth is None
        assert kind is None
        assert np.array_equal(image, scene.clean(index))
    for index in range(20, 26):
        image, truth, kind = scene.frame(index)
        assert image.shape == (240, 320, 3)
        assert image.dtype == np.uint8
        assert kind in scene.kinds
        assert truth is not None
        _assert_truth_is_visible(scene.clean(index), image, truth)


def test_the_rate_of_defects_is_kept() -> None:
    """Of 200 draws at a rate of one tenth, 3 to 45 are defective (four deviations and more)."""
    assert all(ConveyorScene(0, 0.0, size=(64, 48)).frame(index)[2] is None for index in range(20, 60))
    scene = ConveyorScene(0, 0.1, size=(64, 48))
    defective = sum(scene.frame(index)[2] is not None for index in range(20, 220))
    assert 3 <= defective <= 45


def test_normal_frames_differ_slightly() -> None:
    """Pose, light and noise vary: small grey thumbnails differ by more than a level, so that no frame is a copy."""
    scene = ConveyorScene(2, size=(320, 240))
    small = [cv2.resize(scene.clean(index).mean(axis=2), (64, 64), interpolation=cv2.INTER_AREA) for index in range(6)]
    spread = [np.abs(one - other).mean() for one, other in itertools.pairwise(small)]
    assert min(spread) > 1
    assert max(spread) < 12


def test_distances_are_those_of_geometry() -> None:
    """Discs, boxes, polygons and lines against values worked out by hand."""
    at = np.array([[0.0, 3.0, 0.0, 2.0]], np.float32), np.array([[0.0, 4.0, 2.0, 0.0]], np.float32)
    assert circle(*at, 0, 0, 1)[0] == pytest.approx([-1, 4, 1, 1])
    assert box(*at, 0, 0, (1, 2))[0] == pytest.approx([-1, np.hypot(2, 2), 0, 1])
    assert polygon(*at, 0, 0, 1, 4)[0] == pytest.approx([-1, 3, 1, 1])
    assert polyline(*at, [(-1, 0), (1, 0), (1, 2)], 0.5)[0] == pytest.approx([-0.5, np.hypot(2, 2) - 0.5, 0.5, 0.5])
    assert coverage(np.array([-1, -0.25, 0, 0.25, 1], np.float32), 1.0) == pytest.approx([1, 0.75, 0.5, 0.25, 0])


def test_a_noise_tile_has_no_seam_and_unit_deviation() -> None:
    """Across the border it changes no more than inside."""
    tile = noise_tile(1, 1.5)
    assert tile.mean() == pytest.approx(0, abs=1e-4)
    assert tile.std() == pytest.approx(1, abs=1e-3)
    inside = np.abs(np.diff(tile, axis=1)).mean()
    assert np.abs(tile[:, 0] - tile[:, -1]).mean() < 1.5 * inside
    assert not tile.flags.writeable
