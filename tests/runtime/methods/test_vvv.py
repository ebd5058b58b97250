"""vvv on the device: formulas stated again, tiles settled by the first frame, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgevand.errors import UsageError
from edgevand_runtime.engines import EncoderOutput, Seen
from edgevand_runtime.methods import vvv
from edgevand_runtime.methods.base import Enrolled, Opening
from edgevand_runtime.methods.foreground import Tile, whole_picture
from edgevand_runtime.methods.vvv import Vvv, VvvSettings, combine_tiles, component_score, settle, told

DIM, CANVAS = 12, 32


def seen_as_vvv(**settings: Any) -> Any:
    return SimpleNamespace(settings=settings, image=SimpleNamespace(height=CANVAS, width=CANVAS))


def opened(text: Any, *, inside: Any = None, features: Any = None, **settings: Any) -> Vvv:
    options = VvvSettings.model_validate(settings)
    return Vvv(Opening(seen_as_vvv(**options.model_dump(mode="json")), options, text, features, inside))


@pytest.fixture
def text() -> Any:
    return np.random.default_rng(0).normal(0, 0.02, (2, DIM)).astype(np.float32)


def outputs(counts: tuple[int, ...], sizes: tuple[tuple[int, int], ...], seed: int = 1) -> EncoderOutput:
    random = np.random.default_rng(seed)
    embedding = random.normal(size=(sum(counts), DIM)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    maps = {"damage": random.uniform(0, 1, (sum(counts), 8, 8)).astype(np.float32)}
    return EncoderOutput(embedding, (), (), maps).of(Seen(counts, sizes))


def probability(embedding: Any, text: Any, tau: float) -> float:
    """Softmax over the two sides, as the report writes it."""
    logits = torch.from_numpy((text @ embedding) / tau).double()
    return float(logits.softmax(0)[1])


def test_a_component_scores_the_mean_of_its_tiles_and_a_picture_the_mean_of_its_highest_quarter(text: Any) -> None:
    tiles = tuple((component, 0, 0, 16) for component in (0, 0, 1, 2, 2, 2, 3, 4, 5, 6))
    found = outputs((len(tiles),), ((64, 64),))
    (raw,) = opened(text, tiles=tiles, frame=(64, 64)).score(found)
    by_component: dict[int, list[float]] = {}
    for (component, *_), embedding in zip(tiles, found.embedding, strict=True):
        by_component.setdefault(component, []).append(probability(embedding, text, 0.01))
    means = sorted(np.mean(each) for each in by_component.values())
    assert raw.raw_score == pytest.approx(np.mean(means[-2:]), abs=1e-5)  # ceil(7 / 4) = 2
    assert raw.text_score == raw.raw_score


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (3, 1), (4, 1), (5, 2), (8, 2), (9, 3), (100, 25)])
def test_a_quarter_of_the_components_is_rounded_up(count: int, kept: int) -> None:
    scores = np.random.default_rng(count).permutation(np.linspace(0, 1, count)).tolist()
    tiles = [Tile(number, 0, 0, 1) for number in range(count)]
    assert component_score(scores, tiles, 0.25) == pytest.approx(np.mean(sorted(scores)[-kept:]))


def test_the_map_is_the_mean_over_the_tiles_that_cover_a_pixel_and_zero_elsewhere() -> None:
    """On a frame of the map's own size, where no edge is rounded; each tile enlarged as torch enlarges it."""
    random = np.random.default_rng(2)
    damage = random.uniform(0, 1, (4, 8, 8)).astype(np.float32)
    scores = [0.9, 0.2, 0.6, 0.4]
    tiles = [Tile(0, 0, 0, 16), Tile(0, 8, 4, 16), Tile(1, 3, 9, 21), Tile(2, 20, 0, 8)]
    found = combine_tiles(damage, scores, tiles, (CANVAS, CANVAS), (CANVAS, CANVAS))
    fitted = [
        functional.interpolate(torch.from_numpy(each)[None, None], (tile.side, tile.side), mode="bilinear")[0, 0]
        for each, tile in zip(damage, tiles, strict=True)
    ]
    for y in range(CANVAS):
        for x in range(CANVAS):
            values = [
                score * float(each[y - tile.y, x - tile.x])
                for score, each, tile in zip(scores, fitted, tiles, strict=True)
                if tile.y <= y < tile.y + tile.side and tile.x <= x < tile.x + tile.side
            ]
            assert found[y, x] == pytest.approx(np.mean(values) if values else 0, abs=1e-5)


