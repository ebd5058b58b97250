from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edgevand.errors import SourceError, UsageError
from edgevand_runtime.sources import camera, open_source
from edgevand_runtime.sources.camera import csi_pipeline
from edgevand_runtime.sources.capture import has_backend

if TYPE_CHECKING:
    from pathlib import Path

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="device files are Linux's")


@linux
@pytest.mark.parametrize("name", ["63", "/dev/video63", 63])
def test_a_camera_that_is_not_there_is_told_with_what_is(name: str | int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "camera_devices", lambda: ["/dev/video0", "/dev/video2"])
    with pytest.raises(SourceError) as caught:
        open_source(name)
    assert "expected at /dev/video63 but this machine has /dev/video0, /dev/video2" in str(caught.value)
    assert caught.value.exit_code == 3


@linux
def test_a_device_that_is_no_camera_is_told(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.write_bytes(b"")
    with pytest.raises(SourceError, match="cannot be opened: another program may be using it"):
        camera.connect_camera(str(device))


@linux
def test_a_camera_that_this_user_may_not_open_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "video0"
    device.write_bytes(b"")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(SourceError, match="group of the device"):
        camera.connect_camera(str(device))


def test_a_csi_address_becomes_the_pipeline_of_a_jetson() -> None:
    assert csi_pipeline("csi://1?width=1280&height=720&fps=60&flip=2") == (
        "nvarguscamerasrc sensor-id=1 ! "
        "video/x-raw(memory:NVMM),width=1280,height=720,framerate=60/1,format=NV12 ! "
        "nvvidconv flip-method=2 ! video/x-raw,format=BGRx ! "
        "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
    )
    assert "sensor-id=0 ! video/x-raw(memory:NVMM),width=1920,height=1080,framerate=30/1" in csi_pipeline("csi://0")


@pytest.mark.parametrize("uri", ["csi://left", "csi://0?gain=3", "csi://0?fps=fast"])
def test_a_csi_address_that_makes_no_sense_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="csi://"):
        csi_pipeline(uri)


@pytest.mark.skipif(has_backend(1800), reason="this OpenCV has GStreamer")
@pytest.mark.parametrize("uri", ["csi://0", "gst:rtspsrc location=rtsp://a:geheim@h/s ! decodebin"])
def test_without_gstreamer_the_error_names_the_remedy(uri: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(uri)
    assert "python3-opencv" in str(caught.value)
    assert "geheim" not in str(caught.value)


SYSTEM_OPENCV = """
import sys
sys.path[:0] = sys.argv[1:]
from edgevand_runtime.sources.camera import connect_gstreamer
pipeline = "videotestsrc num-buffers=5 ! video/x-raw,width=64,height=48"
assert connect_gstreamer("gst:", pipeline, 5.0, 5.0).read().shape == (48, 64, 3)
connection = connect_gstreamer("gst:", f"{pipeline} ! videoconvert ! video/x-raw,format=BGR ! appsink", 5.0, 5.0)
count = 0
while (image := connection.read()) is not None:
    assert image.shape == (48, 64, 3), image.shape
    count += 1
print(count)
"""


@pytest.mark.real
def test_a_pipeline_runs_where_the_systems_opencv_has_gstreamer(repository: Path) -> None:
    python = "/usr/bin/python3"
    check = "import cv2, numpy, PIL; raise SystemExit(not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER))"
    if (
        shutil.which(python) is None
        or subprocess.run([python, "-c", check], capture_output=True, check=False).returncode
    ):
        pytest.skip("the system's Python has no OpenCV with GStreamer (python3-opencv)")
    paths = [str(repository), str(repository / "runtime")]
    done = subprocess.run([python, "-c", SYSTEM_OPENCV, *paths], capture_output=True, text=True, check=True)
    assert done.stdout == "5\n"
