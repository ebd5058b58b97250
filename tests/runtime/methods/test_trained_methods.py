"""SimpleNet and GCAD on the device: maps to scores, regions of interest, and held-out maps at enrolment."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]
from torch.nn import functional

from edgevand_runtime.engines import EncoderOutput
from edgevand_runtime.methods.base import Opening
from edgevand_runtime.methods.gcad import Gcad, GcadSettings
from edgevand_runtime.methods.grids import cells_inside, enlarge, gaussian, softplus
from edgevand_runtime.methods.held_out import unseen_maps
from edgevand_runtime.methods.simplenet import SimpleNet, SimpleNetSettings

RANDOM = np.random.default_rng(3)
GRID, SIDE = (6, 6), 48


def drawn(*shape: int) -> Any:
    return RANDOM.normal(size=shape).astype(np.float32)


def opened(kind: Any, settings: Any, *, inside: Any = None, features: Any = None, own: Any = None) -> Any:
    names = ("anomaly",) if kind is SimpleNet else ("local", "global")
    maps = [SimpleNamespace(name=name, grid=GRID) for name in names]
    manifest: Any = SimpleNamespace(image=SimpleNamespace(height=SIDE, width=SIDE), maps=maps)
    return kind(Opening(manifest, settings, None, features, inside, None, own or {}))


def output(**maps: Any) -> EncoderOutput:
    frames = len(next(iter(maps.values())))
    return EncoderOutput(np.empty((frames, 0), np.float32), (), (), maps)


@pytest.mark.parametrize(("grid", "size"), [((6, 6), (48, 48)), ((28, 28), (224, 224)), ((5, 7), (40, 63))])
def test_maps_are_enlarged_as_torch_enlarges_them(grid: tuple[int, int], size: tuple[int, int]) -> None:
    cells = drawn(*grid)
    wanted = functional.interpolate(torch.from_numpy(cells)[None, None], size=size, mode="bilinear")[0, 0].numpy()
    np.testing.assert_allclose(enlarge(cells, size), wanted, atol=1e-5)


def test_maps_are_smoothed_as_scipy_smooths_them() -> None:
    image = drawn(60, 50)
    np.testing.assert_allclose(gaussian(image, 4.0), gaussian_filter(image, 4.0), atol=1e-5)
    assert gaussian(image, 0.0) is image


def test_softplus_is_positive_monotone_and_does_not_overflow() -> None:
    values = np.array([-80, -1, 0, 1, 1000], np.float32)
    wanted = functional.softplus(torch.from_numpy(values).double(), threshold=30).numpy()
    np.testing.assert_allclose(softplus(values), wanted, rtol=1e-5)
    assert (softplus(values) > 0).all()


def test_a_cell_counts_as_inside_where_the_region_touches_it() -> None:
    inside = np.zeros((SIDE, SIDE), bool)
    inside[7:9, 20] = True
    assert np.argwhere(cells_inside(inside, GRID)).tolist() == [[0, 2], [1, 2]]


def test_simplenet_takes_the_highest_cell_and_smooths_the_map() -> None:
    cells = drawn(2, *GRID)
    for raw, each in zip(opened(SimpleNet, SimpleNetSettings()).score(output(anomaly=cells)), cells, strict=True):
        assert raw.raw_score == pytest.approx(np.log1p(np.exp(each.max())), abs=1e-5)
        large = functional.interpolate(torch.from_numpy(each)[None, None], size=(SIDE, SIDE), mode="bilinear")
        wanted = functional.softplus(torch.from_numpy(gaussian_filter(large[0, 0].numpy(), 4.0))).numpy()
        np.testing.assert_allclose(raw.raw_map, wanted, atol=1e-5)
        assert raw.map_max == pytest.approx(wanted.max(), abs=1e-5)


@pytest.mark.parametrize("kind", [SimpleNet, Gcad])
def test_what_lies_outside_the_region_of_interest_counts_nothing(kind: Any) -> None:
    maps = {"anomaly": drawn(1, *GRID)} if kind is SimpleNet else {n: drawn(1, *GRID) ** 2 for n in ("local", "global")}
    for each in maps.values():
        each[0, 0, 0] = 50
    inside = np.zeros((SIDE, SIDE), bool)
    inside[24:, 24:] = True
    settings = SimpleNetSettings() if kind is SimpleNet else GcadSettings()
    own = {"statistics": np.array([[1, 2], [3, 4]], np.float32)}
    (raw,) = opened(kind, settings, inside=inside, own=own).score(output(**maps))
    (whole,) = opened(kind, settings, own=own).score(output(**maps))
    assert raw.raw_score < 15 < whole.raw_score
    assert not raw.raw_map[~inside].any()
    assert raw.raw_map[inside].min() > 0


def test_gcad_sums_the_errors_in_deviations_and_is_0_where_nothing_errs() -> None:
    maps = {"local": drawn(1, *GRID) ** 2, "global": drawn(1, *GRID) ** 2}
    statistics = np.array([[0.5, 0.25], [0.1, 0.02]], np.float32)
    (raw,) = opened(Gcad, GcadSettings(), own={"statistics": statistics}).score(output(**maps))
    published = (maps["local"][0] - 0.5) / 0.25 + (maps["global"][0] - 0.1) / 0.02
    assert raw.raw_score == pytest.approx(published.max() + 0.5 / 0.25 + 0.1 / 0.02, rel=1e-5)
    still = {name: np.zeros_like(each) for name, each in maps.items()}
    (calm,) = opened(Gcad, GcadSettings(), own={"statistics": statistics}).score(output(**still))
    assert 0 < calm.raw_score < 1e-5
    assert not calm.raw_map.any()


def test_gcad_says_which_branch_speaks() -> None:
    own = {"statistics": np.array([[0, 1], [0, 1]], np.float32)}
    quiet = np.full((1, *GRID), 0.1, np.float32)
    loud = quiet.copy()
    loud[0, 2, 2] = 7
    (structure,) = opened(Gcad, GcadSettings(), own=own).score(output(**{"local": loud, "global": quiet}))
    (layout,) = opened(Gcad, GcadSettings(), own=own).score(output(**{"local": quiet, "global": loud}))
    (alone,) = opened(Gcad, GcadSettings(branches="local"), own=own).score(output(**{"local": quiet, "global": loud}))
    assert structure.reason == "structure is not as predicted (local branch, 7.0 deviations)"
    assert layout.reason == "the whole is not as predicted (global branch, 7.0 deviations)"
    assert alone.raw_score == pytest.approx(0.1)


def test_a_frame_of_the_training_counts_with_its_held_out_map_and_others_with_their_own() -> None:
    views = RANDOM.random((3, 8, 8)).astype(np.float32)
    own = {"views": views, "held_anomaly": drawn(3, *GRID)}
    seen_again = views[1] + np.float32(0.3 / 255)  # another decoder
    stranger = views[0] + np.float32(2 / 255)
    features = {"map_view": np.stack([stranger, seen_again]), "map_anomaly": drawn(2, *GRID)}
    maps = unseen_maps(features, own)
    assert list(maps) == ["anomaly"]
    np.testing.assert_array_equal(maps["anomaly"][0], features["map_anomaly"][0])
    np.testing.assert_array_equal(maps["anomaly"][1], own["held_anomaly"][1])
    method = opened(SimpleNet, SimpleNetSettings(), features=features, own=own)
    scores = [raw.raw_score for raw in method.leave_out([0, 1])]
    assert scores[1] == pytest.approx(np.log1p(np.exp(own["held_anomaly"][1].max())), abs=1e-5)
