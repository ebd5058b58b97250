"""Cameras of this machine: by index or device file, CSI cameras of a Jetson, and GStreamer pipelines."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import cv2

from edgevand.errors import SourceError, UsageError
from edgevand_runtime.sources.capture import OpenCvCapture, has_backend
from edgevand_runtime.sources.redact import redact

__all__ = ["camera_devices", "connect_camera", "connect_gstreamer", "csi_pipeline"]

_APPSINK = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
_CSI_DEFAULTS = {"width": 1920, "height": 1080, "fps": 30, "flip": 0}


def camera_devices() -> list[str]:
    """The video devices of this machine, ``/dev/video0`` and so on, by number; empty where there are no such files."""
    found = [path.name for path in Path("/dev").glob("video*") if path.name[5:].isdigit()]
    return [f"/dev/{name}" for name in sorted(found, key=lambda name: int(name[5:]))]


def connect_camera(name: str) -> OpenCvCapture:
    """Open a camera.

    Args:
        name: an index (``0``) or a device file (``/dev/video0``).

    Raises:
        SourceError: there is no such camera, this user may not use it, or it is busy.
    """
    linux = sys.platform.startswith("linux")
    device = f"/dev/video{int(name)}" if name.isdecimal() else name
    if linux:
        _check_device(name, Path(device))
    backend = cv2.CAP_V4L2 if linux and has_backend(cv2.CAP_V4L2) else cv2.CAP_ANY
    capture = cv2.VideoCapture(int(name) if name.isdecimal() else name, backend)
    if capture.isOpened():
        return OpenCvCapture(capture)
    capture.release()
    raise SourceError(
        f"The camera {name} was expected to deliver frames but {device if linux else 'it'} cannot be opened: another "
        "program may be using it, or it is not a capture device; close the program or try another number."
    )


def _check_device(name: str, device: Path) -> None:
    """Tell why a device file cannot work, before OpenCV merely says no."""
    if not device.exists():
        found = ", ".join(camera_devices()) or "no camera at all"
        raise SourceError(
            f"The camera {name} was expected at {device} but this machine has {found}: plug it in, or name another "
            "source (an rtsp:// address, a video, a folder, test://conveyor)."
        )
    if not os.access(device, os.R_OK | os.W_OK):
        raise SourceError(
            f"The camera {name} was expected to be usable but this user may not open {device}: "
            "add the user to the group of the device (video, as a rule) and log in again."
        )


def csi_pipeline(uri: str) -> str:
    """The GStreamer pipeline for a Jetson's CSI camera.

    Args:
        uri: ``csi://N``, with ``?width=1920&height=1080&fps=30&flip=0`` where other values are wanted
            (flip: nvvidconv's flip-method, 2 turns by 180 degrees).

    Raises:
        UsageError: no sensor number, an unknown parameter, or one that is no number.
    """
    parts = urlsplit(uri)
    values = dict(_CSI_DEFAULTS)
    sensor = parts.netloc or "0"
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in values or not value.isdecimal():
            raise UsageError(f"{uri} was expected to be csi://N?width=…&height=…&fps=…&flip=… but has {key}={value}.")
        values[key] = int(value)
    if not sensor.isdecimal():
        raise UsageError(f"{uri} was expected to be csi:// with a sensor number, csi://0 for instance.")
    return (
        f"nvarguscamerasrc sensor-id={sensor} ! "
        f"video/x-raw(memory:NVMM),width={values['width']},height={values['height']},"
        f"framerate={values['fps']}/1,format=NV12 ! "
        f"nvvidconv flip-method={values['flip']} ! video/x-raw,format=BGRx ! {_APPSINK}"
    )


def connect_gstreamer(uri: str, pipeline: str, open_timeout: float, read_timeout: float) -> OpenCvCapture:
    """Open a GStreamer pipeline; one without an ``appsink`` gets one at its end.

    Args:
        uri: what the person gave, for messages.
        pipeline: in the notation of gst-launch-1.0.
        open_timeout: seconds.
        read_timeout: seconds.

    Raises:
        SourceError: this OpenCV has no GStreamer, or the pipeline does not start.
    """
    if not has_backend(cv2.CAP_GSTREAMER):
        raise SourceError(
            f"{redact(uri)} needs an OpenCV built with GStreamer, which this one (cv2 {cv2.__version__}) is not: "
            "on a Jetson use JetPack's own python3-opencv, elsewhere build OpenCV with -DWITH_GSTREAMER=ON, "
            "or name the camera by rtsp:// or /dev/videoN."
        )
    if not re.search(r"\bappsink\b", pipeline):
        pipeline = f"{pipeline} ! {_APPSINK}"
    timeouts = [
        *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(open_timeout * 1000)),
        *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(read_timeout * 1000)),
    ]
    capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER, timeouts)
    if not capture.isOpened():  # before OpenCV 4.10 the GStreamer backend refuses timeouts
        capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
    if capture.isOpened():
        return OpenCvCapture(capture)
    capture.release()
    raise SourceError(
        f"{redact(uri)} was expected to be a GStreamer pipeline that delivers pictures but does not start: "
        "try it with gst-launch-1.0 first."
    )
