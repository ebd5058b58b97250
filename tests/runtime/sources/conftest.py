"""The real servers, for every test of sources."""

from __future__ import annotations

from tests.real.mjpeg import mjpeg_camera, silent_server
from tests.real.rtsp import rtsp_camera

__all__ = ["mjpeg_camera", "rtsp_camera", "silent_server"]
