from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from edgevand_runtime import memory as memory_module
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
    plain = memory_module.largest_cosine

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
