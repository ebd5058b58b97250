from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from edgevand.errors import BadInputError, EndOfSourceError, FrameError
from edgevand_runtime.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def record(path: Path, frames: int = 60, fps: float = 20, code: str = "MJPG") -> Path:
    """A video whose frames grow brighter, four grey levels each."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), fps, (64, 48))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 4 * number, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize(("suffix", "code"), [(".avi", "MJPG"), (".mp4", "mp4v"), (".mkv", "mp4v")])
def test_every_frame_of_a_video_counts_however_slowly_it_is_read(suffix: str, code: str, tmp_path: Path) -> None:
    path = record(tmp_path / f"a{suffix}", code=code)
    with open_source(path) as source:
        assert not source.live
        assert source.length == 60
        frames = list(source)
        status = source.status()
    assert [frame.index for frame in frames] == list(range(60))
    assert all(abs(float(frame.image.mean()) - 4 * frame.index) < 4 for frame in frames)
    assert [frame.media_time for frame in frames] == pytest.approx([number / 20 for number in range(60)], abs=1e-3)
    assert {frame.source for frame in frames} == {str(path)}
    assert (status.error, status.frames, status.dropped, status.fps) == (None, 60, 0, 20)


def test_the_time_of_a_frame_is_the_containers_where_frames_are_uneven(tmp_path: Path) -> None:
    durations = [40, 100, 300, 40, 520, 40]
    pictures = [Image.new("L", (32, 32), 40 * number) for number in range(6)]
    path = tmp_path / "a.gif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations)
    with open_source(path) as source:
        frames = list(source)
    starts = [sum(durations[:number]) / 1000 for number in range(6)]
    assert [frame.media_time for frame in frames] == pytest.approx(starts)
    assert [round(float(frame.image.mean()) / 40) for frame in frames] == [0, 1, 2, 3, 4, 5]


def test_a_torn_video_is_told_once_and_ends_then(tmp_path: Path) -> None:
    path = record(tmp_path / "a.avi")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_source(path) as source:
        read = 0

        def frames() -> Iterator[None]:
            nonlocal read
            for _ in source:
                read += 1
                yield

        with pytest.raises(FrameError, match=r"expected to hold 60 frames but breaks off after \d+"):
            list(frames())
        assert 10 < read < 40
        with pytest.raises(EndOfSourceError):
            source.read()
        assert source.status().error is not None


def test_a_video_is_closed_while_it_is_read(tmp_path: Path) -> None:
    source = open_source(record(tmp_path / "a.avi"))
    source.read()
    source.close()
    source.close()
    with pytest.raises(EndOfSourceError):
        source.read()


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", r"is empty \(0 bytes\)"), (b"text\n" * 500, "cannot be decoded"), (None, "does not exist")],
)
def test_what_is_no_video_is_told_in_one_sentence(content: bytes | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInputError, match=says) as caught:
        open_source(path)
    assert "\n" not in str(caught.value)


def test_an_mp4_without_its_index_is_told(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp4", code="mp4v")
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(BadInputError, match="damaged, incomplete or no video"):
        open_source(path)


def test_a_real_video_and_a_real_animation_are_read_to_their_ends(shared_data: Path) -> None:
    for name, count, size, seconds in (
        ("bottle-detection.mp4", 1189, (640, 360), 39.82),
        ("fruit-and-vegetable-detection.gif", 101, (480, 270), 6.67),
    ):
        with open_source(shared_data / "video" / name) as source:
            assert source.length == count
            last = None
            for frame in source:
                last = frame
        assert last is not None
        assert (last.index, last.size) == (count - 1, size)
        assert last.media_time == pytest.approx(seconds, abs=0.01)
