"""Everything that can be wrong with a dataset has its sentence, and all of them are told together."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from edgevand.errors import BadInputError
from edgevand_runtime.datasets import check, open_dataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPLIT = "split_csv/1cls.csv"


def first(folder: Path, suffix: str = ".png") -> Path:
    """The first picture below a folder."""
    return min(path for path in folder.rglob("*") if path.suffix == suffix)


def test_all_faults_are_listed_together(copy: Callable[[str], Path]) -> None:
    root = copy("mvtec")
    shutil.rmtree(root / "fabric" / "train")
    orphan = first(root / "gear" / "test")
    mask = first(root / "gear" / "ground_truth")
    mask.rename(mask.with_name("900_mask.png"))
    with pytest.raises(BadInputError) as caught:
        open_dataset(root)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"expected {root} to be a whole mvtec dataset, found 3 faults; mend what is listed:"
    kind, stem = mask.parent.name, mask.stem.removesuffix("_mask")
    suffix = orphan.suffix
    assert lines[1:] == [
        "  - expected normal images in fabric/train/good, found no such folder; put them there",
        (
            f"  - expected the mask of gear/test/{kind}/{stem}{suffix} at gear/ground_truth/{kind}/{stem}_mask.png, "
            "found none; add it or remove the image"
        ),
        (
            f"  - expected an image for the mask gear/ground_truth/{kind}/900_mask.png, found none; "
            "add it or remove the mask"
        ),
    ]
    assert check(root) == [line.removeprefix("  - ") for line in lines[1:]]


def test_more_than_twenty_faults_are_counted(tmp_path: Path, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "a/train/good/0.png")
    picture(tmp_path / "a/ground_truth/bad/0_mask.png")
    for number in range(26):
        picture(tmp_path / f"a/test/bad/{number}.png")
    with pytest.raises(BadInputError, match="found 25 faults") as caught:
        open_dataset(tmp_path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[-1] == f"  and 5 more, which `edgevand dataset check {tmp_path}` lists"
    assert len(check(tmp_path, deep=False)) == 25


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (lambda root: _empty(root / "gear/train/good"), "expected normal images in gear/train/good, found none; put"),
        (lambda root: _empty(root / "gear/test/good"), "expected normal images in gear/test/good, found none; put"),
        (lambda root: (root / "gear/test/torn").mkdir(), "expected images in gear/test/torn, found none; put"),
        (
            lambda root: shutil.rmtree(root / "gear/test"),
            "expected test images below gear/test, found none; put them there",
        ),
        (
            lambda root: (root / "gear/ground_truth/torn").mkdir(),
            "expected images for the masks in gear/ground_truth/torn, found no folder 'torn' of test images; add it or",
        ),
    ],
)
def test_a_folder_that_is_missing_or_empty_is_named(
    broken: Callable[[Path], object], sentence: str, copy: Callable[[str], Path]
) -> None:
    root = copy("mvtec")
    broken(root)
    assert any(fault.startswith(sentence) for fault in check(root)), check(root)
    with pytest.raises(BadInputError):
        open_dataset(root)


def _empty(folder: Path) -> None:
    """Remove the files of a folder."""
    for path in folder.iterdir():
        path.unlink()


def test_a_folder_of_defects_without_any_mask_is_one_fault(tmp_path: Path, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "good/0.png")
    (tmp_path / "ground_truth").mkdir()
    for number in range(3):
        picture(tmp_path / f"bent/{number}.png")
    assert check(tmp_path) == ["expected PNG masks of the 3 images of bent in ground_truth/bent, found none; add them"]


def test_two_images_or_two_masks_of_one_stem_are_faults(tmp_path: Path, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "good/0.png")
    for name in ("bent/0.png", "bent/1.png", "bent/1.bmp", "ground_truth/bent/0.png", "ground_truth/bent/0_mask.png"):
        picture(tmp_path / name, value=5)
    picture(tmp_path / "ground_truth/bent/1.png", value=5)
    assert check(tmp_path) == [
        "expected one mask of bent/0.png, found 0_mask.png and 0.png; remove one of them",
        "expected one image for each mask, found 1.bmp and 1.png in bent; rename one of them and its mask",
    ]


def test_a_mask_of_another_size_or_that_is_no_image_is_a_fault(tmp_path: Path, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "good/0.png")
    for number in range(2):
        picture(tmp_path / f"bent/{number}.png", (8, 6))
    picture(tmp_path / "ground_truth/bent/0.png", (6, 8), value=5)
    (tmp_path / "ground_truth/bent/1.png").write_bytes(b"no image")
    sentences = [
        (
            "expected the mask ground_truth/bent/0.png to have the size of its image, 8x6, found 6x8; export it again "
            "at the image's size"
        ),
        "expected the mask ground_truth/bent/1.png to be a readable image, found none; copy it again",
    ]
    assert check(tmp_path) == check(tmp_path, deep=False) == sentences


def test_the_size_of_a_turned_photograph_is_that_after_turning(tmp_path: Path, picture: Callable[..., Path]) -> None:
    """A camera held upright writes a wide picture and says that it is to be turned; its mask is tall."""
    picture(tmp_path / "good/0.png")
    picture(tmp_path / "ground_truth/bent/0.png", (6, 8), value=5)
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "bent").mkdir()
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "bent" / "0.jpg", exif=exif)
    assert check(tmp_path) == []


def test_an_image_that_cannot_be_read_is_told_by_check_only(copy: Callable[[str], Path]) -> None:
    root = copy("mvtec")
    torn, empty = root / "gear/train/good/001.png", root / "gear/test/good/000.png"
    torn.write_bytes(torn.read_bytes()[:200])
    empty.write_bytes(b"")
    assert len(open_dataset(root).classes) == 3
    assert check(root, deep=False) == []
    faults = check(root)
    assert len(faults) == 2
    assert faults[0].startswith("gear/train/good/001.png was expected to be a whole image but is damaged")
    assert (
        faults[1] == "gear/test/good/000.png was expected to be an image but is empty (0 bytes): replace or remove it"
    )


def test_a_mask_that_marks_nothing_or_is_torn_is_told_by_check_only(copy: Callable[[str], Path]) -> None:
    root = copy("visa")
    blank, torn = sorted((root / "key/Data/Masks/Anomaly").iterdir())[:2]
    Image.new("L", Image.open(blank).size).save(blank)
    torn.write_bytes(torn.read_bytes()[:70])
    assert check(root, deep=False) == []
    marks, damaged = check(root)
    assert marks == (
        "expected the mask key/Data/Masks/Anomaly/000.png to mark at least one pixel, found none; draw it or label the "
        "image good"
    )
    assert damaged.startswith("cannot read the mask key/Data/Masks/Anomaly/001.png: ")


def _with(cells: str, line: int) -> Callable[[list[str]], list[str]]:
    """Put another line in place of one."""
    return lambda lines: [*lines[:line], cells, *lines[line + 1 :]]


GOOD_LINE = "key,train,normal,key/Data/Images/Normal/0000.JPG,"


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        ("key,train,normal", "line 2 of split_csv/1cls.csv has 3 cells, expected 5; correct it or copy"),
        ("../key" + GOOD_LINE[3:], "has the object '../key', expected the name of a class"),
        (GOOD_LINE[3:], "has the object '', expected the name of a class"),
        (GOOD_LINE.replace("train", "val"), "has the split 'val', expected train or test"),
        (GOOD_LINE.replace("normal", "good"), "has the label 'good', expected normal or anomaly"),
        ("key,train,normal,,", "names no image, expected one"),
        (GOOD_LINE + "key/Data/Masks/Anomaly/000.png", "a mask, expected none"),
        (
            "key,train,anomaly,key/Data/Images/Anomaly/000.JPG,key/Data/Masks/Anomaly/000.png",
            "puts an anomaly into train, expected normal images only",
        ),
        ("key,test,anomaly,key/Data/Images/Anomaly/000.JPG,", "no mask, expected one"),
        (GOOD_LINE.replace("0000", "9999"), "names key/Data/Images/Normal/9999.JPG, which is not there"),
        (f"key,train,normal,{'x' * 5000}.JPG,", "which is not there"),
        ("key,train,normal,../key/0000.JPG,", "names '../key/0000.JPG', expected a path that stays in the dataset"),
        ("key,train,normal,/etc/hostname,", "names '/etc/hostname', expected a path that stays in the dataset"),
    ],
)
def test_a_line_of_the_split_file_that_does_not_fit_is_named(
    cells: str, fault: str, copy: Callable[[str], Path]
) -> None:
    root = copy("visa")
    lines = (root / SPLIT).read_text().splitlines()
    (root / SPLIT).write_text("\n".join(_with(cells, 1)(lines)) + "\n")
    (told,) = [each for each in check(root) if "line 2" in each]
    assert fault in told
    with pytest.raises(BadInputError, match="line 2 of split_csv/1cls"):
        open_dataset(root)


def test_an_image_that_the_split_file_names_twice_or_whose_mask_lacks_it_is_a_fault(
    copy: Callable[[str], Path],
) -> None:
    root = copy("visa")
    text = (root / SPLIT).read_text()
    line = next(each for each in text.splitlines() if each.startswith("key,train"))
    (root / SPLIT).write_text(text + line + "\n")
    shutil.copy(root / "key/Data/Masks/Anomaly/000.png", root / "key/Data/Masks/Anomaly/777.png")
    twice, orphan = check(root)
    assert f"names {line.split(',')[3]} again, which line " in twice
    assert orphan.startswith("expected an image for the mask key/Data/Masks/Anomaly/777.png, found none")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "to begin with object,split,label,image,mask, found nothing; copy it again from the dataset"),
        (b"image,label\na,b\n", "to begin with object,split,label,image,mask, found image,label; copy"),
        (b"object,split,label,image,mask\n", "to list images, found none; copy it again"),
        (b"\xff\xfe\x00", "cannot read .*1cls.csv: .*utf-8"),
        (None, "cannot read .*1cls.csv: .*No such file"),
    ],
)
def test_a_split_file_that_is_none_is_refused(
    content: bytes | None, sentence: str, copy: Callable[[str], Path]
) -> None:
    root = copy("visa")
    if content is None:
        (root / SPLIT).unlink()
    else:
        (root / SPLIT).write_bytes(content)
    with pytest.raises(BadInputError, match=sentence):
        open_dataset(root)


def test_a_split_file_with_a_byte_order_mark_and_windows_line_ends_is_read(copy: Callable[[str], Path]) -> None:
    root = copy("visa")
    before = open_dataset(root)
    text = (root / SPLIT).read_text()
    (root / SPLIT).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert open_dataset(root) == before


ENTRY = {"defect_name": "dent", "pixel_value": 7, "saturation_threshold": 1.0, "relative_saturation": True}
CONFIG = "name_plate/defects_config.json"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, f"expected the defects' saturation in .*{CONFIG}, found no such file; add it"),
        ("{", f"expected {CONFIG} to list the defects, found no JSON; copy it again from the dataset"),
        ("{}", "found no list"),
        ([{**ENTRY, "pixel_value": 0}], r"found 0 for 0\.pixel_value"),
        ([{**ENTRY, "pixel_value": "7"}], r'found "7" for 0\.pixel_value'),
        ([{**ENTRY, "saturation_threshold": 0}], r"found 0 for 0\.saturation_threshold"),
        ([{"defect_name": "dent"}], r"found no 0\.pixel_value"),
        ([{**ENTRY, "saturation_threshold": 2}], "expected a relative saturation_threshold of at most 1 for 'dent'"),
        (
            [ENTRY, {**ENTRY, "defect_name": "stain"}],
            "expected one defect for each pixel_value in .*, found several for 7",
        ),
    ],
)
def test_a_defects_config_that_does_not_fit_is_a_fault(
    content: object, sentence: str, copy: Callable[[str], Path]
) -> None:
    root = copy("loco")
    if content is None:
        (root / CONFIG).unlink()
    else:
        (root / CONFIG).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(BadInputError, match=sentence):
        open_dataset(root)


def test_a_loco_mask_must_hold_one_listed_value(copy: Callable[[str], Path]) -> None:
    root = copy("loco")
    folder = root / "name_plate/ground_truth/structural_anomalies/000"
    mask = np.array(Image.open(folder / "000.png"))
    rows, columns = np.nonzero(mask)
    mask[rows[0], columns[0]] = 3
    Image.fromarray(mask).save(folder / "000.png")
    assert check(root, deep=False) == []
    (fault,) = check(root)
    value = mask.max()
    assert fault == (
        "expected the mask name_plate/ground_truth/structural_anomalies/000/000.png to hold one pixel value that "
        f"defects_config.json lists, found 3, {value}; copy it again from the dataset"
    )


def test_loco_images_without_masks_and_masks_without_images_are_faults(copy: Callable[[str], Path]) -> None:
    root = copy("loco")
    masks = root / "name_plate/ground_truth/logical_anomalies"
    (masks / "000").rename(masks / "999")
    shutil.rmtree(root / "name_plate/validation")
    assert check(root) == [
        "expected normal images in name_plate/validation/good, found no such folder; put them there",
        (
            "expected the masks of name_plate/test/logical_anomalies/000.png in "
            "name_plate/ground_truth/logical_anomalies/000, found none; add them or remove the image"
        ),
        (
            "expected an image for the masks in name_plate/ground_truth/logical_anomalies/999, found none; add it or "
            "remove the masks"
        ),
    ]


def test_a_class_without_anomalous_images_and_one_with_a_single_test_image_are_whole(
    tmp_path: Path, picture: Callable[..., Path]
) -> None:
    """Their metrics are undefined, which the evaluation says; the dataset is none the worse."""
    picture(tmp_path / "a/train/good/0.png")
    picture(tmp_path / "a/test/good/0.png")
    (one,) = open_dataset(tmp_path).classes
    assert len(one.test) == 1
    assert not one.has_masks
