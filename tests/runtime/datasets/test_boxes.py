"""Drawn boxes with items in places: what is normal varies, what is wrong is where the marks say, LOCO's layout."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgevand.errors import UsageError
from edgevand_runtime.datasets import examine
from edgevand_runtime.datasets.making import MakeOptions, boxes, make_dataset
from edgevand_runtime.datasets.making.boxes import BOXES, BoxCamera
from edgevand_runtime.drawn.picture import VISIBLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand_runtime.datasets.making.camera import Shot

SIZE = (160, 128)
CROWDS = {"tool_tray": 9, "snack_box": 12, "fuse_row": 10}
"""Items in each box, counted on the docstrings of their designs."""


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.asarray(np.abs(one.astype(int) - other.astype(int)).max(axis=2), np.int64)


def test_a_dataset_of_boxes_opens_as_loco_and_the_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_dataset("loco", tmp_path / name, MakeOptions(seed, 2, 96, tuple(BOXES)))
    found = examine(tmp_path / "a", "loco", None, deep=True)
    assert found.faults == ()
    assert {one.name for one in found.dataset.classes} == set(BOXES)
    first, again, other = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.png")}
        for name in "abc"
    )
    assert first == again
    assert all(first[path] != other[path] for path in first if path in other and "ground_truth" not in path.parts)
    for name in BOXES:
        entries = json.loads((tmp_path / "a" / name / "defects_config.json").read_text())
        defects = {entry["defect_name"] for entry in entries}
        logical = {f"{what}_{n}" for what in ("missing", "additional", "swapped") for n in range(CROWDS[name])}
        assert defects == logical | {"scratch", "dent", "stain", "broken"}


@pytest.mark.parametrize("name", BOXES)
def test_every_item_of_a_box_can_be_seen_and_normal_boxes_differ(name: str) -> None:
    camera = BoxCamera(name, 0, SIZE)
    assert len(camera.pieces()) == CROWDS[name]
    assert min(camera.pieces().values()) > 20
    assert np.mean(difference(camera.normal(0).image, camera.normal(1).image) > VISIBLE) > 0.05


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("kind", BoxCamera.logical)
def test_what_is_wrong_is_inside_the_marks_and_shows(name: str, kind: str) -> None:
    camera = BoxCamera(name, 0, SIZE)
    names = {"misplaced": {"missing", "additional"}, "swapped": {"swapped"}}.get(kind, {kind})
    for index in range(4):
        whole, shot = camera.normal(index), camera.illogical(index, kind)
        assert {mark.name.split("_")[0] for mark in shot.marks} == names
        assert len(shot.marks) == (2 if kind in {"misplaced", "swapped"} else 1)
        changed = difference(whole.image, shot.image)
        assert (changed[shot.union == 0] <= VISIBLE + 1).mean() > 0.999  # two shadows that meet
        for mark in shot.marks:
            assert (changed[mark.mask > 0] >= VISIBLE).any()


@pytest.mark.parametrize("name", BOXES)
def test_damage_is_inside_its_marks_one_item_for_each(name: str) -> None:
    camera = BoxCamera(name, 0, SIZE)
    whole, shot = camera.normal(3), camera.damaged(3, "broken", "stain")
    assert [mark.name for mark in shot.marks] == ["broken", "stain"]
    assert difference(whole.image, shot.image)[shot.union == 0].max() <= VISIBLE + 1
    assert (difference(whole.image, shot.image)[shot.union > 0] >= VISIBLE).mean() > 0.5


def test_boxes_are_drawn_in_the_layout_loco_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected objects among bottle, .*, found 'tool_tray'"):
        make_dataset("mvtec", tmp_path / "d", MakeOptions(classes=("tool_tray",)))


@pytest.mark.parametrize(
    "picture", [lambda camera: camera.damaged(0, "dent"), lambda camera: camera.illogical(0, "missing")]
)
def test_what_cannot_be_seen_is_refused(picture: Callable[[BoxCamera], Shot], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "shows", lambda _: False)
    monkeypatch.setattr(boxes, "_TRIES", 1)
    with pytest.raises(UsageError, match=r"expected the defect .* to be seen, found it too small; raise --size"):
        picture(BoxCamera("snack_box", 0, (40, 32)))
