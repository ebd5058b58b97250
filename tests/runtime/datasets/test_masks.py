"""Above 0 is anomalous, in every pixel format; masks are squashed as the reference does; sPRO's saturation."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from edgevand.errors import BadInputError
from edgevand_runtime.datasets import DefectConfig, Sample, mask_at, open_dataset, read_defects, read_mask
from edgevand_runtime.datasets.masks import header_size, mask_values, saturation

if TYPE_CHECKING:
    from pathlib import Path

MARKED = np.zeros((6, 8), np.bool_)
MARKED[1:4, 2:7] = True


def sample(*masks: Path) -> Sample:
    return Sample(masks[0], masks[0].name, "bent", anomalous=True, masks=masks)


def write(path: Path, picture: Image.Image) -> Path:
    picture.save(path)
    return path


def grey(value: int, marked: np.ndarray = MARKED) -> Image.Image:
    return Image.fromarray((marked * value).astype(np.uint8))


@pytest.mark.parametrize("value", [1, 2, 7, 127, 128, 254, 255])
def test_any_value_above_0_is_anomalous(value: int, tmp_path: Path) -> None:
    path = write(tmp_path / "m.png", grey(value))
    assert np.array_equal(read_mask(sample(path), (6, 8)), MARKED)


def test_the_format_of_the_pixels_does_not_matter(tmp_path: Path) -> None:
    """1 bit, 16 bits, palette (whatever its colours), colour, with an opaque or a transparent alpha."""
    palette = grey(3).convert("P")
    palette.putdata([3 if marked else 0 for marked in MARKED.ravel()])
    palette.putpalette([0] * 768)
    blue = Image.merge("RGB", [grey(0), grey(0), grey(9)])
    pictures = {
        "1": Image.fromarray(MARKED),
        "I;16": Image.fromarray((MARKED * 300).astype(np.uint16)),
        "P": palette,
        "RGB": blue,
        "LA": Image.merge("LA", [grey(5), Image.new("L", (8, 6), 255)]),
        "RGBA": Image.merge("RGBA", [*blue.split(), Image.new("L", (8, 6), 255)]),
    }
    for mode, picture in pictures.items():
        path = write(tmp_path / "m.png", picture)
        assert Image.open(path).mode == mode
        assert np.array_equal(read_mask(sample(path), (6, 8)), MARKED), mode


def test_several_masks_are_united_and_none_is_blank(tmp_path: Path) -> None:
    other = np.roll(MARKED, 2, axis=0)
    paths = [write(tmp_path / "0.png", grey(200)), write(tmp_path / "1.png", grey(3, other))]
    assert np.array_equal(read_mask(sample(*paths), (6, 8)), MARKED | other)
    good = Sample(paths[0], "x", "good", anomalous=False)
    assert not read_mask(good, (3, 4)).any()
    assert read_mask(good, (3, 4)).shape == (3, 4)


def test_a_mask_of_another_size_or_damaged_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.png", grey(1))
    with pytest.raises(BadInputError, match="size of its image, 6x8, found 8x6; export it again"):
        read_mask(sample(path), (8, 6))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(BadInputError, match=r"cannot read the mask .*m\.png: .*; copy it again"):
        read_mask(sample(path), (6, 8))


@pytest.mark.filterwarnings("ignore")
def test_whatever_bytes_a_mask_has_it_is_read_or_refused(tmp_path: Path) -> None:
    """Bytes changed, cut or added at random: never another error, and the header alone never raises."""
    rng = np.random.default_rng(5)
    for suffix in (".png", ".bmp", ".tif"):
        whole = write(tmp_path / f"m{suffix}", grey(3)).read_bytes()
        path = tmp_path / f"x{suffix}"
        for _ in range(150):
            data = bytearray(whole)
            for at in rng.integers(0, len(data), rng.integers(1, 4)):
                data[at] = rng.integers(256)
            path.write_bytes(bytes(data[: rng.integers(1, len(data) + 1)] if rng.random() < 0.3 else data))
            header_size(path)
            with contextlib.suppress(BadInputError):
                assert mask_values(path).ndim == 2


@pytest.mark.parametrize("size", [(24, 24), (37, 19), (240, 200), (9, 7)])
def test_mask_at_is_pillows_bilinear_squash_above_one_half(size: tuple[int, int]) -> None:
    """The reference: mask to 0 or 255, ``Image.resize(…, BILINEAR)``, /255, > 0.5."""
    mask = np.random.default_rng(0).random((100, 90)) < 0.5
    mask[20:50, 30:80] = True
    picture = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).resize(size[::-1], Image.Resampling.BILINEAR)
    expected = np.asarray(picture, np.float64) / 255 > 0.5
    found = mask_at(mask, size)
    assert found.shape == size
    assert np.array_equal(found, expected)


def test_mask_at_is_the_triangle_filter_by_hand() -> None:
    """Halving: each output pixel is the mean of input pixels with the weights 1, 3, 3, 1 (of 8) along each axis."""
    mask = np.random.default_rng(1).random((16, 12)) < 0.5

    def halve(values: np.ndarray) -> np.ndarray:
        count = len(values)
        rows = []
        for at in range(count // 2):
            weights = {2 * at - 1: 1, 2 * at: 3, 2 * at + 1: 3, 2 * at + 2: 1}
            inside = {row: weight for row, weight in weights.items() if 0 <= row < count}
            rows.append(sum(values[row] * weight for row, weight in inside.items()) / sum(inside.values()))
        return np.array(rows)

    shares = halve(halve(mask.astype(np.float64)).T).T
    found = mask_at(mask, (8, 6))
    clear = np.abs(shares - 0.5) > 2 / 255  # Pillow rounds to 8 bits after each pass
    assert clear.mean() > 0.8
    assert np.array_equal(found[clear], shares[clear] > 0.5)


def test_mask_at_keeps_a_mask_of_the_wanted_size_and_enlarges_a_smaller_one() -> None:
    assert np.array_equal(mask_at(MARKED, MARKED.shape), MARKED)
    assert mask_at(MARKED, (60, 80)).mean() == pytest.approx(MARKED.mean(), abs=0.02)
    assert mask_at(np.ones((5, 5), np.bool_), (3, 9)).all()
    assert not mask_at(np.zeros((5, 5), np.bool_), (3, 9)).any()


def test_saturation_follows_the_official_evaluation() -> None:
    """Relative: int(share * area); absolute: min(pixels, area); never 0, which would be found without any pixel."""

    def of(threshold: float, area: int, *, relative: bool) -> int:
        return saturation(DefectConfig("x", 1, threshold, relative), area)

    assert of(1.0, 15, relative=True) == 15
    assert of(0.5, 15, relative=True) == 7
    assert of(0.01, 15, relative=True) == 1
    assert of(10, 15, relative=False) == 10
    assert of(100, 15, relative=False) == 15


def test_read_defects_gives_each_mask_its_entry(tmp_path: Path) -> None:
    config = [
        DefectConfig("gap", 200, 4, relative_saturation=False),
        DefectConfig("dent", 3, 1.0, relative_saturation=True),
    ]
    paths = [
        write(tmp_path / "0.png", grey(200)),
        write(tmp_path / "1.png", grey(3)),
        write(tmp_path / "2.png", grey(3)),
    ]
    defects = read_defects(sample(*paths), config)
    assert [(defect.name, defect.saturation) for defect in defects] == [("gap", 4), ("dent", 15), ("dent", 15)]
    assert all(np.array_equal(defect.pixels, MARKED) for defect in defects)
    for value, told in ((9, "found 9"), (0, "found nothing")):
        path = write(tmp_path / "bad.png", grey(value))
        with pytest.raises(BadInputError, match=f"one pixel value that defects_config.json lists, {told}"):
            read_defects(sample(path), config)


def test_the_defects_of_a_drawn_loco_dataset_can_be_read(drawn: dict[str, Path]) -> None:
    for one in open_dataset(drawn["loco"]).classes:
        for each in one.test:
            size = (51, 64) if one.name == "circuit_board" else (64, 51)
            defects = read_defects(each, one.defects)
            assert len(defects) == len(each.masks)
            assert all(1 <= defect.saturation <= np.count_nonzero(defect.pixels) for defect in defects)
            union = np.any([defect.pixels for defect in defects], axis=0) if defects else np.zeros(size, np.bool_)
            assert np.array_equal(read_mask(each, size), union)
