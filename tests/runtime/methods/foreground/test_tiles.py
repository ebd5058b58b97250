"""Tiles against the rules of methods.md (d), stated again."""

from __future__ import annotations

import numpy as np
import pytest

from edgevand_runtime.methods.foreground.components import Component
from edgevand_runtime.methods.foreground.tiles import Tile, TileRule, cut, whole_picture

RULE = TileRule()


def starts_by_the_table(length: int, side: int, step: float) -> list[int]:
    """0, step, 2 step, … as long as a tile begun there ends before the end; then one flush with it."""
    steps = [int(number * step) for number in range(10_000) if int(number * step) + side < length]
    return [*steps, length - side]


@pytest.mark.parametrize(
    ("box", "side"), [((600, 500, 100, 40), 352), ((600, 300, 420, 400), 420), ((500, 200, 90, 800), 800)]
)
def test_a_component_has_one_square_around_its_middle(box: tuple[int, int, int, int], side: int) -> None:
    (tile,) = cut([Component(box, 0)], (1600, 1200), RULE)
    assert tile.side == side == max(box[2], box[3], 352)
    x, y, width, height = box
    assert abs((tile.x + side / 2) - (x + width / 2)) <= 0.5
    assert abs((tile.y + side / 2) - (y + height / 2)) <= 0.5


@pytest.mark.parametrize("corner", [(0, 0), (1500, 0), (0, 1150), (1500, 1150)])
def test_a_tile_near_the_border_is_shifted_inside(corner: tuple[int, int]) -> None:
    (tile,) = cut([Component((*corner, 50, 50), 0)], (1600, 1200), RULE)
    assert tile == Tile(0, min(corner[0], 1600 - 352) if corner[0] else 0, 1200 - 352 if corner[1] else 0, 352)


def test_a_picture_smaller_than_a_tile_is_seen_in_tiles_of_its_shorter_side() -> None:
    (tile,) = cut([Component((20, 20, 60, 50), 0)], (300, 200), RULE)
    assert tile == Tile(0, 0, 0, 200)


@pytest.mark.parametrize("lying", [True, False])
@pytest.mark.parametrize(("long", "short"), [(1500, 400), (1400, 100), (1000, 600)])
def test_a_long_component_of_many_parts_is_tiled_by_half_its_short_axis(long: int, short: int, lying: bool) -> None:  # noqa: FBT001 - a parameter
    box = (40, 300, long, short) if lying else (300, 40, short, long)
    size = (1800, 1200) if lying else (1200, 1800)
    tiles = cut([Component(box, 21)], size, RULE)
    side = max(short, 352)
    wanted = [40 + start for start in starts_by_the_table(long, side, short / 2)]
    assert [tile.x if lying else tile.y for tile in tiles] == wanted
    assert {tile.y if lying else tile.x for tile in tiles} == {300 + (short - side) // 2}
    assert {tile.side for tile in tiles} == {side}


@pytest.mark.parametrize(("parts", "shape"), [(20, (900, 400)), (21, (600, 400))])
def test_few_parts_or_a_ratio_of_exactly_one_and_a_half_are_not_long(parts: int, shape: tuple[int, int]) -> None:
    assert len(cut([Component((100, 100, *shape), parts)], (1600, 1200), RULE)) == 1


def test_tiles_that_the_shorter_side_caps_cover_their_component_from_end_to_end() -> None:
    tiles = cut([Component((50, 0, 900, 300), 0)], (1000, 400), RULE)
    assert [tile.x for tile in tiles] == [50 + start for start in starts_by_the_table(900, 400, 200)]
    seen = np.zeros(1000, bool)
    for tile in tiles:
        seen[tile.x : tile.x + tile.side] = True
    assert seen[50:950].all()


@pytest.mark.parametrize("size", [(1000, 400), (400, 1000), (352, 352), (353, 352), (64, 48)])
def test_without_foreground_the_picture_is_one_component_in_steps_of_half_a_tile(size: tuple[int, int]) -> None:
    tiles = whole_picture(size)
    short, long = sorted(size)
    assert {tile.component for tile in tiles} == {0}
    assert {tile.side for tile in tiles} == {short}
    along = [tile.x if size[0] >= size[1] else tile.y for tile in tiles]
    assert along == starts_by_the_table(long, short, short / 2)


def test_every_tile_lies_inside_and_every_component_has_one() -> None:
    random = np.random.default_rng(1)
    for _ in range(300):
        size = tuple(int(each) for each in random.integers(30, 1500, 2))
        boxes = []
        for _ in range(5):
            x, y = (int(random.integers(0, side - 1)) for side in size)
            boxes.append((x, y, int(random.integers(1, size[0] - x + 1)), int(random.integers(1, size[1] - y + 1))))
        tiles = cut([Component(box, int(random.integers(0, 40))) for box in boxes], (size[0], size[1]), RULE)
        assert {tile.component for tile in tiles} == set(range(5))
        for tile in tiles:
            assert tile.side > 0
            assert 0 <= tile.x <= size[0] - tile.side
            assert 0 <= tile.y <= size[1] - tile.side
