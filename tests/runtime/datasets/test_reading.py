"""Each layout is read as it is published: splits, kinds, masks; ``auto`` finds the layout."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgevand.errors import BadInputError, UsageError
from edgevand_runtime.datasets import LAYOUTS, check, detect, open_dataset
from edgevand_runtime.datasets.recognise import recognise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgevand_runtime.datasets import Dataset, DatasetClass

EXPECTED = {"mvtec": "mvtec", "visa": "visa", "visa-prepared": "visa", "loco": "loco", "folder": "folder"}


def only(dataset: Dataset) -> DatasetClass:
    (one,) = dataset.classes
    return one


@pytest.mark.parametrize("layout", EXPECTED)
def test_a_drawn_dataset_of_each_layout_is_found_read_and_whole(layout: str, drawn: dict[str, Path]) -> None:
    root = drawn[layout]
    dataset = open_dataset(root)
    assert dataset.layout == EXPECTED[layout] == detect(root)
    assert open_dataset(root, dataset.layout) == dataset
    assert dataset.recognised is None
    assert check(root) == []
    every = [sample for one in dataset.classes for sample in (*one.train, *one.validation, *one.test)]
    names = [sample.name for sample in every]
    assert len(set(names)) == len(names)
    for sample in every:
        assert sample.image == root / sample.name
        assert sample.image.is_file()
        assert sample.anomalous == bool(sample.masks) == (sample.kind != "good")
    for one in dataset.classes:
        assert one.has_masks
        assert not any(sample.anomalous for sample in (*one.train, *one.validation))
        assert {sample.anomalous for sample in one.test} == {True, False}
    # Every picture on the disk is in exactly one split; what is left are the masks.
    files = {path for path in root.rglob("*") if path.suffix in {".png", ".JPG"}}
    assert files == {sample.image for sample in every} | {mask for sample in every for mask in sample.masks}


def test_mvtec_has_its_kinds_by_folder_and_a_mask_for_each_defect(drawn: dict[str, Path]) -> None:
    root = drawn["mvtec"]
    gear = open_dataset(root, classes=["gear"]).classes[0]
    assert [sample.name for sample in gear.train] == [f"gear/train/good/00{n}.png" for n in range(3)]
    for sample in gear.test:
        if sample.anomalous:
            folder, stem = root / "gear" / "ground_truth" / sample.kind, sample.image.stem
            assert sample.masks == (folder / f"{stem}_mask.png",)


def test_visa_follows_its_split_file(drawn: dict[str, Path]) -> None:
    root = drawn["visa"]
    lines = (root / "split_csv" / "1cls.csv").read_text().splitlines()
    assert lines[0] == "object,split,label,image,mask"
    rows = [line.split(",") for line in lines[1:]]
    for one in open_dataset(root).classes:
        for split, samples in (("train", one.train), ("test", one.test)):
            listed = {(row[3], row[2] == "anomaly") for row in rows if row[0] == one.name and row[1] == split}
            assert {(sample.name, sample.anomalous) for sample in samples} == listed
        assert {sample.kind for sample in one.test} == {"good", "Anomaly"}


def test_loco_has_a_validation_split_several_masks_and_their_saturation(drawn: dict[str, Path]) -> None:
    dataset = open_dataset(drawn["loco"])
    assert [one.name for one in dataset.classes] == ["circuit_board", "name_plate"]
    for one in dataset.classes:
        assert one.validation
        assert {sample.kind for sample in one.test} == {"good", "logical_anomalies", "structural_anomalies"}
        assert {entry.relative_saturation for entry in one.defects} == {True, False}
        assert len({entry.pixel_value for entry in one.defects}) == len(one.defects)


def test_a_folder_with_good_and_defects_is_split_in_the_middle_of_its_good_images(drawn: dict[str, Path]) -> None:
    one = only(open_dataset(drawn["folder"]))
    good = [sample.name for sample in one.test if not sample.anomalous]
    assert [sample.name for sample in one.train] == [f"good/00{n}.png" for n in range(3)]
    assert good == ["good/003.png", "good/004.png"]


def test_a_folder_may_have_the_splits_of_mvtec_and_masks_of_either_name(
    tmp_path: Path, picture: Callable[..., Path]
) -> None:
    root = tmp_path / "parts"
    for name in ("train/good/10.png", "train/good/9.png", "validation/good/1.png", "test/good/1.jpg"):
        picture(root / name)
    for name, mask in (("test/bent/1.png", "1_mask.png"), ("test/bent/2.png", "2.png")):
        picture(root / name)
        picture(root / "ground_truth/bent" / mask, value=1)
    one = only(open_dataset(root))
    assert one.name == "parts"
    assert [sample.image.name for sample in one.train] == ["9.png", "10.png"]  # natural order
    assert [sample.name for sample in one.validation] == ["validation/good/1.png"]
    assert [(sample.name, [mask.name for mask in sample.masks]) for sample in one.test] == [
        ("test/good/1.jpg", []),
        ("test/bent/1.png", ["1_mask.png"]),
        ("test/bent/2.png", ["2.png"]),
    ]


def test_normal_means_good_and_masks_are_not_needed_in_a_folder(tmp_path: Path, picture: Callable[..., Path]) -> None:
    for number in range(3):
        picture(tmp_path / f"Normal/{number}.png")
        picture(tmp_path / f"anomaly/{number}.png")
    one = only(open_dataset(tmp_path))
    assert [sample.kind for sample in (*one.train, *one.test)] == ["good"] * 3 + ["anomaly"] * 3
    assert not one.has_masks


def test_the_same_file_name_in_several_folders_is_no_fault(tmp_path: Path, picture: Callable[..., Path]) -> None:
    for kind in ("good", "bent", "torn"):
        picture(tmp_path / "a" / "test" / kind / "000.png")
        picture(tmp_path / "a" / "ground_truth" / kind / "000_mask.png", value=255)
    picture(tmp_path / "a" / "train" / "good" / "000.png")
    one = only(open_dataset(tmp_path))
    assert [sample.name for sample in one.test] == [f"a/test/{kind}/000.png" for kind in ("good", "bent", "torn")]
    assert one.test[0].masks == ()  # ground_truth/good is passed over


def test_sizes_may_be_mixed_as_long_as_each_mask_fits_its_image(tmp_path: Path, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "good/0.png", (5, 5))
    for number, size in enumerate([(8, 6), (6, 8), (30, 2)]):
        picture(tmp_path / f"bad/{number}.png", size)
        picture(tmp_path / f"ground_truth/bad/{number}.png", size, value=9)
    assert only(open_dataset(tmp_path)).has_masks


def test_what_is_hidden_or_no_image_is_passed_over(copy: Callable[[str], Path]) -> None:
    root = copy("mvtec")
    before = open_dataset(root)
    for name in ("readme.txt", "gear/license.txt", "gear/test/.DS_Store", "gear/train/good/._000.png", ".cache/x.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("no image")
    (root / "notes").mkdir()
    assert open_dataset(root) == before


def test_prepared_visa_is_read_with_and_without_its_outer_folder(tmp_path: Path, picture: Callable[..., Path]) -> None:
    root = tmp_path / "1cls"
    for name in ("train/good/0000.JPG", "test/good/0001.JPG", "test/bad/000.JPG"):
        picture(root / "candle" / name)
    picture(root / "candle/ground_truth/bad/000.png", value=255)
    for folder in (tmp_path, root):
        dataset = open_dataset(folder)
        assert (dataset.layout, dataset.recognised) == ("visa", "VisA")
        assert [sample.kind for sample in only(dataset).test] == ["good", "bad"]


def test_a_published_dataset_is_recognised_by_layout_and_names() -> None:
    assert recognise("mvtec", ["screw", "metal_nut"]) == "MVTec AD"
    assert recognise("visa", ["pcb1"]) == "VisA"
    assert recognise("loco", ["pushpins", "juice_bottle"]) == "MVTec LOCO"
    assert recognise("mvtec", ["screw", "gear"]) is None
    assert recognise("folder", ["screw"]) is None
    assert recognise("mvtec", []) is None


def test_only_the_classes_that_are_wanted_are_read_and_judged(copy: Callable[[str], Path]) -> None:
    root = copy("mvtec")
    shutil.rmtree(root / "fabric" / "train")
    assert [one.name for one in open_dataset(root, classes=["gear", "bracket"]).classes] == ["bracket", "gear"]
    with pytest.raises(BadInputError, match=r"fabric/train/good, found no such folder"):
        open_dataset(root)
    with pytest.raises(UsageError, match="expected classes among bracket, fabric, gear, found 'geer'; check"):
        open_dataset(root, classes=["gear", "geer"])
    with pytest.raises(UsageError, match="expected classes among bracket, fabric, gear, found none; name at least"):
        open_dataset(root, classes=[])


def test_what_is_no_dataset_is_refused_with_what_is_there(tmp_path: Path, picture: Callable[..., Path]) -> None:
    with pytest.raises(BadInputError, match=r"expected the folder of a dataset at .*none, found nothing; check"):
        open_dataset(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="found a file"):
        open_dataset(tmp_path / "file")
    picture(tmp_path / "photos" / "a.png")
    for wanted, told in ((tmp_path, "found photos; arrange it"), (tmp_path / "photos", r"found a\.png; arrange it")):
        with pytest.raises(BadInputError, match=f"to be a dataset of the layout .*, {told}"):
            open_dataset(wanted)
    assert len(check(tmp_path)) == 1
    with pytest.raises(UsageError, match=f"expected a layout among auto, {', '.join(LAYOUTS)}, found 'coco'"):
        open_dataset(tmp_path, "coco")  # type: ignore[arg-type]
    for layout in ("mvtec", "loco"):
        with pytest.raises(BadInputError, match="expected folders of classes with train and test"):
            open_dataset(tmp_path, layout)


def test_a_folder_of_tests_without_normal_images_is_told_what_it_lacks(
    tmp_path: Path, picture: Callable[..., Path]
) -> None:
    picture(tmp_path / "test/bent/0.png")
    assert detect(tmp_path) == "folder"
    with pytest.raises(BadInputError, match="expected normal images in train/good, found no such folder; put them"):
        open_dataset(tmp_path)


def test_a_dataset_one_folder_further_down_is_pointed_at(drawn: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(drawn["visa"], tmp_path / "unpacked" / "VisA")
    with pytest.raises(BadInputError, match=r"found none; give its sub-folder .*unpacked/VisA$"):
        open_dataset(tmp_path / "unpacked")


def test_real_photographs_in_the_layout_folder(shared_data: Path) -> None:
    """One with masks named after the image alone, one of normal and anomaly without masks."""
    hazelnut = only(open_dataset(shared_data / "hazelnut-toy"))
    assert (len(hazelnut.train), len(hazelnut.test), hazelnut.has_masks) == (28, 23, True)
    assert [sample.kind for sample in hazelnut.test] == ["good"] * 6 + ["colour"] * 17
    assert check(shared_data / "hazelnut-toy") == []
    aliens = only(open_dataset(shared_data / "aliens"))
    assert (len(aliens.train), len(aliens.test), aliens.has_masks) == (29, 29 + 60, False)
    assert np.mean([sample.anomalous for sample in aliens.test]) == 60 / 89
