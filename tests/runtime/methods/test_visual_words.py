"""Words and layouts against scikit-learn and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.covariance import ledoit_wolf as sklearn_ledoit_wolf

from edgevand_runtime.methods.words import clustering
from edgevand_runtime.methods.words.clustering import inertia, k_means, nearest_word, some_rows
from edgevand_runtime.methods.words.layout import Layout, describe, ledoit_wolf
from edgevand_runtime.methods.words.reasons import place_name, reason_of

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("count", [3, 8, 16])
def test_clusters_are_as_tight_as_scikit_learns(count: int) -> None:
    rows = np.concatenate([RNG.normal(RNG.normal(0, 2, 6), 1, (80, 6)) for _ in range(8)]).astype(np.float32)
    centres = k_means(rows, count, np.random.default_rng(0))
    best = KMeans(count, n_init=10, random_state=0).fit(rows).inertia_
    single = [KMeans(count, n_init=1, random_state=seed).fit(rows).inertia_ for seed in range(9)]
    assert centres.shape == (count, 6)
    assert inertia(rows, centres) <= max(*single, best * 1.02)


def test_clusters_that_lie_apart_are_found_exactly() -> None:
    middles = np.array([[0, 0], [30, 0], [0, 30], [30, 30]], np.float32)
    rows = np.concatenate([middle + RNG.normal(0, 0.5, (50, 2)) for middle in middles]).astype(np.float32)
    centres = k_means(rows, 4, np.random.default_rng(1))
    oracle = KMeans(4, n_init=10, random_state=0).fit(rows)
    assert inertia(rows, centres) == pytest.approx(oracle.inertia_, rel=1e-5)
    order = np.lexsort(np.round(centres).T)
    wanted = oracle.cluster_centers_[np.lexsort(np.round(oracle.cluster_centers_).T)]
    np.testing.assert_allclose(centres[order], wanted, atol=1e-4)


def test_the_same_seed_gives_the_same_words_and_equal_rows_no_more_than_there_are() -> None:
    rows = RNG.normal(0, 1, (60, 4)).astype(np.float32)
    first, again = (k_means(rows, 7, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    twice = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    assert len(k_means(twice, 8, np.random.default_rng(0))) == 3


def test_the_nearest_word_is_the_one_at_the_least_distance() -> None:
    rows, centres = RNG.normal(0, 1, (5, 9, 4)).astype(np.float32), RNG.normal(0, 1, (6, 4)).astype(np.float32)
    wanted = np.linalg.norm(rows[..., None, :] - centres, axis=-1).argmin(axis=-1)
    np.testing.assert_array_equal(nearest_word(rows, centres), wanted)


def test_of_many_patches_an_even_choice_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "MOST_ROWS", 40)
    frames = [np.full((36, 2), number, np.float32) for number in range(10)]
    for number, frame in enumerate(frames):
        frame[:, 1] = np.arange(36)
        frame[:, 0] = number
    counted = np.arange(36) >= 6
    rows = some_rows(frames, counted)
    assert len(rows) <= 40
    assert set(rows[:, 0]) == set(range(10))
    assert rows[:, 1].min() >= 6
    assert len(set(rows[:, 1])) > 20  # of all frames together nearly every place


@pytest.mark.parametrize(("count", "width"), [(6, 20), (40, 10), (3, 50)])
def test_the_covariance_is_shrunk_as_scikit_learn_shrinks_it(count: int, width: int) -> None:
    rows = RNG.normal(0, 1, (count, width)) @ RNG.normal(0, 1, (width, width))
    wanted, _ = sklearn_ledoit_wolf(rows, assume_centered=True)
    np.testing.assert_allclose(ledoit_wolf(rows), wanted, rtol=1e-9, atol=1e-9)


def test_a_frame_is_described_as_a_plain_loop_describes_it() -> None:
    labels = RNG.integers(0, 3, (2, 5, 7))
    labels[1][labels[1] == 2] = 0  # the second frame does not hold word 2
    counted = RNG.random((5, 7)) < 0.8
    found = describe(labels, 3, counted)
    for frame in range(2):
        for word in range(3):
            places = [(y, x) for y in range(5) for x in range(7) if counted[y, x] and labels[frame, y, x] == word]
            assert found[frame, word, 0] == pytest.approx(np.sqrt(len(places) / counted.sum()))
            assert found[frame, word, 4] == pytest.approx(np.sqrt(pieces_of(set(places))))
            if not places:
                assert np.isnan(found[frame, word, 1:4]).all()
                continue
            y, x = np.array(places).T / 6
            spread = np.sqrt(x.var() + y.var())
            np.testing.assert_allclose(found[frame, word, 1:4], [x.mean(), y.mean(), spread], atol=1e-9)


def pieces_of(places: set[tuple[int, int]]) -> int:
    """Connected pieces by flooding, corners count."""
    left, count = set(places), 0
    while left:
        count += 1
        flood = [left.pop()]
        while flood:
            y, x = flood.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            flood += near
    return count


EVERYWHERE = np.ones((9, 9), bool)


def scene(*boxes: tuple[int, int], jitter: int = 0) -> np.ndarray:
    """(9, 9) ground 0 with 2 x 2 things of word 1 at rows and columns, all moved by ``jitter``."""
    labels = np.zeros((9, 9), np.intp)
    for row, column in boxes:
        labels[row : row + 2, column + jitter : column + jitter + 2] = 1
    return labels


USUAL = np.stack([scene((0, 0), (6, 6), jitter=jitter) for jitter in (0, 1, 0, 1, 0)])


def test_the_distance_is_mahalanobis_in_shrunk_deviations_and_words_add_up_to_it() -> None:
    layout = Layout(USUAL, 2, EVERYWHERE)
    found = layout.deviation(scene((0, 0)))
    described = describe(USUAL, 2, EVERYWHERE).reshape(5, -1)
    mean = described.mean(axis=0)
    deviations = np.sqrt(described.var(axis=0, ddof=1) + np.tile([0.02, 0.02, 0.02, 0.04, 0.2], 2) ** 2)
    covariance, _ = sklearn_ledoit_wolf((described - mean) / deviations, assume_centered=True)
    z = (describe(scene((0, 0))[None], 2, EVERYWHERE).ravel() - mean) / deviations
    squared = z @ np.linalg.inv(covariance + 1e-3 * np.eye(10)) @ z / 10
    assert found.distance == pytest.approx(np.sqrt(squared), rel=1e-6)
    assert found.parts.sum() == pytest.approx(squared, rel=1e-6)


def test_usual_frames_lie_near_and_wrong_ones_far() -> None:
    layout = Layout(USUAL, 2, EVERYWHERE)
    usual = max(layout.deviation(labels).distance for labels in USUAL)
    for wrong in (scene((0, 0)), scene((0, 0), (6, 6), (0, 6)), scene((0, 0), (6, 0)), np.zeros((9, 9), np.intp)):
        assert layout.deviation(wrong).distance > 3 * usual


def test_frames_that_are_all_alike_still_have_a_distance() -> None:
    layout = Layout(np.stack([scene((3, 3))] * 4), 2, EVERYWHERE)
    assert layout.deviation(scene((3, 3))).distance == 0
    assert np.isfinite(layout.deviation(scene((3, 5))).distance)
    assert reason_of(layout, layout.deviation(scene((3, 3)))) is None


def test_the_map_shows_where_something_is_missing_or_too_much() -> None:
    layout = Layout(USUAL, 2, EVERYWHERE)
    lacking = layout.paint(layout.deviation(scene((0, 0))))
    row, column = divmod(int(lacking.argmax()), 9)
    assert (row in {6, 7}, column) == (True, 7)
    doubled = layout.paint(layout.deviation(scene((0, 0), (6, 6), (0, 6))))
    assert doubled[0:2, 6:8].min() > 2 * doubled[6:8, 7].max()


@pytest.mark.parametrize(
    ("wrong", "sentence", "labels"),
    [
        (
            scene((0, 0), (6, 6), (0, 6)),
            "something at the upper right is there once too often (word 4)",
            ["one too many"],
        ),
        (np.zeros((9, 9), np.intp), "something at the upper left is missing (word 4)", ["missing"]),
        (
            scene((0, 0), (6, 0)),
            "something moved from the lower right to the lower left (word 4)",
            ["from here", "to here"],
        ),
        (scene((0, 0)), "something at the lower right is missing (word 4)", ["missing"]),
    ],
)
def test_the_reason_says_what_is_wrong_and_where(wrong: np.ndarray, sentence: str, labels: list[str]) -> None:
    layout = Layout(USUAL, 2, EVERYWHERE)
    # the ground's own part is left out: things are what people ask about
    reason = reason_of(layout, layout.deviation(wrong), first=2)
    assert reason is not None
    told = reason.sentence.replace("(word 3)", "(word 4)")
    assert told == sentence
    assert [label for label, _ in reason.boxes] == labels
    for _, (x, y, width, height) in reason.boxes:
        assert 0 <= x < x + width <= 1
        assert 0 <= y < y + height <= 1


def test_places_have_the_names_that_people_give_them() -> None:
    for number, name in enumerate(
        ["upper left", "top", "upper right", "left", "middle", "right", "lower left", "bottom", "lower right"]
    ):
        weights = np.zeros((9, 9), np.float32)
        weights[number // 3 * 3 + 1, number % 3 * 3 + 1] = 1
        assert place_name(weights) == name
