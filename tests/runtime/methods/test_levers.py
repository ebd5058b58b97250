"""The pieces of april-gan's levers, each against a plain re-statement."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgevand_runtime.methods.levers.averaging import averaged
from edgevand_runtime.methods.levers.fusion import fused, scale_of


@pytest.mark.parametrize("side", [1, 3, 5])
@pytest.mark.parametrize("grid", [(4, 5), (1, 3), (2, 2)])
def test_a_patch_is_averaged_with_the_cells_around_it_that_there_are(side: int, grid: tuple[int, int]) -> None:
    rows, columns = grid
    tokens = np.random.default_rng(side).standard_normal((2, 3, rows * columns, 7)).astype(np.float32)
    tokens /= np.linalg.norm(tokens, axis=-1, keepdims=True)
    found = averaged(tokens, grid, side)
    assert found.shape == tokens.shape
    reach = side // 2
    for row in range(rows):
        for column in range(columns):
            around = [
                tokens[:, :, r * columns + c].astype(np.float64)
                for r in range(max(0, row - reach), min(rows, row + reach + 1))
                for c in range(max(0, column - reach), min(columns, column + reach + 1))
            ]
            mean = np.mean(around, axis=0)
            mean /= np.linalg.norm(mean, axis=-1, keepdims=True)
            np.testing.assert_allclose(found[:, :, row * columns + column], mean, atol=1e-5)


def test_a_term_is_measured_in_deviations_of_its_logarithm_and_a_probability_in_those_of_its_logit() -> None:
    distances, chances = [0.2, 0.3, 0.25, 0.4], [0.1, 0.2, 0.05, 0.3]
    scales = {"map": scale_of("map", distances), "text": scale_of("text", chances)}
    logs = [math.log(each) for each in distances]
    logits = [math.log(each / (1 - each)) for each in chances]
    assert scales["map"] == pytest.approx((np.mean(logs), np.std(logs, ddof=1)))
    assert scales["text"] == pytest.approx((np.mean(logits), np.std(logits, ddof=1)))
    z_map = (math.log(0.5) - np.mean(logs)) / np.std(logs, ddof=1)
    z_text = (math.log(0.6 / 0.4) - np.mean(logits)) / np.std(logits, ddof=1)
    terms = {"map": 0.5, "text": 0.6}
    for rule, together in (("mean", (z_map + z_text) / 2), ("max", max(z_map, z_text))):
        expected = math.exp(np.mean(logs) + np.std(logs, ddof=1) * together)
        assert fused(terms, scales, rule) == pytest.approx(expected, rel=1e-9)  # type: ignore[arg-type] # the two words


def test_the_map_alone_is_what_it_was() -> None:
    assert fused({"map": 0.37}, {"map": (-1.2, 0.3)}, "mean") == pytest.approx(0.37)


def test_frames_that_are_alike_have_no_deviation_of_nothing() -> None:
    assert scale_of("map", [0.3, 0.3, 0.3])[1] == 0.05


def test_a_probability_of_one_still_makes_a_number() -> None:
    assert math.isfinite(fused({"map": 1.9, "text": 1.0}, {"map": (-3.0, 2.0), "text": (-9.0, 0.05)}, "max"))
