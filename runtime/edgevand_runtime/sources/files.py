"""Image files: one, a folder of them, or a glob. Every picture counts; a bad one is told and the reading goes on."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import TYPE_CHECKING

from edgevand.errors import BadInputError, EndOfSourceError
from edgevand_runtime.preprocess import load_image
from edgevand_runtime.sources.base import Source, SourceStatus, new_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevand_runtime.frame import Frame

__all__ = ["IMAGE_SUFFIXES", "ImageSource", "images_in_folder", "images_of_glob", "natural_key"]

IMAGE_SUFFIXES = frozenset(
    ".png .jpg .jpeg .jpe .jfif .bmp .dib .tif .tiff .webp .ppm .pgm .pbm .pnm .jp2 .avif".split()  # noqa: SIM905 - readable
)
_NAMED = 3


class ImageSource(Source):
    """A list of image files, read in order. ``Frame.source`` is the path of the file."""

    def __init__(self, uri: str, paths: Sequence[Path]) -> None:
        """Read nothing yet.

        Args:
            uri: what the person gave: a file, a folder or a glob.
            paths: the image files, in the order of reading.
        """
        self.uri = uri
        self.length = len(paths)
        self._paths = tuple(paths)
        self._status = SourceStatus(connected=True)

    def read(self, timeout: float | None = None) -> Frame | None:  # noqa: ARG002 - a file does not wait
        """See ``Source.read``."""
        index = self._status.frames
        if not self._status.connected or index >= len(self._paths):
            raise EndOfSourceError(self.uri)
        path = self._paths[index]
        # Counted before it is read, so that a bad file is passed over by the next call.
        self._status = SourceStatus(
            connected=True, frames=index + 1, size=self._status.size, changed=self._status.changed
        )
        frame = new_frame(load_image(path), index, str(path))
        self._status = SourceStatus(connected=True, frames=index + 1, size=frame.size, changed=self._status.changed)
        return frame

    def status(self) -> SourceStatus:
        """See ``Source.status``."""
        return self._status

    def close(self) -> None:
        """See ``Source.close``."""
        if self._status.connected:
            self._status = SourceStatus(connected=False, frames=self._status.frames, size=self._status.size)


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which ``img2`` comes before ``img10``."""
    pieces = re.findall(r"\d+|\D+", name)
    return tuple((0, int(piece), piece) if piece.isdecimal() else (1, 0, piece.casefold()) for piece in pieces)


def images_in_folder(folder: Path) -> list[Path]:
    """The image files of a folder in natural order: one level, hidden files passed over.

    Raises:
        BadInputError: the folder holds no image file, or cannot be listed.
    """
    try:
        entries = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
    except OSError as error:
        message = f"The folder {folder} cannot be read ({error.strerror}): give this user permission or another folder."
        raise BadInputError(message) from error
    images = [path for path in entries if _is_image(path)]
    if images:
        return images
    below = [entry.name for entry in entries if entry.is_dir() and any(map(_is_image, entry.iterdir()))]
    if below:
        names = ", ".join(below[:_NAMED]) + (", …" if len(below) > _NAMED else "")
        message = (
            f"The folder {folder} was expected to hold images but has them only in sub-folders ({names}): "
            f'give one of those, or the glob "{folder}/*/*".'
        )
    else:
        message = f"The folder {folder} was expected to hold images (PNG, JPEG, …) but holds none: give another folder."
    raise BadInputError(message)


def images_of_glob(pattern: str) -> list[Path]:
    """The image files that a glob matches, in natural order of their paths; ``**`` goes through sub-folders.

    Raises:
        BadInputError: nothing, or no image file, matches.
    """
    matches = [Path(name) for name in glob.glob(pattern, recursive=True)]  # noqa: PTH207 - an absolute pattern too
    images = [path for path in matches if _is_image(path)]
    if not images:
        found = "no file" if not matches else f"{len(matches)} entries, none of them an image"
        message = f"The glob {pattern} was expected to match image files but matches {found}: check it and quote it."
        raise BadInputError(message)
    return sorted(images, key=lambda path: [natural_key(part) for part in path.parts])


def _is_image(path: Path) -> bool:
    """Whether the name says image."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
