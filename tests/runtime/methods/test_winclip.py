"""winclip on the device: harmonic means and sums stated again, window by window."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgevand.errors import UsageError
from edgevand_runtime.engines import EncoderOutput
from edgevand_runtime.methods.base import Opening
from edgevand_runtime.methods.winclip import WinClip, WinClipSettings, covered

if TYPE_CHECKING:
    from edgevand_runtime.methods.base import RawScore

GRID, SIDE, DIM = (5, 6), 60, 10
SCALES = (2, 3)
GRIDS = [(GRID[0] - scale + 1, GRID[1] - scale + 1) for scale in SCALES]


def random(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).uniform(0.02, 1, shape).astype(np.float32)


def by_windows(values: Any, scale: int) -> Any:
    """For each patch the harmonic mean over the windows that it lies in, one at a time."""
    found = np.zeros(GRID)
    for row in range(GRID[0]):
        for column in range(GRID[1]):
            covering = [
                float(values[top, left])
                for top in range(values.shape[0])
                for left in range(values.shape[1])
                if top <= row < top + scale and left <= column < left + scale
            ]
            found[row, column] = len(covering) / sum(1 / max(each, 1e-6) for each in covering)
    return found


@pytest.mark.parametrize("scale", SCALES)
def test_a_patch_has_the_harmonic_mean_of_the_windows_that_cover_it(scale: int) -> None:
    windows = random(scale, 3, GRID[0] - scale + 1, GRID[1] - scale + 1)
    windows[1, 0, 0] = 0
    for found, each in zip(covered(windows, GRID), windows, strict=True):
        np.testing.assert_allclose(found, by_windows(each, scale), rtol=1e-5)


def opened(
    text: Any, *, inside: Any = None, terms: tuple[str, ...] = ("text", "memory-map"), **settings: Any
) -> WinClip:
    stages = [SimpleNamespace(grid=grid) for grid in (*GRIDS, GRID)]
    manifest: Any = SimpleNamespace(
        image=SimpleNamespace(height=SIDE, width=SIDE),
        stages=stages,
        logit_scale=100.0,
        score=SimpleNamespace(terms=terms),
    )
    return WinClip(Opening(manifest, WinClipSettings.model_validate(settings), text, None, inside))


@pytest.fixture
def text() -> Any:
    rows = np.random.default_rng(0).normal(size=(2, DIM)).astype(np.float32)
    rows[1] = rows[0] + 0.05 * rows[1]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def encoded(text: Any, frames: int = 2) -> tuple[EncoderOutput, list[Any], list[Any]]:
    """Outputs as the graph gives them, with the unit embeddings of pictures and windows that they came from."""
    generator = np.random.default_rng(5)

    def unit(*shape: int) -> Any:
        rows = generator.normal(size=(*shape, DIM)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    windows = [unit(frames, *grid) for grid in GRIDS]
    whole = unit(frames)
    logits = tuple(100 * (each @ text[1] - each @ text[0]) for each in windows)
    return EncoderOutput(whole, (), logits), list(whole), windows


def abnormal(embedding: Any, text: Any, tau: float) -> Any:
    return torch.from_numpy(embedding @ text.T / tau).double().softmax(-1)[..., 1].numpy()


def restated_text(whole: Any, windows: list[Any], text: Any, tau: float) -> tuple[float, Any]:
    score = float(abnormal(whole, text, tau))
    parts = [by_windows(abnormal(each, text, tau), scale) for each, scale in zip(windows, SCALES, strict=True)]
    return score, 3 / (1 / max(score, 1e-6) + sum(1 / np.maximum(each, 1e-6) for each in parts))


def enlarged(grid: Any) -> Any:
    return functional.interpolate(torch.from_numpy(grid)[None, None].float(), (SIDE, SIDE), mode="bilinear")[0, 0]


def map_of(raw: RawScore) -> Any:
    assert raw.raw_map is not None
    return raw.raw_map


@pytest.mark.parametrize("tau", [0.01, 0.07])
def test_zero_shot_is_the_harmonic_mean_of_both_scales_and_the_picture(text: Any, tau: float) -> None:
    found, whole, windows = encoded(text)
    raws = opened(text, temperature=tau).combine(found, None)
    for row, raw in enumerate(raws):
        score, grid = restated_text(whole[row], [each[row] for each in windows], text, tau)
        assert raw.raw_score == raw.text_score == pytest.approx(score, abs=1e-5)
        np.testing.assert_allclose(map_of(raw), enlarged(grid), atol=1e-5)


def test_few_shot_adds_the_mean_of_three_references_and_halves(text: Any) -> None:
    found, whole, windows = encoded(text)
    distances = [2 * random(7 + place, 2, grid[0] * grid[1]) for place, grid in enumerate((*GRIDS, GRID))]
    raws = opened(text).combine(found, distances)
    alone = opened(text, terms=("memory-map",)).combine(found, distances)
    for row, (raw, bare) in enumerate(zip(raws, alone, strict=True)):
        score, grid = restated_text(whole[row], [each[row] for each in windows], text, 0.01)
        halves = [each[row].reshape(shape) / 2 for each, shape in zip(distances, (*GRIDS, GRID), strict=True)]
        reference = (by_windows(halves[0], 2) + by_windows(halves[1], 3) + halves[2]) / 3
        assert raw.raw_score == pytest.approx((score + reference.max()) / 2, abs=1e-5)
        np.testing.assert_allclose(map_of(raw), enlarged((grid + reference) / 2), atol=1e-5)
        assert bare.raw_score == pytest.approx(reference.max(), abs=1e-5)
        np.testing.assert_allclose(map_of(bare), enlarged(reference), atol=1e-5)


def test_a_region_of_interest_limits_map_and_score(text: Any) -> None:
    found, _, _ = encoded(text, 1)
    distances = [np.full((1, grid[0] * grid[1]), 0.1, np.float32) for grid in (*GRIDS, GRID)]
    distances[2][0, -1] = 1.5  # the last patch, outside
    inside = np.zeros((SIDE, SIDE), bool)
    inside[:20, :20] = True
    (raw,) = opened(text, inside=inside, terms=()).combine(found, distances)
    assert raw.raw_score == pytest.approx(0.05)
    assert not map_of(raw)[~inside].any()


def test_a_bundle_without_text_is_refused() -> None:
    with pytest.raises(UsageError, match="expected text for winclip, found none"):
        opened(None)
