"""Video files (and animated GIFs): every frame counts, and a torn file is told from one that ends."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2

from edgevand.errors import BadInputError, EndOfSourceError, FrameError
from edgevand_runtime.sources.base import Source, SourceStatus, new_frame
from edgevand_runtime.sources.capture import as_bgr

if TYPE_CHECKING:
    from pathlib import Path

    from edgevand_runtime.frame import Frame

__all__ = ["VIDEO_SUFFIXES", "VideoSource"]

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .ts .mts .m2ts .wmv .flv .ogv .3gp .gif .mjpg .mjpeg .h264 .h265".split()  # noqa: SIM905 - readable
)
# A header counts frames exactly or estimates them: what is missing must exceed both of these to call a video torn.
_MISSING_SHARE = 0.01
_MISSING_SECONDS = 0.5


class VideoSource(Source):
    """A video file, decoded by FFmpeg within OpenCV, frame after frame. ``Frame.source`` is its path."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Args:
            path: the video file.

        Raises:
            BadInputError: the file is empty or no video that OpenCV decodes.
        """
        self.uri = str(path)
        self._lock = threading.Lock()
        self._capture = _open(path)
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._fps = fps if 0 < fps < 1e4 else None  # noqa: PLR2004 - broken headers claim 90 000
        self.length = count if count > 0 else None
        self._media_time = -1.0
        self._status = SourceStatus(connected=True, fps=self._fps)

    def read(self, timeout: float | None = None) -> Frame | None:  # noqa: ARG002 - a file does not wait
        """See ``Source.read``; a torn video raises one FrameError where it breaks off and ends then."""
        with self._lock:
            if not self._status.connected:
                raise EndOfSourceError(self.uri)
            index = self._status.frames
            done, image = self._capture.read()
            if not done:
                self._finish()
            self._media_time = self._time_of(index)
            frame = new_frame(as_bgr(image), index, self.uri, self._media_time)
            self._status = replace(self._status, frames=index + 1, size=frame.size)
            return frame

    def status(self) -> SourceStatus:
        """See ``Source.status``."""
        return self._status

    def close(self) -> None:
        """See ``Source.close``."""
        with self._lock:
            if self._status.connected:
                self._status = replace(self._status, connected=False, changed=time.monotonic())
                self._capture.release()

    def _time_of(self, index: int) -> float:
        """Seconds into the video: the container's time stamp, or the index over the frame rate where it has none."""
        stamp = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
        if stamp > self._media_time and (stamp > 0 or index == 0):
            return stamp
        step = 1 / (self._fps or 25.0)
        return index * step if index * step > self._media_time else self._media_time + step

    def _finish(self) -> None:
        """Nothing more can be decoded: the end, or a tear. Called with the lock held; always raises."""
        frames = self._status.frames
        missing = (self.length or 0) - frames
        torn = missing > max(2, _MISSING_SHARE * frames) and missing / (self._fps or 25.0) > _MISSING_SECONDS
        self._capture.release()
        self._status = replace(self._status, connected=False, changed=time.monotonic())
        if not torn:
            raise EndOfSourceError(self.uri)
        message = (
            f"The video {self.uri} was expected to hold {self.length} frames but breaks off after {frames}: "
            "it is damaged, copy or record it again."
        )
        self._status = replace(self._status, error=message)
        raise FrameError(self.uri, message)


def _open(path: Path) -> cv2.VideoCapture:
    """Open a file with FFmpeg, or with GStreamer where this OpenCV has only that."""
    try:
        empty = path.stat().st_size == 0
        with path.open("rb"):
            pass
    except OSError as error:
        message = f"The video {path} cannot be read ({error.strerror}): check the path and its permissions."
        raise BadInputError(message) from error
    if empty:
        message = f"The video {path} was expected to hold frames but is empty (0 bytes): copy or record it again."
        raise BadInputError(message)
    for backend in (cv2.CAP_FFMPEG, cv2.CAP_GSTREAMER):
        if cv2.videoio_registry.hasBackend(backend):
            capture = cv2.VideoCapture(str(path), backend)
            if capture.isOpened():
                return capture
            capture.release()
    message = (
        f"{path} was expected to be a video but cannot be decoded: it is damaged, incomplete or no video; "
        "copy it again or convert it to MP4 (H.264)."
    )
    raise BadInputError(message)
