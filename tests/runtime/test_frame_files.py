"""The files of a frame: named so that none writes over another, whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevand.errors import OutputError
from edgevand_runtime.frame_files import FrameNames, make_directory, write_jpeg, write_map

if TYPE_CHECKING:
    from pathlib import Path


def names(*sources: str) -> list[str]:
    taken = FrameNames()
    return [taken.name(source, 0) for source in sources]


def test_an_image_is_named_after_its_stem_and_a_video_frame_after_stem_and_index() -> None:
    taken = FrameNames()
    assert taken.name("parts/000.png", 12) == "000"
    assert taken.name("line/clip.mp4", 7) == "clip-000007"
    assert taken.name("line/clip.mp4", 123456) == "clip-123456"
    assert taken.name("test://conveyor?seed=3", 5) == "conveyor-seed-3-000005"


def test_a_second_source_of_the_same_stem_gets_its_folders_in_front_until_it_is_free() -> None:
    assert names("good/04.jpg", "colour/04.jpg", "other/colour/04.jpg") == ["04", "colour-04", "other-colour-04"]
    assert names("a/04.jpg", "a/04.png", "04.jpg", "./04.jpg") == ["04", "a-04", "04_jpg", "04-2"]
    assert names("a/clip.mp4", "b/clip.mp4") == ["clip-000000", "b-clip-000000"]


def test_a_numbered_image_and_a_video_of_that_name_are_kept_apart() -> None:
    assert names("clip.mp4", "x/clip-000007.png") == ["clip-000000", "x-clip-000007"]
    assert names("x/clip-000007.png", "y/clip.mp4") == ["clip-000007", "y-clip-000000"]
    assert names("clip-000007.png", "clip-000008.png") == ["clip-000007", "clip-000008"]


def test_names_that_differ_in_case_only_are_kept_apart_for_file_systems_that_do_not() -> None:
    assert names("a/Part.png", "b/part.png") == ["Part", "b-part"]


_part = st.sampled_from(["a", "b", "a-b", "x", "X", "x-000001", "000001"])
_source = st.builds(
    lambda folders, stem, suffix: "/".join([*folders, stem]) + suffix,
    st.lists(_part, max_size=3),
    _part,
    st.sampled_from([".png", ".jpg", ".mp4", ".gif"]),
)


@given(st.lists(_source, unique=True, max_size=12))
def test_no_two_frames_of_any_sources_share_a_name_and_asking_again_changes_nothing(sources: list[str]) -> None:
    taken = FrameNames()
    first = {(source, frame): taken.name(source, frame) for source in sources for frame in (0, 1)}
    again = {(source, frame): taken.name(source, frame) for source in sources for frame in (0, 1)}
    assert first == again
    images = {source for source in sources if source.endswith((".png", ".jpg"))}
    distinct = {name.casefold() for (source, frame), name in first.items() if frame == 0 or source not in images}
    assert len(distinct) == sum(1 if source in images else 2 for source in sources)
    assert all("/" not in name and name not in {"", ".", ".."} for name in first.values())


def test_a_map_is_a_float32_npy_file_of_its_shape_without_pickles(tmp_path: Path) -> None:
    raw_map = np.random.default_rng(0).random((5, 7))
    write_map(tmp_path / "a.npy", raw_map.astype(np.float32))
    read = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, raw_map.astype(np.float32))


def test_a_picture_is_a_jpeg_of_its_size(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "a.jpg", np.full((30, 40, 3), (10, 120, 240), np.uint8))
    read = cv2.imread(str(tmp_path / "a.jpg"))
    assert read is not None
    assert read.shape == (30, 40, 3)
    assert np.abs(read.astype(int) - (10, 120, 240)).max() <= 3


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        make_directory(tmp_path / "file" / "maps")
    assert make_directory(tmp_path / "a" / "b").is_dir()
