from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from edgevand.errors import UsageError
from edgevand_runtime import memory as memory_module
from edgevand_runtime import nearest as nearest_module
from edgevand_runtime.coreset import farthest
from edgevand_runtime.memory import MemoryBank

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAMES, COPIES = 5, 2
STAGES = ((9, 8), (4, 16))


def unit(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal(shape)
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows.astype(np.float32)


@pytest.fixture
def tokens() -> list[NDArray[np.float32]]:
    return [unit((FRAMES, COPIES, patches, width), seed) for seed, (patches, width) in enumerate(STAGES)]


def test_distances_are_one_minus_the_largest_cosine_of_scikit_learn(tokens: list[NDArray[np.float32]]) -> None:
    queries = [unit((3, patches, width), 10 + patches) for patches, width in STAGES]
    for found, stage, query in zip(MemoryBank(tokens).distances(queries), tokens, queries, strict=True):
        for n in range(3):
            similarity = cosine_similarity(query[n].astype(np.float64), stage.reshape(-1, stage.shape[-1]))
            np.testing.assert_allclose(found[n], 1 - similarity.max(axis=1), atol=1e-6)


def test_a_bank_larger_than_one_block_is_searched_whole() -> None:
    bank = unit((3, 1, 1700, 32), 3)
    query = unit((1, 40, 32), 4)
    similarity = cosine_similarity(query[0].astype(np.float64), bank.reshape(-1, 32))
    np.testing.assert_allclose(MemoryBank([bank]).distances([query])[0][0], 1 - similarity.max(axis=1), atol=1e-6)


def test_a_frame_of_the_bank_is_at_distance_zero_from_it_and_farther_once_left_out(
    tokens: list[NDArray[np.float32]],
) -> None:
    memory = MemoryBank(tokens)
    inside = memory.distances([stage[:, 0] for stage in tokens])
    assert all(np.abs(stage).max() < 1e-6 for stage in inside)
    assert all(stage.min() > 1e-3 for stage in memory.leave_out(range(FRAMES)))


def test_leaving_out_removes_the_frames_whole_group_and_all_their_copies(tokens: list[NDArray[np.float32]]) -> None:
    groups = [0, 0, 1, 2, 2]
    found = MemoryBank(tokens).leave_out(groups)
    for stage, distances in zip(tokens, found, strict=True):
        for frame, group in enumerate(groups):
            others = stage[[other for other, label in enumerate(groups) if label != group]]
            similarity = cosine_similarity(stage[frame, 0].astype(np.float64), others.reshape(-1, stage.shape[-1]))
            np.testing.assert_allclose(distances[frame], 1 - similarity.max(axis=1), atol=1e-6)


def test_the_nearest_patch_is_named_by_frame_copy_and_place(tokens: list[NDArray[np.float32]]) -> None:
    found = MemoryBank(tokens).nearest(1, tokens[1][3, 1, 2])
    assert found[:3] == (3, 1, 2)
    assert found.distance == pytest.approx(0, abs=1e-6)


def test_half_precision_tokens_are_searched_in_single_precision(tokens: list[NDArray[np.float32]]) -> None:
    halves = [stage.astype(np.float16) for stage in tokens]
    queries = [unit((1, patches, width), 7) for patches, width in STAGES]
    for found, stage, query in zip(MemoryBank(halves).distances(queries), halves, queries, strict=True):
        expected = 1 - (query[0].astype(np.float64) @ stage.reshape(-1, stage.shape[-1]).T.astype(np.float64)).max(
            axis=1
        )
        np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_a_bank_grown_from_a_smaller_one_finds_the_same_and_searches_only_the_further_frames(
    tokens: list[NDArray[np.float32]], monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[int] = []
    plain = nearest_module.largest_cosine

    def counted(rows: NDArray[np.float32], bank: NDArray[np.float32]) -> NDArray[np.float32]:
        searched.append(len(bank))
        return plain(rows, bank)

    expected = [MemoryBank([stage[:frames] for stage in tokens]) for frames in (1, 3, 5)]
    grown: list[MemoryBank] = []
    for frames in (1, 3, 5):
        grown.append(MemoryBank([stage[:frames] for stage in tokens], grown[-1] if grown else None))
    for seed in (20, 40):
        queries = [unit((2, patches, width), seed + patches) for patches, width in STAGES]
        monkeypatch.setattr(memory_module, "largest_cosine", counted)
        found = [bank.distances(queries) for bank in grown]
        monkeypatch.setattr(memory_module, "largest_cosine", plain)
        for ours, theirs in zip(found, expected, strict=True):
            for stage, other in zip(ours, theirs.distances(queries), strict=True):
                np.testing.assert_allclose(stage, other, atol=1e-6)
    per_frame = COPIES * sum(patches for patches, _ in STAGES)
    assert sum(searched) == 2 * FRAMES * per_frame
    assert [bank.frames for bank in grown] == [1, 3, 5]
    for stage, other in zip(grown[2].leave_out(range(5)), MemoryBank(tokens).leave_out(range(5)), strict=True):
        np.testing.assert_array_equal(stage, other)


def scene(width: int, patches: int, seed: int) -> NDArray[np.float32]:
    """Frames of one scene (F, 1 + A, P, C): each place has a direction of its own, about which frames vary."""
    rows = unit((1, 1, patches, width), seed) + 0.3 * unit((8, COPIES, patches, width), seed + 100)
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows.astype(np.float32)


@pytest.fixture
def frames() -> list[NDArray[np.float32]]:
    """Of two stages; 50 kB in single precision."""
    return [scene(16, 36, 0), scene(32, 9, 1)]


def megabytes(stages: list[NDArray[np.float32]], size: int) -> float:
    return sum(stage.size for stage in stages) * size / (1 << 20)


@pytest.mark.parametrize(
    ("share", "dtype", "whole"),
    [(4.0, np.float32, True), (3.99, np.float16, True), (2.0, np.float16, True), (1.99, np.float16, False)],
)
def test_rows_are_held_as_precisely_as_the_limit_allows_and_never_take_more(
    frames: list[NDArray[np.float32]], share: float, dtype: type, *, whole: bool
) -> None:
    limit = megabytes(frames, 1) * share
    bank = MemoryBank(frames, limit=limit)
    assert all(held.rows.dtype == dtype for held in bank.held)
    assert sum(held.rows.nbytes for held in bank.held) <= limit * (1 << 20)
    assert (bank.coreset is None) == whole


@pytest.mark.parametrize("layout", ["stacked", "list"])
def test_below_the_limit_every_row_is_searched(frames: list[NDArray[np.float32]], layout: str) -> None:
    given = frames if layout == "stacked" else [list(stage) for stage in frames]
    queries = [unit((2, stage.shape[2], stage.shape[3]), 50) for stage in frames]
    for size, tolerance in ((4, 1e-6), (2, 2**-11)):  # half precision rounds a vector by 2^-11 of its length at most
        bank = MemoryBank(given, limit=megabytes(frames, size))
        for found, stage, query in zip(bank.distances(queries), frames, queries, strict=True):
            similarity = query.astype(np.float64) @ stage.reshape(-1, stage.shape[-1]).T
            np.testing.assert_allclose(found, 1 - similarity.max(axis=-1), atol=tolerance)


def test_a_coreset_is_searched_like_a_bank_of_its_rows_and_stays_within_the_bound(
    frames: list[NDArray[np.float32]],
) -> None:
    bank = MemoryBank(frames, limit=megabytes(frames, 2) / 3)
    queries = [scene(16, 36, 2)[:, 0], frames[1][:, 1]]
    exact = MemoryBank(frames).distances(queries)
    assert bank.coreset is not None
    for stage, held, query, found, every, radius in zip(
        frames, bank.coreset, queries, bank.distances(queries), exact, bank.radius(), strict=True
    ):
        rows = stage.reshape(-1, stage.shape[-1])
        assert len(held.rows) == len(rows) // 3
        assert (np.diff(held.places) > 0).all()
        np.testing.assert_allclose(held.rows, rows[held.places], atol=1e-3)
        similarity = query.astype(np.float64) @ rows[held.places].T
        np.testing.assert_allclose(found, 1 - similarity.max(axis=-1), atol=1e-3)
        nearest = (rows.astype(np.float64) @ rows[held.places].T).max(axis=1)
        assert radius == pytest.approx((1 - nearest).max(), abs=1e-3)
        bounds = np.vectorize(farthest)(every, radius)
        assert (found <= bounds + 2e-3).all()


def test_a_coreset_names_frame_copy_and_place_among_all_rows(frames: list[NDArray[np.float32]]) -> None:
    bank = MemoryBank(frames, limit=megabytes(frames, 2) / 3)
    assert bank.coreset is not None
    for stage, (tokens, held) in enumerate(zip(frames, bank.coreset, strict=True)):
        assert held.places is not None
        for place in held.places[::5]:
            frame, copy, patch = np.unravel_index(place, tokens.shape[:3])
            found = bank.nearest(stage, tokens[frame, copy, patch])
            assert found[:3] == (frame, copy, patch)
            assert found.distance == pytest.approx(0, abs=1e-3)


def test_a_coreset_read_back_says_what_the_one_it_was_written_from_says(frames: list[NDArray[np.float32]]) -> None:
    made = MemoryBank(frames, limit=megabytes(frames, 2) / 3)
    read = MemoryBank(frames, held=made.coreset)
    queries = [unit((1, stage.shape[2], stage.shape[3]), 60) for stage in frames]
    for one, other in zip(made.distances(queries), read.distances(queries), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(made.leave_out(range(8)), read.leave_out(range(8)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_allclose(made.radius(), read.radius(), atol=1e-6)


def test_left_out_frames_are_held_against_a_coreset_of_the_others_and_not_against_the_holes_they_leave(
    frames: list[NDArray[np.float32]],
) -> None:
    """A coreset of the others made from scratch, of as many rows, says nearly the same; the rows that are left do not.

    All frames of a still scene have the same patches, of which one each is chosen.
    """
    still = [np.concatenate([stage[:1]] * 8) for stage in frames]
    bank = MemoryBank(still, limit=megabytes(still, 2) / 8)
    assert all(distances.max() < 2e-3 for distances in bank.leave_out(range(8)))

    bank = MemoryBank(frames, limit=megabytes(frames, 2) / 3)
    left = bank.leave_out(range(8))
    exact = bank.leave_out(range(8), every_row=True)
    for stage, radius in enumerate(bank.radius()):
        assert (left[stage] >= exact[stage] - 1e-3).all()
        scratch = []
        for frame in range(8):
            others = [np.delete(tokens, frame, axis=0) for tokens in frames]
            remade = MemoryBank(others, limit=megabytes(frames, 2) / 3)
            scratch.append(remade.distances([tokens[frame : frame + 1, 0] for tokens in frames])[stage][0])
        assert np.mean(left[stage]) == pytest.approx(np.mean(scratch), rel=0.1)
        assert (left[stage] <= np.vectorize(farthest)(exact[stage], radius) + 5e-2).all()


def test_frames_of_one_group_are_left_out_of_a_coreset_together(frames: list[NDArray[np.float32]]) -> None:
    groups = [0, 0, 1, 1, 2, 2, 3, 3]
    bank = MemoryBank(frames, limit=megabytes(frames, 2) / 2)
    others = MemoryBank([stage[2:] for stage in frames])
    own = [stage[:2, 0] for stage in frames]
    for left, least, some in zip(
        bank.leave_out(groups), others.distances(own), bank.leave_out(groups, [1, 5]), strict=True
    ):
        assert (left[:2] >= least - 1e-3).all()
        np.testing.assert_allclose(some, left[[1, 5]], atol=1e-6)
    for left in bank.leave_out([7] * 8):
        np.testing.assert_array_equal(left, 2.0)


def test_runs_of_frames_have_a_coreset_each_where_one_of_all_would_take_too_long(
    frames: list[NDArray[np.float32]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together they take the memory of one, cover every row, and leave a frame out as well."""
    limit = megabytes(frames, 2) / 3
    whole = MemoryBank(frames, limit=limit)
    monkeypatch.setattr(memory_module, "_PAIRS", 40_000)
    bank = MemoryBank(frames, limit=limit)
    assert bank.coreset is not None
    assert whole.coreset is not None
    for stage, one, of_whole, radius in zip(frames, bank.coreset, whole.coreset, bank.radius(), strict=True):
        assert len(one.rows) == len(of_whole.rows)
        assert one.places is not None
        assert (np.diff(one.places) > 0).all()
        rows = stage.reshape(-1, stage.shape[-1])
        np.testing.assert_allclose(one.rows, rows[one.places], atol=1e-3)
        nearest = (rows.astype(np.float64) @ rows[one.places].T).max(axis=1)
        assert (1 - nearest).max() - 1e-3 <= radius < 1
    assert bank.coreset[0].places is not None
    by_frame = np.bincount(bank.coreset[0].places // (COPIES * 36), minlength=8)  # runs of 3, 2 and 3 frames
    assert np.add.reduceat(by_frame, [0, 3, 5]).tolist() == [72, 48, 72]
    for left, exact, farther in zip(
        bank.leave_out(range(8)), bank.leave_out(range(8), every_row=True), bank.radius(), strict=True
    ):
        assert (left >= exact - 1e-3).all()
        assert (left <= np.vectorize(farthest)(exact, farther) + 5e-2).all()
    read = MemoryBank(frames, held=bank.coreset)
    np.testing.assert_allclose(read.radius(), bank.radius(), atol=1e-6)


def test_a_limit_without_room_for_a_row_of_each_stage_is_refused(frames: list[NDArray[np.float32]]) -> None:
    with pytest.raises(UsageError, match=r"expected the bank's memory to hold a patch of each stage, .* MB at least"):
        MemoryBank(frames, limit=16 / (1 << 20))


def test_a_search_takes_no_memory_once_the_first_is_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 3000 rows in half precision a block is 2 MB wide; what may stay is the distances themselves."""
    monkeypatch.setattr(nearest_module, "_WORTH_THREADS", 0)
    rows = unit((3, 1, 1000, 512), 0)
    bank = MemoryBank([rows], limit=3000 * 512 * 2 / (1 << 20))
    queries = [unit((1, 400, 512), 1)]
    for _ in range(8):  # each thread has taken a share by then
        bank.distances(queries)
    tracemalloc.start()
    bank.distances(queries)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60_000
