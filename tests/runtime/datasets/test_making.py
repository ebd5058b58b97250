"""Drawn datasets: the same bytes for the same options, the conventions of the published ones, whole or not at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from edgevand.errors import OutputError, UsageError
from edgevand_runtime.datasets import open_dataset, read_mask
from edgevand_runtime.datasets.making import DRAWN_CLASSES, MakeOptions, make_dataset
from edgevand_runtime.datasets.making.camera import LOGICAL, Camera
from edgevand_runtime.datasets.recognise import PUBLISHED
from edgevand_runtime.drawn.picture import VISIBLE
from edgevand_runtime.preprocess import load_image

if TYPE_CHECKING:
    from pathlib import Path

TINY = MakeOptions(seed=3, images=2, size=48)


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("layout", ["visa", "loco"])
def test_the_same_options_give_the_same_bytes_and_another_seed_others(layout: str, tmp_path: Path) -> None:
    for name, options in (("a", TINY), ("b", TINY), ("c", MakeOptions(seed=4, images=2, size=48))):
        make_dataset(layout, tmp_path / name, options)  # type: ignore[arg-type]
    first, again, other = (content(tmp_path / name) for name in "abc")
    assert first == again
    pictures = [name for name in set(first) & set(other) if name.endswith((".png", ".JPG"))]
    assert len(pictures) > 10
    assert all(first[name] != other[name] for name in pictures if "Masks" not in name and "ground_truth" not in name)


def test_no_two_pictures_of_a_dataset_are_the_same(drawn: dict[str, Path]) -> None:
    for root in drawn.values():
        images = [
            sample.image.read_bytes()
            for one in open_dataset(root).classes
            for sample in (*one.train, *one.validation, *one.test)
        ]
        assert len(set(images)) == len(images)


def test_names_sizes_and_mask_values_are_those_of_the_published_datasets(drawn: dict[str, Path]) -> None:
    assert (drawn["mvtec"] / "gear/train/good/000.png").is_file()
    assert Image.open(drawn["mvtec"] / "fabric/train/good/000.png").mode == "L"  # some classes are grey
    visa = drawn["visa"] / "key/Data"
    assert (visa / "Images/Normal/0000.JPG").is_file()
    assert (visa / "Images/Anomaly/000.JPG").is_file()
    values = {int(np.asarray(Image.open(path)).max()) for path in (visa / "Masks/Anomaly").iterdir()}
    assert max(values) < 10  # small integers
    assert len(values) > 1
    prepared = Image.open(drawn["visa-prepared"] / "1cls/key/ground_truth/bad/000.png")
    assert set(np.unique(np.asarray(prepared))) == {0, 255}
    assert prepared.size == (64, 51)
    loco = drawn["loco"] / "name_plate"
    assert sorted(path.name for path in (loco / "test").iterdir()) == [
        "good",
        "logical_anomalies",
        "structural_anomalies",
    ]
    entries = json.loads((loco / "defects_config.json").read_text())
    known = {entry["pixel_value"] for entry in entries}
    for path in (loco / "ground_truth").rglob("*.png"):
        assert path.parent.parent.parent.name == "ground_truth"
        zero, value = np.unique(np.asarray(Image.open(path)))
        assert (zero, value in known) == (0, True)


def test_each_layout_draws_other_objects_and_none_has_the_name_of_a_published_class() -> None:
    names = [name for layout, classes in DRAWN_CLASSES.items() if layout != "visa-prepared" for name in classes]
    assert len(set(names)) == len(names)
    assert not set(names) & {name for _, classes in PUBLISHED.values() for name in classes}


def test_the_mask_of_damage_is_where_the_picture_differs_from_the_whole_object() -> None:
    """Closed form: the same index with and without damage; several objects in a picture, one of them damaged."""
    for cells in ((1, 1), (2, 2)):
        camera = Camera("bottle cap", 1, (96, 72), cells=cells)
        for kind in camera.kinds:
            whole, shot = camera.normal(4), camera.damaged(4, kind)
            assert [mark.name for mark in shot.marks] == [kind.replace(" ", "_")]
            difference = np.abs(whole.image.astype(int) - shot.image.astype(int)).max(axis=2)
            assert difference[shot.union == 0].max() <= VISIBLE + 1
            assert (difference[shot.union > 0] >= VISIBLE - 1).mean() > 0.8


def test_damaged_twice_has_two_masks_that_cover_what_differs() -> None:
    camera = Camera("circuit board", 0, (128, 96), upright=True)
    whole, shot = camera.normal(2), camera.damaged(2, "broken", "scratch")
    assert [mark.name for mark in shot.marks] == ["broken", "scratch"]
    difference = np.abs(whole.image.astype(int) - shot.image.astype(int)).max(axis=2)
    assert (difference[shot.union == 0] <= VISIBLE + 1).mean() > 0.999  # a light and a dark change may overlap


@pytest.mark.parametrize("kind", LOGICAL)
def test_a_logical_anomaly_is_where_a_piece_is_missing_or_too_many(kind: str) -> None:
    camera = Camera("circuit board", 0, (128, 102), upright=True)
    for index in range(3):
        whole, shot = camera.normal(index), camera.illogical(index, kind)
        names = {mark.name.split("_")[0] for mark in shot.marks}
        assert names == ({"missing", "additional"} if kind == "misplaced" else {kind})
        difference = np.abs(whole.image.astype(int) - shot.image.astype(int)).max(axis=2)
        assert difference[shot.union == 0].max() <= VISIBLE + 1
        for mark in shot.marks:
            assert (difference[mark.mask > 0] >= VISIBLE).any()
        if kind == "missing":  # the mask is where the piece could be: wider than what can be seen to lack
            piece = int(shot.marks[0].name.split("_")[1])
            assert np.count_nonzero(shot.union) > camera.pieces()[piece]


def test_objects_can_be_chosen_and_count_as_published_ones_by_their_names(tmp_path: Path) -> None:
    make_dataset("mvtec", tmp_path / "d", MakeOptions(images=1, size=32, classes=("metal nut", "screw")))
    dataset = open_dataset(tmp_path / "d")
    assert [one.name for one in dataset.classes] == ["metal_nut", "screw"]
    assert dataset.recognised == "MVTec AD"
    for one in dataset.classes:
        assert (len(one.train), len(one.test)) == (1, 2)
        for sample in one.test:
            image = load_image(sample.image)
            assert image.shape == (32, 32, 3)
            assert read_mask(sample, (32, 32)).any() == sample.anomalous


@pytest.mark.parametrize(
    ("layout", "options", "sentence"),
    [
        ("mvtec", MakeOptions(seed=-1), "expected a seed of 0 or more, found -1"),
        ("mvtec", MakeOptions(images=0), "expected at least 1 training image"),
        ("mvtec", MakeOptions(size=16), "expected a size of 32 to 4096 pixels, found 16"),
        ("mvtec", MakeOptions(classes=("spoon",)), "expected objects among bottle, .*, found 'spoon'"),
        ("mvtec", MakeOptions(classes=("gear", "gear")), "expected each object once, found gear, gear"),
        ("folder", MakeOptions(classes=("gear", "key")), "expected one object in the layout folder, found 2"),
        ("loco", MakeOptions(images=1, size=32, classes=("washer",)), "expected objects with pieces .*, found washer"),
        ("coco", MakeOptions(), "expected a layout among mvtec, .*, found 'coco'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_nothing_is_left(
    layout: str, options: MakeOptions, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=sentence):
        make_dataset(layout, tmp_path / "d", options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    target = tmp_path / "d"
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    options = MakeOptions(images=1, size=32)
    with pytest.raises(OutputError, match="something is already there"):
        make_dataset("folder", target, options)
    assert [path.name for path in target.iterdir()] == ["mine.txt"]
    make_dataset("folder", target, options, replace=True)
    assert open_dataset(target).classes[0].train


def test_a_run_that_is_cut_off_leaves_nothing(tmp_path: Path) -> None:
    def stop(name: str) -> None:
        if name == "dial":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_dataset("visa", tmp_path / "d", TINY, progress=stop)
    assert list(tmp_path.iterdir()) == []
