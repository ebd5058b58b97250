"""Principal components by moments against scikit-learn, which is given every row at once."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from edgevand_runtime.methods.principal import Moments, Subspace, moments_of

RNG = np.random.default_rng(7)
MIXING = RNG.standard_normal((12, 12)) * np.geomspace(1, 0.01, 12)
ROWS = RNG.standard_normal((300, 12)) @ MIXING + RNG.standard_normal(12)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 0.999])
def test_the_residual_is_what_scikit_learns_pca_leaves_unexplained(share: float) -> None:
    oracle = PCA(n_components=share, svd_solver="full").fit(ROWS)
    found = Subspace.of(Moments.of(ROWS), share)
    assert found.components.shape == oracle.components_.T.shape
    queries = RNG.standard_normal((40, 12)) * 2
    unexplained = ((queries - oracle.inverse_transform(oracle.transform(queries))) ** 2).sum(axis=1)
    np.testing.assert_allclose(found.residual(queries.astype(np.float32)), unexplained, rtol=1e-5, atol=1e-6)


def test_moments_of_parts_add_up_to_those_of_all_rows_and_come_apart_again() -> None:
    parts = np.split(ROWS, [3, 50, 51, 200])
    whole = moments_of([part.reshape(1, -1, 12) for part in parts])
    assert whole.count == 300
    np.testing.assert_allclose(whole.mean, ROWS.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(whole.scatter / 299, np.cov(ROWS.T), rtol=1e-9, atol=1e-12)
    without = whole.minus(Moments.of(parts[1]))
    others = np.concatenate([parts[0], *parts[2:]])
    assert without.count == len(others)
    np.testing.assert_allclose(without.mean, others.mean(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(without.scatter / (len(others) - 1), np.cov(others.T), rtol=1e-7, atol=1e-10)
    assert whole.minus(whole).count == 0
    assert Moments.none(12).plus(Moments.none(12)).count == 0


def test_a_subspace_without_a_group_is_scikit_learns_of_the_others() -> None:
    left_out, others = ROWS[:80], ROWS[80:]
    found = Subspace.of(Moments.of(ROWS).minus(Moments.of(left_out)), 0.95)
    oracle = PCA(n_components=0.95, svd_solver="full").fit(others)
    unexplained = ((left_out - oracle.inverse_transform(oracle.transform(left_out))) ** 2).sum(axis=1)
    np.testing.assert_allclose(found.residual(left_out.astype(np.float32)), unexplained, rtol=1e-5, atol=1e-6)


def test_the_packed_scatter_is_half_as_large_and_comes_back_whole() -> None:
    whole = Moments.of(ROWS)
    packed = whole.packed()
    assert packed.shape == (78,)
    back = Moments.unpacked(whole.count, whole.mean, packed)
    np.testing.assert_array_equal(back.scatter, np.triu(whole.scatter) + np.triu(whole.scatter, 1).T)


def test_fewer_rows_than_values_span_what_they_span() -> None:
    rows = RNG.standard_normal((4, 12))
    found = Subspace.of(Moments.of(rows), 0.9999)
    assert found.components.shape == (12, 3)
    np.testing.assert_allclose(found.residual(rows.astype(np.float32)), 0, atol=1e-6)
    np.testing.assert_allclose(found.components.T @ found.components, np.eye(3), atol=1e-6)


def test_rows_that_are_all_alike_have_no_direction_and_the_distance_to_them_is_left() -> None:
    found = Subspace.of(Moments.of(np.ones((5, 3))), 0.99)
    assert found.components.shape == (3, 0)
    np.testing.assert_allclose(found.residual(np.array([[1, 1, 3]], np.float32)), [4])
