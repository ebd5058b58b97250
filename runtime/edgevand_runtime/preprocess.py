"""From a picture to what the encoder reads, in one place for enroll, score, monitor and the exporter's parity check.

The rule is the reference's (APRIL-GAN): RGB, squash to the bundle's image size with Pillow's antialiased bicubic filter
(a = -0.5, aspect ratio not kept), /255, (x - mean) / std. OpenCV's resize is another filter and shifts scores, so
Pillow itself does the resizing.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, Union

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from edgevand.errors import BadInputError, FrameError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand.bundle import ImageRecord

__all__ = ["MAX_PIXELS", "Parts", "Prepared", "crop", "load_image", "squash", "to_tensor"]

MAX_PIXELS = 178_956_970
"""Largest picture that is read, in pixels (Pillow's own limit against decompression bombs): 16 384 x 10 922, say."""

# What Pillow has to say (a large scan may be an attack, a tag of a damaged file is skipped) is either an error here,
# told in a sentence of our own, or harmless.
warnings.filterwarnings("ignore", module=r"PIL\.")

_BAND_PIXELS = 1 << 19
_MAX_16_BITS = 0xFFFF
_DEEP_GREY = {"I", "I;16", "I;16L", "I;16B", "I;16N"}
# What Pillow's decoders raise on broken files, beside OSError.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class Parts(NamedTuple):
    """A preprocessed frame that its method sees in parts (``Method.boxes``)."""

    tensors: NDArray[np.float32]
    """(V, 3, H, W)."""
    size: tuple[int, int]
    """Width and height of the frame in pixels."""


Prepared: TypeAlias = Union["NDArray[np.float32]", Parts]
"""A preprocessed frame: (3, H, W), or its parts."""


def crop(image: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """The part x, y, width, height of an (H, W, 3) picture, as a view of it."""
    x, y, width, height = box
    return image[y : y + height, x : x + width]


def load_image(path: Path | str) -> NDArray[np.uint8]:
    """Read an image file the way Pillow reads it, upright and as 8-bit BGR.

    Palette and CMYK pictures are converted, transparency is dropped (the colour under it stays), grey is repeated, of
    16 bits the upper 8 are kept, EXIF rotation is applied; an animation or a multi-page file gives its first picture.

    Args:
        path: a file in any format that Pillow decodes.

    Returns:
        (H, W, 3) uint8, BGR, 0..255, C-contiguous, its own memory.

    Raises:
        FrameError: the file is missing, empty, torn, no image, too large (``MAX_PIXELS``) or of an unusable pixel type.
    """
    name = str(path)
    try:
        with Image.open(path) as opened:
            opened.load()
            ImageOps.exif_transpose(opened, in_place=True)
            return _to_bgr(_to_rgb(opened, name))
    except FrameError:
        raise
    except _DECODE_ERRORS as error:
        raise FrameError(name, _explain(path, error)) from error
    except MemoryError as error:
        message = (
            f"{name} does not fit into memory: expected a picture of less than {MAX_PIXELS} pixels, make it smaller."
        )
        raise FrameError(name, message) from error


def squash(image_bgr: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize as ``PIL.Image.resize(size, BICUBIC)`` of the RGB picture does, bit for bit, with any version of Pillow.

    Pillow rounds to 8 bits between its two passes. Up to version 12 the rows always come first; since 13 the columns do
    where a picture loses more than twice as much height as width. Python 3.10 has no Pillow 13, and a score must not
    depend on the version, so the newer order is made explicit.

    Args:
        image_bgr: (H, W, 3) uint8, BGR, 0..255.
        size: (width, height) wanted, pixels.

    Returns:
        (height, width, 3) uint8, **RGB**.

    Raises:
        BadInputError: the array is not (H, W, 3) uint8 with at least one pixel.
    """
    _check(image_bgr)
    height, width = image_bgr.shape[:2]
    # "BGR" is the order of the bytes handed over: Pillow's picture is RGB.
    rgb = Image.frombuffer("RGB", (width, height), np.ascontiguousarray(image_bgr), "raw", "BGR", 0, 1)
    lost_width, lost_height = width - size[0], height - size[1]
    if lost_height > max(0, 2 * lost_width):
        rgb = rgb.resize((width, size[1]), Image.Resampling.BICUBIC)
    return np.asarray(rgb.resize(size, Image.Resampling.BICUBIC))


def to_tensor(
    image_bgr: NDArray[np.uint8], image: ImageRecord, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Turn a frame into the encoder's input.

    Args:
        image_bgr: (H, W, 3) uint8, BGR, 0..255.
        image: the bundle's preprocessing record.
        out: (3, image.height, image.width) float32, C-contiguous, that takes the result; None for a new one.

    Returns:
        (3, image.height, image.width) float32, RGB planes, normalised, C-contiguous.

    Raises:
        BadInputError: the array is not (H, W, 3) uint8 with at least one pixel.
    """
    rgb = squash(image_bgr, (image.width, image.height))
    values = np.arange(256, dtype=np.float32) / np.float32(255)
    planes = np.empty((3, image.height, image.width), np.float32) if out is None else out
    for channel, (mean, std) in enumerate(zip(image.mean, image.std, strict=True)):
        table = (values - np.float32(mean)) / np.float32(std)
        cv2.LUT(cv2.extractChannel(rgb, channel), table, dst=planes[channel])
    return planes


def _check(image_bgr: NDArray[np.uint8]) -> None:
    """Refuse what is not a colour picture."""
    shape, kind = np.shape(image_bgr), getattr(image_bgr, "dtype", None)
    if len(shape) != 3 or shape[2] != 3 or kind != np.uint8 or 0 in shape:  # noqa: PLR2004 - (H, W, 3)
        message = (
            f"A frame must be a (height, width, 3) uint8 array in BGR order, found {kind} {shape}: convert it first."
        )
        raise BadInputError(message)


def _to_rgb(picture: Image.Image, name: str) -> Image.Image:
    """Any Pillow mode as RGB."""
    if picture.mode in _DEEP_GREY:
        return _deep_grey_to_rgb(picture, name)
    if picture.mode == "F":
        message = (
            f"{name} holds floating-point pixels where 8 or 16 bits are expected: convert it to 8 or 16 bits first."
        )
        raise FrameError(name, message)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _deep_grey_to_rgb(picture: Image.Image, name: str) -> Image.Image:
    """Grey of 16 bits to its upper 8, as Pillow itself does for colour of 16 bits (its own convert would clip)."""
    values = np.asarray(picture)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > _MAX_16_BITS:
        message = (
            f"{name} holds values from {low} to {high} where 8 or 16 bits are expected: convert it to 16 bits first."
        )
        raise FrameError(name, message)
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")


def _to_bgr(picture: Image.Image) -> NDArray[np.uint8]:
    """RGB picture to a BGR array, band by band so that no second whole copy exists."""
    width, height = picture.size
    image = np.empty((height, width, 3), np.uint8)
    step = max(1, _BAND_PIXELS // width)
    for top in range(0, height, step):
        band = picture.crop((0, top, width, min(height, top + step)))
        image[top : top + step] = np.frombuffer(band.tobytes("raw", "BGR"), np.uint8).reshape(-1, width, 3)
    return image


def _explain(path: Path | str, error: Exception) -> str:
    """The sentence for a file that Pillow could not read."""
    if isinstance(error, FileNotFoundError):
        return f"{path} was expected to be an image file but does not exist: check the path."
    if isinstance(error, PermissionError):
        return f"{path} may not be read by this user: give read permission."
    if isinstance(error, IsADirectoryError):
        return f"{path} was expected to be an image file but is a folder: give it as the source instead."
    if isinstance(error, Image.DecompressionBombError):
        return f"{path} is larger than the {MAX_PIXELS} pixels that are read at most: make it smaller or cut it."
    if isinstance(error, UnidentifiedImageError):
        return f"{path} was expected to be an image but {_content(path)}: replace or remove it."
    return f"{path} was expected to be a whole image but is damaged ({_one_line(error)}): copy or record it again."


def _content(path: Path | str) -> str:
    """What a file that is no image seems to be."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - str or Path
            head = file.read(512)
    except OSError:
        return "its content is of no known format"
    if not head:
        return "is empty (0 bytes)"
    try:
        head.decode("ascii")
    except UnicodeDecodeError:
        return "its content is of no known format"
    return "holds text" if b"\0" not in head else "its content is of no known format"


def _one_line(error: Exception) -> str:
    """The decoder's own words, on one line."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
