"""What lies in a folder, in natural order; hidden entries are passed over."""

from __future__ import annotations

import os
from pathlib import Path

from edgevand.errors import BadInputError
from edgevand_runtime.sources.files import IMAGE_SUFFIXES, natural_key

__all__ = ["folders_of", "images_of", "masks_of", "relative"]

_MASK_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff"})  # a lossy format would mark pixels that nobody marked


def images_of(folder: Path) -> list[Path]:
    """The image files of a folder, one level; none where there is no such folder.

    Raises:
        BadInputError: the folder cannot be listed.
    """
    return [path for path, is_folder in _entries(folder) if not is_folder and path.suffix.lower() in IMAGE_SUFFIXES]


def masks_of(folder: Path) -> list[Path]:
    """The files of a folder that can be masks: images of a format without loss; otherwise as ``images_of``."""
    return [path for path, is_folder in _entries(folder) if not is_folder and path.suffix.lower() in _MASK_SUFFIXES]


def folders_of(folder: Path) -> list[Path]:
    """The sub-folders of a folder; none where there is no such folder.

    Raises:
        BadInputError: the folder cannot be listed.
    """
    return [path for path, is_folder in _entries(folder) if is_folder]


def relative(path: Path, root: Path) -> str:
    """A path as it is told to people and written into reports: from the root, with ``/``."""
    return path.relative_to(root).as_posix()


def _entries(folder: Path) -> list[tuple[Path, bool]]:
    """Each entry and whether it is a folder; a link that leads nowhere counts as a file, which reading then tells."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        msg = f"cannot read the folder {folder}: {error.strerror}; check its permissions"
        raise BadInputError(msg) from error
    return [(Path(folder, name), is_folder) for name, is_folder in sorted(found, key=lambda each: natural_key(each[0]))]
