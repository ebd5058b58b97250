"""Foreground and components against plain set operations."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgevand_runtime.methods.foreground.components import components, overlapping


def blobs(seed: int, count: int, size: tuple[int, int] = (60, 80)) -> list[Any]:
    """Rectangles at random places."""
    random = np.random.default_rng(seed)
    masks = []
    for _ in range(count):
        mask = np.zeros(size, bool)
        y, x = random.integers(0, size[0] - 4), random.integers(0, size[1] - 4)
        mask[y : y + random.integers(2, 20), x : x + random.integers(2, 20)] = True
        masks.append(mask)
    return masks


def pixels(mask: Any) -> set[tuple[int, ...]]:
    return set(map(tuple, np.argwhere(mask).tolist()))


def test_annotations_are_kept_by_their_share_inside_the_salient_object() -> None:
    annotations = blobs(0, 40)
    salient = np.logical_or.reduce(blobs(1, 8))
    wanted: set[tuple[int, ...]] = set()
    for each in annotations:
        if len(pixels(each) & pixels(salient)) >= 0.8 * len(pixels(each)):
            wanted |= pixels(each)
    assert wanted
    assert pixels(overlapping(salient, annotations, 0.8)) == wanted


def test_exactly_the_wanted_share_is_kept_and_less_is_not() -> None:
    salient = np.zeros((10, 10), bool)
    salient[:, :8] = True
    row = np.zeros((10, 10), bool)
    row[3] = True
    assert overlapping(salient, [row], 0.8).sum() == 10
    salient[3, 7] = False
    assert not overlapping(salient, [row], 0.8).any()


def test_an_object_that_no_annotation_lies_in_leaves_no_foreground() -> None:
    salient = np.zeros((10, 10), bool)
    salient[:2, :2] = True
    assert not overlapping(salient, [np.ones((10, 10), bool), np.zeros((10, 10), bool)], 0.8).any()


def pieces(mask: Any) -> list[set[tuple[int, ...]]]:
    """Sets of pixels that touch by a side or a corner, flooded one after another."""
    left, found = pixels(mask), []
    for start in sorted(left):
        if start not in left:
            continue
        piece, edge = {start}, [start]
        left.discard(start)
        while edge:
            y, x = edge.pop()
            near = {(y + down, x + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            piece |= near
            left -= near
            edge += near
        found.append(piece)
    return found


def test_components_are_the_pieces_that_touch_by_side_or_corner() -> None:
    foreground = np.logical_or.reduce(blobs(5, 12))
    foreground[0, 0], foreground[1, 1] = True, True
    annotations = blobs(6, 60)
    wanted = []
    for piece in pieces(foreground):
        if len(piece) < 0.01 * foreground.size:
            continue
        parts = sum(len(pixels(each) & piece) >= 0.8 * each.sum() for each in annotations)
        rows, columns = zip(*piece, strict=True)
        box = (min(columns), min(rows), max(columns) - min(columns) + 1, max(rows) - min(rows) + 1)
        wanted.append((box, int(parts)))
    assert len(pieces(foreground)) > len(wanted) > 1
    assert [tuple(each) for each in components(foreground, annotations, 0.8, 0.01)] == wanted
    assert any(parts for _, parts in wanted)


def test_specks_below_a_thousandth_of_the_picture_are_dropped() -> None:
    foreground = np.zeros((100, 100), bool)
    foreground[10:13, 10:13] = True
    foreground[50:52, 50:55] = True
    found = components(foreground, [], 0.8, 0.001)
    assert [each.box for each in found] == [(50, 50, 5, 2)]
