from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevand_runtime.maps import sigmoid, top_mean, upsample


@pytest.mark.parametrize(
    ("grid", "size"), [((37, 37), (518, 518)), ((7, 5), (28, 31)), ((1, 4), (3, 8)), ((6, 6), (6, 6))]
)
def test_upsampling_equals_torch_bilinear_with_aligned_corners(grid: tuple[int, int], size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    maps = np.random.default_rng(0).standard_normal((2, *grid)).astype(np.float32)
    double = torch.from_numpy(maps)[None].double()  # in single precision torch itself is off by 2e-5
    expected = torch.nn.functional.interpolate(double, size, mode="bilinear", align_corners=True)
    np.testing.assert_allclose(upsample(maps, size), expected[0].numpy(), atol=2e-6)


def test_a_ramp_stays_a_ramp_and_keeps_its_corners() -> None:
    ramp = np.arange(5, dtype=np.float32)[None, None, :].repeat(3, axis=1)
    found = upsample(ramp, (4, 9))
    np.testing.assert_allclose(found[0], np.linspace(0, 4, 9, dtype=np.float32)[None].repeat(4, axis=0), atol=1e-6)


def test_a_single_patch_fills_the_map() -> None:
    np.testing.assert_array_equal(upsample(np.full((1, 1, 1), 3.0, np.float32), (2, 2)), np.full((1, 2, 2), 3.0))


@given(st.floats(-500, 500))
def test_the_sigmoid_of_the_difference_is_the_two_way_softmax(logit: float) -> None:
    exponentials = np.exp(np.array([0.0, logit], np.float64) - max(0.0, logit))
    found = sigmoid(np.array([logit], np.float32))[0]
    assert found == pytest.approx(exponentials[1] / exponentials.sum(), abs=1e-6)
    assert np.isfinite(found)


def test_the_top_mean_takes_the_highest_hundredth_and_at_least_one_value() -> None:
    values = np.random.default_rng(1).permutation(1369).astype(np.float32)
    assert top_mean(values, 0.01) == pytest.approx(np.arange(1369 - 13, 1369).mean())
    assert top_mean(np.array([1.0, 5.0, 2.0], np.float32), 0.01) == 5.0
