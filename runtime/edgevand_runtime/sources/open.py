"""One door: a URI, path or camera number becomes a source."""

from __future__ import annotations

import glob
import re
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from PIL import Image

from edgevand.errors import BadInputError
from edgevand_runtime.sources.camera import connect_camera, connect_gstreamer, csi_pipeline
from edgevand_runtime.sources.files import IMAGE_SUFFIXES, ImageSource, images_in_folder, images_of_glob
from edgevand_runtime.sources.live import PIPELINE_REMEDY, LiveSource, Patience
from edgevand_runtime.sources.redact import redact
from edgevand_runtime.sources.stream import STREAM_SCHEMES, check_url, connect_stream
from edgevand_runtime.sources.video import VIDEO_SUFFIXES, VideoSource

if TYPE_CHECKING:
    from edgevand_runtime.sources.base import Source

__all__ = ["open_source"]


def open_source(uri: str | int | Path, *, open_timeout: float = 10.0, read_timeout: float = 10.0) -> Source:
    """Open whatever a person names as a source (docs/sources.md).

    Args:
        uri: camera index, ``/dev/video0`` or ``/dev/v4l/by-id/…``, ``rtsp://…``, ``http://…``, ``csi://0``,
            ``gst:PIPELINE``, video file, image file, folder, glob, or ``test://conveyor``.
        open_timeout: seconds within which a live source must deliver its first frame.
        read_timeout: seconds of silence after which a live source counts as lost and is connected again.

    Returns:
        The open source; a live one has its first frame already.

    Raises:
        BadInputError: a file, folder or glob that is missing, empty or of no use; an address that is none.
        SourceError: a camera or stream that cannot be opened, with the reason.
        UsageError: ``csi://`` or ``test://`` with parameters that make no sense.
    """
    name = str(uri)
    patience = Patience(open=open_timeout, read=read_timeout)
    if name.isdecimal() or re.match(r"/dev/(video|v4l/)", name):
        return LiveSource(name, lambda: connect_camera(name), patience)
    if name.startswith("gst:"):
        return _open_pipeline(name, name.removeprefix("gst:").strip(), patience)
    if "://" in name:
        return _open_url(name, patience)
    return _open_path(name)


def _open_url(url: str, patience: Patience) -> Source:
    """Whatever begins with a scheme."""
    scheme = url.partition("://")[0].lower()
    if scheme == "file":
        return _open_path(unquote(url.partition("://")[2]))
    if scheme == "test":
        from edgevand_runtime.sources.conveyor import open_conveyor

        return open_conveyor(url)
    if scheme == "csi":
        return _open_pipeline(url, csi_pipeline(url), patience)
    if scheme not in STREAM_SCHEMES:
        message = (
            f"{redact(url)} was expected to begin with rtsp://, http://, csi://, file:// or test:// "
            f"but begins with {scheme}://: check the address."
        )
        raise BadInputError(message)
    check_url(url)
    connect = partial(connect_stream, url, patience.open, patience.read, patience.diagnosis)
    return LiveSource(url, connect, patience)


def _open_pipeline(uri: str, pipeline: str, patience: Patience) -> Source:
    """A GStreamer pipeline."""
    connect = partial(connect_gstreamer, uri, pipeline, patience.open, patience.read)
    return LiveSource(uri, connect, patience, PIPELINE_REMEDY)


def _open_path(name: str) -> Source:
    """A file, a folder or a glob."""
    try:
        path = Path(name).expanduser()
        kind = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        kind = 0
    except (OSError, RuntimeError, ValueError) as error:  # too long, not allowed, no home directory, a null character
        reason = redact(str(getattr(error, "strerror", error)))
        message = f"The source {redact(name)} cannot be looked at ({reason}): check the path and its permissions."
        raise BadInputError(message) from error
    if stat.S_ISDIR(kind):
        return ImageSource(str(path), images_in_folder(path))
    if stat.S_ISREG(kind):
        return _open_file(path)
    if kind:
        message = f"{path} was expected to be a file or a folder but is neither: give another path."
        raise BadInputError(message)
    if glob.has_magic(name):
        return ImageSource(name, images_of_glob(str(path)))
    message = (
        f"The source {redact(name)} was expected to be a file, a folder, a glob, a camera number or a URL but does not "
        "exist: check the path."
    )
    raise BadInputError(message)


def _open_file(path: Path) -> Source:
    """An image or a video, by its suffix, or by its content where the suffix says nothing."""
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return VideoSource(path)
    if suffix in IMAGE_SUFFIXES or _pillow_knows(path):
        return ImageSource(str(path), [path])
    message = (
        f"{path} was expected to be an image or a video but its name and content are neither's: "
        "give a PNG, JPEG, MP4 or the like."
    )
    raise BadInputError(message)


def _pillow_knows(path: Path) -> bool:
    """Whether the content is an image."""
    try:
        with Image.open(path):
            return True
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
