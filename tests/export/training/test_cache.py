from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from edgevand_export.training import cache as cache_module
from edgevand_export.training.cache import MASK, Encoded, TokenCache
from edgevand_export.training.run import train
from tests.export.training.workshop import Silent, Workshop

SHAPES = {"stage.2": (4, 3), "stage.4": (1, 5), MASK: (2, 2)}
KEYS = ["a" * 64, "b" * 64, "c" * 64]


def encoded(seed: int = 0) -> Encoded:
    random = np.random.default_rng(seed)
    tokens = tuple(random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items() if name != MASK)
    return Encoded(tokens, random.integers(0, 2, SHAPES[MASK]).astype(np.uint8))


def opened(folder: Path, limit: int = 1 << 30) -> TokenCache:
    return TokenCache(folder, limit, SHAPES, np.dtype(np.float32))


def shards(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/*") if path.is_file())


def same(one: Encoded | None, other: Encoded) -> bool:
    return one is not None and all(
        a.dtype == b.dtype and np.array_equal(a, b)
        for a, b in zip((*one.tokens, one.mask), (*other.tokens, other.mask), strict=True)
    )


def test_what_was_stored_comes_back_in_another_process(tmp_path: Path) -> None:
    opened(tmp_path).store(KEYS[0], encoded())
    later = opened(tmp_path)
    assert same(later.load(KEYS[0]), encoded())
    assert later.load(KEYS[1]) is None
    assert later.figures.bytes == sum(path.stat().st_size for path in shards(tmp_path))


def test_a_shard_cut_off_anywhere_is_never_used(tmp_path: Path) -> None:
    opened(tmp_path).store(KEYS[0], encoded())
    (path,) = shards(tmp_path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        later = opened(tmp_path)
        assert later.load(KEYS[0]) is None
        assert later.figures.damaged == 1
        assert not path.exists()


def test_a_shard_with_any_bit_changed_is_never_used_as_something_else(tmp_path: Path) -> None:
    opened(tmp_path).store(KEYS[0], encoded())
    (path,) = shards(tmp_path)
    whole = path.read_bytes()
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        loaded = opened(tmp_path).load(KEYS[0])
        assert loaded is None or same(loaded, encoded()), position  # a space of the header may become another one


def test_a_shard_under_anothers_name_or_of_another_shape_is_never_used(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.store(KEYS[0], encoded())
    (path,) = shards(tmp_path)
    other = tmp_path / KEYS[1][:2] / f"{KEYS[1]}.safetensors"
    other.parent.mkdir()
    other.write_bytes(path.read_bytes())
    assert opened(tmp_path).load(KEYS[1]) is None
    assert not other.exists()
    wider = TokenCache(tmp_path, 1 << 30, {**SHAPES, "stage.4": (5, 1)}, np.dtype(np.float32))
    assert wider.load(KEYS[0]) is None


def test_half_precision_takes_half_the_place_and_is_told_apart(tmp_path: Path) -> None:
    half = TokenCache(tmp_path, 1 << 30, SHAPES, np.dtype(np.float16))
    tokens, mask = encoded()
    half.store(KEYS[0], Encoded(tuple(each.astype(np.float16) for each in tokens), mask))
    assert half.load(KEYS[0]) is not None
    assert opened(tmp_path).load(KEYS[0]) is None


def test_what_this_run_has_not_used_gives_way_oldest_first(tmp_path: Path) -> None:
    before = opened(tmp_path)
    for number, key in enumerate(KEYS[:2]):
        before.store(key, encoded(number))
        os.utime(before._path(key), (1000 + number, 1000 + number))
    size = shards(tmp_path)[0].stat().st_size
    now = opened(tmp_path, limit=2 * size)
    now.store(KEYS[2], encoded(2))
    assert [path.stem for path in shards(tmp_path)] == KEYS[1:]
    assert now.figures.bytes == 2 * size


def test_a_full_cache_keeps_what_this_run_uses_and_takes_no_more(tmp_path: Path) -> None:
    size = len(Path(shards_of_one(tmp_path)).read_bytes())
    cache = opened(tmp_path / "full", limit=2 * size)
    for number, key in enumerate(KEYS):
        cache.store(key, encoded(number))
    assert [path.stem for path in shards(tmp_path / "full")] == KEYS[:2]
    assert (cache.figures.stored, cache.figures.refused) == (2, 1)


def shards_of_one(folder: Path) -> Path:
    opened(folder / "one").store(KEYS[0], encoded())
    return shards(folder / "one")[0]


def test_what_a_killed_run_left_unfinished_is_removed_once_it_is_old(tmp_path: Path) -> None:
    folder = tmp_path / "aa"
    folder.mkdir()
    for name, age in ((".old.partial", 0), (".young.partial", None)):
        (folder / name).write_bytes(b"half")
        if age is not None:
            os.utime(folder / name, (age, age))
    opened(tmp_path)
    assert [path.name for path in shards(tmp_path)] == [".young.partial"]


def test_a_full_disk_ends_the_filling_with_one_warning_and_no_leavings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cache = opened(tmp_path)
    monkeypatch.setattr(Path, "write_bytes", full)
    for key in KEYS:
        cache.store(key, encoded())
    assert shards(tmp_path) == []
    assert (cache.figures.stored, cache.figures.refused, cache.figures.bytes) == (0, 3, 0)
    assert caplog.text.count("the disk is full") == 1


def test_a_training_survives_a_cache_that_was_damaged_all_over(workshop: Workshop, tmp_path: Path) -> None:
    train(workshop.options(tmp_path / "first"), Silent())
    for number, path in enumerate(shards(tmp_path / "cache")):
        data = bytearray(path.read_bytes())
        data[-5 - number] ^= 0x40
        path.write_bytes(data[: -1 if number % 2 else None])
    result = train(workshop.options(tmp_path / "second"), Silent())
    assert result.cache is not None
    assert result.cache["damaged"] == len(shards(tmp_path / "cache")) > 0
    heads = [(tmp_path / name / "heads.safetensors").read_bytes() for name in ("first", "second")]
    assert heads[0] == heads[1]


@pytest.mark.parametrize("change", ["image_size=40", "stages=1,2", "tokens=float16"])
def test_runs_that_need_other_tokens_share_no_shard(change: str, workshop: Workshop, tmp_path: Path) -> None:
    train(workshop.options(tmp_path / "first", "epochs=1", "mosaic=0"), Silent())
    watcher = Silent()
    train(workshop.options(tmp_path / "second", "epochs=1", "mosaic=0", change), watcher)
    assert (watcher.epochs[0].encoded, watcher.epochs[0].cached) == (14, 0)


def test_runs_that_need_the_same_tokens_share_them(workshop: Workshop, tmp_path: Path) -> None:
    train(workshop.options(tmp_path / "first", "epochs=1", "mosaic=0"), Silent())
    watcher = Silent()
    train(workshop.options(tmp_path / "second", "epochs=1", "mosaic=0", "lr=0.1", "seed=5"), watcher)
    assert (watcher.epochs[0].encoded, watcher.epochs[0].cached) == (0, 14)


def test_a_picture_that_was_changed_is_encoded_again(workshop: Workshop, tmp_path: Path) -> None:
    from tests.export.training.workshop import draw_dataset, save

    draw_dataset(tmp_path / "data")
    train(workshop.options(tmp_path / "first", "epochs=1", "mosaic=0", data=tmp_path / "data"), Silent())
    save(tmp_path / "data" / "disc" / "test" / "good" / "000.png", np.full((60, 80, 3), 90, np.uint8))
    watcher = Silent()
    train(workshop.options(tmp_path / "second", "epochs=1", "mosaic=0", data=tmp_path / "data"), watcher)
    assert (watcher.epochs[0].encoded, watcher.epochs[0].cached) == (1, 13)


def test_the_cache_lies_below_the_home_where_no_place_is_given(workshop: Workshop, tmp_path: Path) -> None:
    result = train(workshop.options(tmp_path / "run", "epochs=1", "cache_dir=null"), Silent())
    assert result.cache is not None
    assert result.cache["folder"] == str(Path(os.environ["EDGEVAND_HOME"]) / "cache" / "tokens")
    assert cache_module.SCHEMA == "edgevand.tokens/1"