def test_a_tile_that_is_shrunk_on_the_map_gives_the_mean_of_what_it_covers() -> None:
    damage = np.random.default_rng(3).uniform(0, 1, (1, 8, 8)).astype(np.float32)
    found = combine_tiles(damage, [0.5], [Tile(0, 64, 32, 32)], (256, 256), (CANVAS, CANVAS))
    wanted = 0.5 * damage[0].reshape(4, 2, 4, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(found[4:8, 8:12], wanted, atol=1e-6)
    assert np.count_nonzero(found) == 16


def test_frames_of_one_batch_are_scored_apart(text: Any) -> None:
    """Without an enrolment every frame has the tiles of its own size."""
    sizes = ((64, 64), (96, 48), (40, 100))
    counts = tuple(len(whole_picture(size)) for size in sizes)
    assert counts == (1, 3, 4)
    found = outputs(counts, sizes)
    method = opened(text)
    together = method.score(found)
    start = 0
    for count, size, one in zip(counts, sizes, together, strict=True):
        rows = slice(start, start + count)
        alone = EncoderOutput(found.embedding[rows], (), (), {"damage": found.maps["damage"][rows]})
        (raw,) = method.score(alone.of(Seen((count,), (size,))))
        assert raw.raw_score == one.raw_score
        np.testing.assert_array_equal(raw.raw_map, one.raw_map)
        start += count


def test_enrolled_frames_are_scored_by_themselves_as_they_are_in_the_stream(text: Any) -> None:
    """No frame has a part in another's score, so leaving one out changes nothing."""
    tiles = ((0, 0, 0, 20), (1, 12, 8, 20))
    manifest = seen_as_vvv(tiles=tiles, frame=(32, 32))
    frames = [outputs((2,), ((32, 32),), seed) for seed in range(5)]
    kept = [Vvv.keep(manifest, each) for each in frames]
    features = {name: np.stack([each[name] for each in kept]) for name in kept[0]}
    method = opened(text, features=features, tiles=tiles, frame=(32, 32))
    for raw, each in zip(method.leave_out(range(5)), frames, strict=True):
        (wanted,) = method.score(each)
        assert raw.raw_score == pytest.approx(wanted.raw_score)
        assert raw.map_max == pytest.approx(wanted.map_max, abs=1e-3)  # maps are kept in half precision


def test_nothing_outside_the_region_of_interest_is_on_the_map(text: Any) -> None:
    inside = np.zeros((CANVAS, CANVAS), bool)
    inside[4:9, 10:20] = True
    (raw,) = opened(text, inside=inside).score(outputs((1,), ((64, 64),)))
    assert raw.raw_map is not None
    assert not raw.raw_map[~inside].any()
    assert raw.map_max == raw.raw_map.max() > 0


def test_tiles_follow_a_frame_of_another_size() -> None:
    manifest = seen_as_vvv(tiles=((0, 100, 50, 200), (1, 300, 200, 100)), frame=(400, 300))
    assert Vvv.boxes(manifest, (400, 300)) == ((100, 50, 200, 200), (300, 200, 100, 100))
    assert Vvv.boxes(manifest, (800, 600)) == ((200, 100, 400, 400), (600, 400, 200, 200))
    for x, y, width, height in Vvv.boxes(manifest, (123, 77)):
        assert x + width <= 123
        assert y + height <= 77


def test_a_bundle_without_text_is_refused() -> None:
    with pytest.raises(UsageError, match="expected text for vvv, found none"):
        opened(None)


def bundle(**settings: Any) -> Any:
    return SimpleNamespace(manifest=seen_as_vvv(**settings), whole=SimpleNamespace(files={}))


IMAGE = np.zeros((300, 500, 3), np.uint8)


def region(x: int, y: int, width: int, height: int) -> Any:
    mask = np.zeros(IMAGE.shape[:2], np.uint8)
    mask[y : y + height, x : x + width] = 255
    return mask


def test_without_dis_and_sam_the_tiles_are_cut_in_the_region_of_interest() -> None:
    settled = settle(bundle(side=64), IMAGE, region(100, 60, 80, 40))
    assert (settled.found, settled.frame, settled.tiles) == ("roi", (500, 300), ((0, 100, 40, 80),))


def test_without_a_region_of_interest_the_whole_picture_is_cut() -> None:
    settled = settle(bundle(), IMAGE, None)
    assert settled.found == "whole"
    assert settled.tiles == ((0, 0, 0, 300), (0, 150, 0, 300), (0, 200, 0, 300))


def test_foreground_and_region_of_interest_are_both_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    foreground = region(0, 0, 200, 200) > 0
    monkeypatch.setattr(vvv, "segmented", lambda *_: (foreground, [foreground]))
    settled = settle(bundle(side=16), IMAGE, region(150, 150, 200, 100))
    assert (settled.found, settled.tiles) == ("segmented", ((0, 150, 150, 50),))


def test_an_empty_foreground_falls_back_to_the_whole_picture_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vvv, "segmented", lambda *_: (np.zeros(IMAGE.shape[:2], bool), []))
    settled = settle(bundle(), IMAGE, None)
    assert settled.found == "empty"
    assert settled.tiles == tuple(tuple(tile) for tile in whole_picture((500, 300)))
    manifest = seen_as_vvv(**settled.model_dump(mode="json"))
    settings, (sentence,) = told(Enrolled(manifest, {}, [0], None))
    assert settings == settled
    assert sentence.startswith("3 tiles in 1 component, cut over the whole picture, as DIS and SAM found no foreground")


def test_a_foreground_that_nothing_can_find_is_refused() -> None:
    with pytest.raises(UsageError, match=r"expected DIS and SAM in the bundle .*, found none; prepare it with"):
        settle(bundle(foreground="segment"), IMAGE, None)
    with pytest.raises(UsageError, match="expected --roi for --set foreground=roi, found none; draw one"):
        settle(bundle(foreground="roi"), IMAGE, None)
