from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgevand.errors import BadInputError, EdgevandError, EndOfSourceError, FrameError
from edgevand_runtime.sources import open_source
from edgevand_runtime.sources.files import images_in_folder

if TYPE_CHECKING:
    from collections.abc import Callable


def picture(path: Path, grey: int = 0) -> Path:
    """Write an image of one grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (grey, grey, grey)).save(path)
    return path


def test_a_folder_is_read_in_natural_order_without_what_is_no_image(tmp_path: Path) -> None:
    names = ["img10.png", "img2.png", "IMG1.JPG", "img2b.png", "7.bmp"]
    for name in names:
        picture(tmp_path / name)
    picture(tmp_path / ".hidden.png")
    picture(tmp_path / "sub" / "img3.png")
    (tmp_path / "notes.txt").write_text("no image")
    with open_source(tmp_path) as source:
        assert not source.live
        assert source.length == 5
        frames = list(source)
    assert [Path(frame.source).name for frame in frames] == ["7.bmp", "IMG1.JPG", "img2.png", "img2b.png", "img10.png"]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert all(frame.media_time is None for frame in frames)


def test_one_bad_image_is_told_and_the_reading_goes_on(tmp_path: Path) -> None:
    for number in (1, 3):
        picture(tmp_path / f"{number}.png", number)
    (tmp_path / "2.png").write_bytes(b"no image")
    with open_source(tmp_path) as source:
        first = source.read()
        with pytest.raises(FrameError) as caught:
            source.read()
        last = source.read()
        assert caught.value.source == str(tmp_path / "2.png")
        assert (first and first.index, last and last.index) == (0, 2)
        assert last is not None
        assert last.image[0, 0].tolist() == [3, 3, 3]
        with pytest.raises(EndOfSourceError):
            source.read()
        assert source.status().frames == 3


def test_an_iteration_can_be_taken_up_again_behind_a_bad_image(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"")
    picture(tmp_path / "2.png")
    with open_source(tmp_path) as source:
        with pytest.raises(FrameError):
            next(iter(source))
        assert [frame.index for frame in source] == [1]


def test_a_single_image_is_a_source_of_one_frame_also_without_a_suffix(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", 9).rename(tmp_path / "picture")
    with open_source(str(path)) as source:
        (frame,) = source
    assert frame.source == str(path)
    assert frame.size == (8, 6)
    np.testing.assert_array_equal(frame.image, np.full((6, 8, 3), 9))


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    path = picture(tmp_path / "a b.png")
    with open_source(path.as_uri()) as source:
        assert [frame.source for frame in source] == [str(path)]


def test_a_glob_gives_images_in_natural_order_and_goes_through_folders(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.png", "a/1.png"):
        picture(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    with open_source(f"{tmp_path}/**/*") as source:
        found = [str(Path(frame.source).relative_to(tmp_path)) for frame in source]
    assert found == ["a/1.png", "b/2.png", "b/10.png"]


def test_a_name_with_brackets_that_exists_is_no_glob(tmp_path: Path) -> None:
    path = picture(tmp_path / "part[1].png")
    with open_source(path) as source:
        assert source.length == 1


@settings(deadline=None)
@given(name=st.text(st.characters(exclude_categories=["Nd"]), max_size=300))
def test_whatever_a_person_types_becomes_a_source_or_one_sentence(name: str) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.chdir(folder)
        try:
            open_source(name).close()
        except EdgevandError:
            return


def test_a_pipe_is_refused_before_anybody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInputError, match="is neither"):
        open_source(tmp_path / "pipe")


def test_superscripts_in_names_are_letters(tmp_path: Path) -> None:
    for name in ("m².png", "m10.png", "m2.png"):
        picture(tmp_path / name)
    assert [path.name for path in images_in_folder(tmp_path)] == ["m2.png", "m10.png", "m².png"]


def test_a_closed_source_gives_nothing_more(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    source = open_source(tmp_path)
    source.close()
    source.close()
    with pytest.raises(EndOfSourceError):
        source.read()
    assert not source.status().connected


@pytest.mark.parametrize(
    ("make", "name", "says"),
    [
        (lambda folder: None, "none.png", "does not exist"),
        (lambda folder: None, "*.png", "matches no file"),
        (lambda folder: (folder / "notes.txt").write_text("x"), "*.txt", "none of them an image"),
        (lambda folder: None, "", "holds none"),
        (lambda folder: picture(folder / "good" / "1.png"), "", "only in sub-folders (good)"),
        (lambda folder: (folder / "notes.txt").write_text("x"), "notes.txt", "an image or a video"),
    ],
)
def test_what_cannot_be_a_source_is_told_in_one_sentence(
    make: Callable[[Path], object], name: str, says: str, tmp_path: Path
) -> None:
    make(tmp_path)
    with pytest.raises(BadInputError) as caught:
        open_source(os.path.join(tmp_path, name))  # noqa: PTH118 - as a person types it, with a glob in it
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
