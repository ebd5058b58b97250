from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgevand.errors import UsageError
from edgevand_runtime import locality as locality_module
from edgevand_runtime.locality import LocalBank, radii
from edgevand_runtime.memory import MEGABYTE, MemoryBank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FRAMES, COPIES = 5, 2
GRIDS, WIDTHS = ((5, 7), (3, 4)), (6, 9)


def unit(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal(shape)
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows.astype(np.float32)


def naive(
    query: NDArray[Any], bank: NDArray[Any], grid: tuple[int, int], radius: int, kept: Sequence[int] = range(FRAMES)
) -> NDArray[np.float64]:
    """(P,) distances of one frame (P, C) to frames (F, 1 + A, P, C): every pair of patches, one after another."""
    rows, columns = grid
    found = np.full(rows * columns, 2.0)
    for patch in range(rows * columns):
        for other in range(rows * columns):
            down, right = abs(patch // columns - other // columns), abs(patch % columns - other % columns)
            if max(down, right) <= radius:
                for frame in kept:
                    for copy in bank[frame, :, other].astype(np.float64):
                        found[patch] = min(found[patch], 1 - float(query[patch].astype(np.float64) @ copy))
    return found


@pytest.fixture
def tokens() -> list[NDArray[np.float32]]:
    return [unit((FRAMES, COPIES, h * w, c), seed) for seed, ((h, w), c) in enumerate(zip(GRIDS, WIDTHS, strict=True))]


def queries(frames: int) -> list[NDArray[np.float32]]:
    return [unit((frames, h * w, c), 10 + c) for (h, w), c in zip(GRIDS, WIDTHS, strict=True)]


@pytest.mark.parametrize("radius", [0, 1, 2, 9])
def test_a_patch_is_compared_with_the_patches_around_its_place_and_no_others(
    tokens: list[NDArray[np.float32]], radius: int
) -> None:
    asked = queries(10)  # more than are searched at once
    found = LocalBank(tokens, GRIDS, radius).distances(asked)
    for stage, grid in enumerate(GRIDS):
        reach = radii(GRIDS, radius)[stage]
        for frame in (0, 9):
            expected = naive(asked[stage][frame], tokens[stage], grid, reach)
            np.testing.assert_allclose(found[stage][frame], expected, atol=1e-5)


def test_leaving_out_removes_the_frames_whole_group_and_all_their_copies(tokens: list[NDArray[np.float32]]) -> None:
    groups = [0, 0, 1, 2, 2]
    found = LocalBank(tokens, GRIDS, 1).leave_out(groups)
    for stage, grid in enumerate(GRIDS):
        for frame, group in enumerate(groups):
            kept = [other for other, label in enumerate(groups) if label != group]
            expected = naive(tokens[stage][frame, 0], tokens[stage], grid, 1, kept)
            np.testing.assert_allclose(found[stage][frame], expected, atol=1e-5)


def test_some_frames_alone_can_be_left_out(tokens: list[NDArray[np.float32]]) -> None:
    bank = LocalBank(tokens, GRIDS, 1)
    for some, every in zip(bank.leave_out(range(FRAMES), [3, 1]), bank.leave_out(range(FRAMES)), strict=True):
        np.testing.assert_array_equal(some, every[[3, 1]])


def test_a_radius_as_large_as_the_grid_is_the_search_of_everywhere(tokens: list[NDArray[np.float32]]) -> None:
    asked = queries(2)
    for near, every in zip(
        LocalBank(tokens, GRIDS, 7).distances(asked), MemoryBank(tokens).distances(asked), strict=True
    ):
        np.testing.assert_allclose(near, every, atol=1e-6)


def test_threads_and_half_precision_change_nothing_but_rounding(
    tokens: list[NDArray[np.float32]], monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = [list(stage.astype(np.float16)) for stage in tokens]  # as a spool gives them: frame by frame
    values = sum(stage.size for stage in tokens)
    asked = queries(3)
    expected = LocalBank([stage.astype(np.float16).astype(np.float32) for stage in tokens], GRIDS, 1).distances(asked)
    monkeypatch.setattr(locality_module, "THREADS", 3)
    monkeypatch.setattr(locality_module, "_WORTH_THREADS", 0)
    found = LocalBank(halves, GRIDS, 1, limit=values * 2 / MEGABYTE).distances(asked)
    for stage, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(stage, other, atol=1e-6)


def test_a_memory_without_room_for_every_patch_is_refused_with_what_it_would_take(
    tokens: list[NDArray[np.float32]],
) -> None:
    with pytest.raises(UsageError, match=r"every patch.*--bank-memory 1, or with --locality off"):
        LocalBank(tokens, GRIDS, 1, limit=0.001)


def test_the_radius_of_a_coarser_grid_covers_the_same_share_of_the_picture() -> None:
    assert radii([(28, 28), (14, 14), (7, 7)], 1) == (1, 1, 1)
    assert radii([(28, 28), (14, 14), (7, 7)], 4) == (4, 2, 1)
    assert radii([(28, 28), (14, 14), (7, 7)], 5) == (5, 3, 2)
    assert radii([(37, 37)] * 4, 0) == (0, 0, 0, 0)


@pytest.mark.parametrize("patch", [0, 17, 34])
def test_the_nearest_patch_is_named_by_frame_copy_and_place(tokens: list[NDArray[np.float32]], patch: int) -> None:
    query = unit((35, 6), 5)[patch]
    found = LocalBank(tokens, GRIDS, 1).nearest(0, query, patch)
    assert max(abs(found.patch // 7 - patch // 7), abs(found.patch % 7 - patch % 7)) <= 1
    named = tokens[0][found.frame, found.copy, found.patch]
    assert found.distance == pytest.approx(1 - float(named @ query), abs=1e-6)
    every = np.tile(query, (35, 1))
    assert found.distance == pytest.approx(naive(every, tokens[0], (5, 7), 1)[patch], abs=1e-5)
