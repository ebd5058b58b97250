"""The area under the ROC curve is scikit-learn's, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from edgevand.errors import UsageError
from edgevand_runtime.metrics import auroc


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=60))
def test_the_area_is_that_of_scikit_learn_on_any_labels_with_many_ties(pairs: list[tuple[bool, int]]) -> None:
    """Scores are drawn from seven values, so nearly every case holds ties across the classes."""
    labels, scores = [label for label, _ in pairs], [score for _, score in pairs]
    if len(set(labels)) == 1:
        assert auroc(labels, scores) is None
    else:
        assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_the_area_over_the_pixels_of_many_maps_is_that_of_scikit_learn() -> None:
    """Maps and masks go in as they are, of any shape."""
    generator = np.random.default_rng(3)
    masks = generator.random((5, 40, 30)) < 0.02
    maps = (generator.normal(size=masks.shape) + 2 * masks).astype(np.float32)
    assert auroc(masks, maps) == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)


def test_perfect_reversed_and_constant_scores_give_one_nought_and_one_half() -> None:
    """The closed forms."""
    labels = [0, 0, 1, 1, 1]
    assert auroc(labels, [1, 2, 3, 4, 5]) == 1.0
    assert auroc(labels, [5, 4, 3, 2, 1]) == 0.0
    assert auroc(labels, [7, 7, 7, 7, 7]) == 0.5


def test_the_scores_handed_in_are_not_reordered() -> None:
    """Sorting in place happens on a copy."""
    scores = np.array([3.0, 1.0, 2.0])
    auroc([0, 0, 1], scores)
    assert scores.tolist() == [3.0, 1.0, 2.0]


@pytest.mark.parametrize(("labels", "scores"), [([0, 1], [1.0]), ([0, 1], [1.0, float("nan")])])
def test_scores_that_do_not_fit_the_labels_are_refused_in_one_sentence(labels: list[int], scores: list[float]) -> None:
    """Neither a missing nor an unordered score is guessed."""
    with pytest.raises(UsageError, match="auroc needs"):
        auroc(labels, scores)
