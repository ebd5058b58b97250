"""Network streams through the FFmpeg inside OpenCV: RTSP, HTTP MJPEG and their kin."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import cv2

from edgevand.errors import BadInputError, SourceError
from edgevand_runtime.sources.capture import OpenCvCapture
from edgevand_runtime.sources.diagnosis import explain_refusal
from edgevand_runtime.sources.redact import redact

__all__ = ["STREAM_SCHEMES", "check_url", "connect_stream"]

STREAM_SCHEMES = frozenset({"rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "tcp", "udp"})


def check_url(url: str) -> None:
    """Refuse an address that no attempt can save.

    Raises:
        BadInputError: no host, or a port that is none.
    """
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise BadInputError(
            f"{redact(url)} was expected to be an address like rtsp://user:password@host:554/path but has no usable "
            "host or port: check it, and write special characters of a password as %40 (@), %2F (/), %3A (:)."
        )


def connect_stream(url: str, open_timeout: float, read_timeout: float, diagnosis_timeout: float) -> OpenCvCapture:
    """Open a stream.

    Args:
        url: the address, with user and password where the server asks for them.
        open_timeout: seconds for connecting and finding the picture format.
        read_timeout: seconds that a read may wait.
        diagnosis_timeout: seconds for finding out why it failed.

    Raises:
        SourceError: with the reason: unknown host, refused, no answer, wrong password, no such stream, no video.
    """
    timeouts = [
        *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(open_timeout * 1000)),
        *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(read_timeout * 1000)),
    ]
    started = time.monotonic()
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, timeouts)
    if capture.isOpened():
        return OpenCvCapture(capture)
    capture.release()
    if time.monotonic() - started >= 0.9 * open_timeout:
        raise SourceError(
            f"The source {redact(url)} was expected to answer but sent no picture within {open_timeout:g} s: "
            "check that the address is the camera's and that the camera is running."
        )
    raise SourceError(explain_refusal(url, diagnosis_timeout))
