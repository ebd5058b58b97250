"""One door: a URI, path or camera number becomes a source."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from edgevand.errors import BadInputError
from edgevand_runtime.sources.files import IMAGE_SUFFIXES, ImageSource, images_in_folder, images_of_glob
from edgevand_runtime.sources.redact import redact
from edgevand_runtime.sources.video import VIDEO_SUFFIXES, VideoSource

if TYPE_CHECKING:
    from edgevand_runtime.sources.base import Source

__all__ = ["open_source"]


def open_source(uri: str | Path, *, open_timeout: float = 10.0, read_timeout: float = 10.0) -> Source:
    """Open whatever a person names as a source.

    Args:
        uri: image or video file, folder, or glob.
        open_timeout: seconds within which a live source must deliver its first frame.
        read_timeout: seconds of silence after which a live source counts as lost.

    Returns:
        The open source.

    Raises:
        BadInputError: a file, folder or glob that is missing, empty or of no use.
        SourceError: a camera or stream that cannot be opened, with the reason.
    """
    return _open_path(str(uri).removeprefix("file://"))


def _open_path(name: str) -> Source:
    """A file, a folder or a glob."""
    path = Path(name).expanduser()
    if path.is_dir():
        return ImageSource(str(path), images_in_folder(path))
    if path.exists():
        return _open_file(path)
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
