from __future__ import annotations

import time
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edgevand.errors import BadInputError, SourceError
from edgevand_runtime.sources import Source, open_source
from tests.real.rtsp import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.real.mjpeg import MjpegCamera
    from tests.real.rtsp import RtspCamera

pytestmark = pytest.mark.real
PASSWORD = "s3cret"  # noqa: S105 - of a server that the test starts
GREYS = [20, 60, 100, 140, 180]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of video whose frames take the greys in turn."""
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25, (96, 64))
    for number in range(25):
        writer.write(np.full((64, 96, 3), GREYS[number // 5], np.uint8))
    writer.release()
    return path


@pytest.fixture
def pictures() -> list[np.ndarray]:
    """One picture of each grey."""
    return [np.full((48, 64, 3), grey, np.uint8) for grey in GREYS]


def wait(source: Source, condition: Callable[[Source], bool]) -> None:
    """Read until something holds of the source."""
    deadline = time.monotonic() + 30
    while not condition(source):
        assert time.monotonic() < deadline, source.status()
        source.read(timeout=0.05)


def refusal(url: str, **options: float) -> str:
    """The sentence with which an address is refused."""
    with pytest.raises(SourceError) as caught:
        open_source(url, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert caught.value.exit_code == 3
    return sentence


def test_a_real_rtsp_camera_that_is_killed_and_comes_back_goes_on_with_its_numbers(
    clip: Path, rtsp_camera: Callable[..., RtspCamera]
) -> None:
    camera = rtsp_camera(clip)
    with open_source(camera.url) as source:
        assert source.live
        assert source.length is None
        wait(source, lambda source: source.status().frames > 30)  # more than the clip holds: it starts again
        frame = source.read(10)
        assert frame is not None
        assert frame.size == (96, 64)
        assert min(abs(float(frame.image.mean()) - grey) for grey in GREYS) < 6
        camera.kill()
        wait(source, lambda source: not source.status().connected)
        assert source.status().error is not None
        before = source.status().frames
        camera.start()
        wait(source, lambda source: source.status().reconnects == 1)
        after = source.read(10)
        assert after is not None
        assert after.index >= before
        assert source.status().connected


@pytest.mark.parametrize("digest", [False, True])
def test_a_wrong_rtsp_password_is_named_and_never_printed(
    *, digest: bool, clip: Path, rtsp_camera: Callable[..., RtspCamera]
) -> None:
    camera = rtsp_camera(clip, user="admin", password=PASSWORD, digest=digest)
    with open_source(camera.url) as source:
        assert source.read(10) is not None
        assert PASSWORD not in source.uri
    sentence = refusal(camera.url.replace(PASSWORD, "wr0ng"))
    assert "refuses the password" in sentence
    assert "wr0ng" not in sentence
    assert "asks for a user and a password" in refusal(camera.open_url)
    # With the right password the path is what is wrong: the server really was asked with it.
    assert "knows no /nothing" in refusal(camera.url.replace("/camera", "/nothing"))


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_an_address_that_hangs_is_given_up_in_time(scheme: str, silent_server: str) -> None:
    sentence = refusal(f"{scheme}://{silent_server}/stream", open_timeout=0.5)
    assert "within 0.5 s" in sentence


def test_a_real_mjpeg_camera_is_read_and_its_freeze_and_its_end_are_outages(
    pictures: list[np.ndarray], mjpeg_camera: Callable[..., MjpegCamera]
) -> None:
    camera = mjpeg_camera(pictures, fps=50)
    with open_source(camera.url, read_timeout=0.5) as source:
        frame = source.read(10)
        assert frame is not None
        assert frame.size == (64, 48)
        assert min(abs(float(frame.image.mean()) - grey) for grey in GREYS) < 3
        camera.frozen.set()
        wait(source, lambda source: source.status().stalls >= 1)
        assert not source.status().connected
        camera.frozen.clear()
        wait(source, lambda source: source.status().reconnects >= 1)
        camera.stop()
        wait(source, lambda source: not source.status().connected)


def test_a_stream_that_ends_after_some_pictures_is_taken_up_again(
    pictures: list[np.ndarray], mjpeg_camera: Callable[..., MjpegCamera]
) -> None:
    with open_source(mjpeg_camera(pictures, fps=200, limit=40).url) as source:
        wait(source, lambda source: source.status().reconnects >= 2)
        assert source.status().frames > 40


def test_http_refusals_are_told_apart(pictures: list[np.ndarray], mjpeg_camera: Callable[..., MjpegCamera]) -> None:
    camera = mjpeg_camera(pictures, login="admin:s3cret")
    open_source(camera.url).close()
    assert "refuses the password" in refusal(camera.url.replace(PASSWORD, "wr0ng"))
    assert "asks for a user" in refusal(camera.open_url)
    assert "knows no /other" in refusal(camera.url.replace("video.mjpg", "other"))
    assert "is a web page" in refusal(camera.url.replace("video.mjpg", ""))


@pytest.mark.parametrize("scheme", ["rtsp", "http", "tcp"])
def test_a_port_where_nobody_listens_and_an_unknown_host_are_told(scheme: str) -> None:
    port = free_port()
    assert f"nothing accepts connections at port {port}" in refusal(f"{scheme}://127.0.0.1:{port}/x")
    assert "host camera.invalid is unknown" in refusal(f"{scheme}://user:pw1@camera.invalid:{port}/x")


@pytest.mark.parametrize("url", ["rtsp://", "rtsp://user:pa/ss@host/x", "http://host:99999/x", "gopher://host/x"])
def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BadInputError) as caught:
        open_source(url)
    assert "pa/ss" not in str(caught.value)
