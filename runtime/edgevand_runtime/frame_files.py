"""Files that belong to one scored frame: its map, its overlay, its explanation; and how they are named.

A file is named after its frame: the stem of an image file, for a video its stem and the frame's index in six
digits. Two sources with one stem would write over each other, so the second one gets its folder in front
(``colour-04`` after ``04``), as many folders as it takes, then its suffix (``04_png``), then a number. Names depend on
nothing but the order of the sources; each result line says which files are its own.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgevand.errors import OutputError
from edgevand.files import output_error, write_atomic
from edgevand_runtime.sources.files import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["FrameNames", "make_directory", "write_jpeg", "write_map"]

_QUALITY = 90
_NUMBERED = re.compile(r"-\d{6}$")


class FrameNames:
    """Gives each frame a name that no frame of another source has."""

    def __init__(self) -> None:
        """Start with no name taken."""
        self._of_source: dict[str, str] = {}
        self._taken: set[str] = set()
        self._videos: set[str] = set()
        self._prefixes: set[str] = set()

    def name(self, source: str, frame: int) -> str:
        """The name of a frame, without suffix; the same one whenever it is asked for again."""
        if source not in self._of_source:
            self._of_source[source] = next(name for name in _candidates(source) if self._take(name, source))
        name = self._of_source[source]
        return name if _is_image(source) else f"{name}-{frame:06d}"

    def _take(self, name: str, source: str) -> bool:
        """Take a name if it is free; ``clip-000007.png`` and frame 7 of ``clip.mp4`` are in each other's way."""
        name, image = name.casefold(), _is_image(source)
        prefix = _NUMBERED.sub("", name)
        if name in self._taken or (prefix in self._videos if image else name in self._prefixes):
            return False
        self._taken.add(name)
        if not image:
            self._videos.add(name)
        elif prefix != name:
            self._prefixes.add(prefix)
        return True


def make_directory(path: Path) -> Path:
    """Make an output directory.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
    return path


def write_map(path: Path, raw_map: NDArray[np.float32]) -> None:
    """Write a raw map as a ``.npy`` file: (H, W) float32, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, raw_map.astype(np.float32, copy=False), allow_pickle=False)
    write_atomic(path, buffer.getvalue())


def write_jpeg(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a picture (H, W, 3) uint8 BGR as JPEG, whole or not at all."""
    done, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise OutputError(f"expected to write {path}, but a picture of {image.shape[1]}x{image.shape[0]} is no JPEG")
    write_atomic(path, jpeg.tobytes())


def _is_image(source: str) -> bool:
    """Whether a source is a file with one picture, by its name."""
    return Path(source).suffix.lower() in IMAGE_SUFFIXES


def _candidates(source: str) -> Iterator[str]:
    """Names for a source, the plainest first."""
    if "://" in source:  # test://conveyor?seed=1: what is between has no folders
        parts = [re.sub(r"[^A-Za-z0-9.]+", "-", source.split("://", 1)[1]).strip("-") or "stream"]
        suffix = ""
    else:
        path = Path(source)
        parts = [part for part in (*path.parts[:-1], path.stem) if part not in {"/", ".", ".."}]
        suffix = path.suffix[1:]
    for count in range(1, len(parts) + 1):
        yield "-".join(parts[-count:])
    if suffix:
        yield f"{parts[-1]}_{suffix}"
    number = 2
    while True:
        yield f"{parts[-1]}-{number}"
        number += 1
