"""Masks: what is marked in a file, the union for a picture, the size of the score map, the parts that sPRO counts.

Sources: APRIL-GAN's evaluation (mask to 0 or 255, antialiased bilinear squash, above one half) and that of MVTec
LOCO AD (saturation).
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from edgevand.errors import BadInputError
from edgevand_runtime.datasets.records import DefectMask

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand_runtime.datasets.records import DefectConfig, Sample

__all__ = ["header_size", "mask_at", "mask_values", "read_defects", "read_mask", "saturation"]

# What Pillow raises on damaged files.
_BROKEN = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)
_ORIENTATION = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})
_HALF = 127  # of 255: values above are more than one half


def header_size(path: Path) -> tuple[int, int] | None:
    """Height and width of a picture as it is read (upright), from its header alone; None where it has none to read."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            # Only asked where the header holds it: otherwise Pillow would decode a PNG to look for it.
            turned = "exif" in picture.info and picture.getexif().get(_ORIENTATION) in _SIDEWAYS
    except _BROKEN:
        return None
    return (width, height) if turned else (height, width)


def mask_values(path: Path) -> NDArray[np.int64]:
    """The values of a mask file, (H, W): grey levels or palette indices; of a coloured one the largest channel.

    Raises:
        BadInputError: it cannot be read.
    """
    try:
        with Image.open(path) as picture:
            # What is transparent says nothing about defects; palette indices are kept as they are.
            plain = {"LA": "L", "PA": "P", "RGBA": "RGB", "CMYK": "RGB"}.get(picture.mode, picture.mode)
            values = np.asarray(picture if plain == picture.mode else picture.convert(plain))
    except _BROKEN as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise BadInputError(f"cannot read the mask {path}: {reason}; copy it again") from error
    if values.ndim == 3:  # noqa: PLR2004 - channels
        values = values.max(axis=2)
    return values.astype(np.int64)


def read_mask(sample: Sample, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Where a picture is anomalous: the union of its masks.

    Args:
        sample: the picture.
        size: its height and width in pixels.

    Returns:
        (height, width); nowhere for a normal picture and where there are no masks.

    Raises:
        BadInputError: a mask cannot be read or has another size.
    """
    union = np.zeros(size, np.bool_)
    for path in sample.masks:
        values = mask_values(path)
        if values.shape != size:
            raise BadInputError(
                f"expected the mask {path} to have the size of its image, {size[1]}x{size[0]}, found "
                f"{values.shape[1]}x{values.shape[0]}; export it again at the image's size"
            )
        union |= values > 0
    return union


def mask_at(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask at the size of the score map, as the reference makes it: antialiased bilinear, then above one half.

    Args:
        mask: (H, W), at the picture's size.
        size: rows and columns wanted.

    Returns:
        (rows, columns).
    """
    height, width = mask.shape
    rows, columns = size
    picture = Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0)))
    # Which pass comes first changed with Pillow 13 for tall pictures; made explicit as in preprocess.squash.
    if height - rows > max(0, 2 * (width - columns)):
        picture = picture.resize((width, rows), Image.Resampling.BILINEAR)
    return np.asarray(picture.resize((columns, rows), Image.Resampling.BILINEAR)) > _HALF


def read_defects(sample: Sample, config: Iterable[DefectConfig]) -> list[DefectMask]:
    """The defects of a LOCO picture, one for each of its masks.

    Args:
        sample: the picture.
        config: of its class.

    Raises:
        BadInputError: a mask cannot be read, marks nothing, or has a value that no entry has.
    """
    entries = {entry.pixel_value: entry for entry in config}
    defects = []
    for path in sample.masks:
        values = mask_values(path)
        found = np.unique(values[values > 0])
        if found.size != 1 or int(found[0]) not in entries:
            told = ", ".join(map(str, found[:5])) or "nothing"
            raise BadInputError(
                f"expected {path} to hold one pixel value that defects_config.json lists, found {told}; copy it again"
            )
        pixels = values > 0
        entry = entries[int(found[0])]
        defects.append(DefectMask(entry.defect_name, pixels, saturation(entry, int(np.count_nonzero(pixels)))))
    return defects


def saturation(entry: DefectConfig, area: int) -> int:
    """Pixels of a defect of ``area`` pixels that must be found for it to count as found whole; at least 1."""
    wanted = entry.saturation_threshold
    return max(1, int(wanted * area) if entry.relative_saturation else min(int(wanted), area))
