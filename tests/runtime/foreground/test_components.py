"""Foreground and components against plain set operations and SciPy's labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from edgevand_runtime.foreground.components import components, overlapping


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


def test_components_are_those_of_scipy_with_corners_touching() -> None:
    foreground = np.logical_or.reduce(blobs(5, 12))
    foreground[0, 0], foreground[1, 1] = True, True
    labels, count = ndimage.label(foreground, np.ones((3, 3)))
    annotations = blobs(6, 60)
    wanted = []
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels == label
        if inside.sum() < 0.01 * foreground.size:
            continue
        parts = sum((each & inside).sum() >= 0.8 * each.sum() for each in annotations)
        box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        wanted.append((box, int(parts)))
    assert count > len(wanted) > 1
    assert [tuple(each) for each in components(foreground, annotations, 0.8, 0.01)] == wanted
    assert any(parts for _, parts in wanted)


def test_specks_below_a_thousandth_of_the_picture_are_dropped() -> None:
    foreground = np.zeros((100, 100), bool)
    foreground[10:13, 10:13] = True
    foreground[50:52, 50:55] = True
    found = components(foreground, [], 0.8, 0.001)
    assert [each.box for each in found] == [(50, 50, 5, 2)]
