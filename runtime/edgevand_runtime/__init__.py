"""The device side: sources, preprocessing, engines, scoring, calibration, streaming. Never reaches torch."""

from __future__ import annotations

import os

# Errors are told in sentences of our own; what OpenCV and the FFmpeg inside it print on stderr would only stand between
# them. Both read these variables when cv2 is first imported, so they are set here; a value of the user's wins.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
