from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgevand.bundle import ImageRecord
from edgevand.errors import BadInputError, FrameError
from edgevand_runtime.preprocess import MAX_PIXELS, load_image, squash, to_tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "april-gan"
CLIP = ImageRecord(
    height=112,
    width=112,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
# What EXIF orientation 1..8 says must be done to the stored picture, by NumPy.
UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """(H, W, channels) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def pillow_squash(rgb: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The rule, as Pillow 13 alone computes it; an older one is told which pass comes first."""
    if PIL.__version__ < "13" and rgb.height - size[1] > max(0, 2 * (rgb.width - size[0])):
        rgb = rgb.resize((rgb.width, size[1]), Image.Resampling.BICUBIC)
    return np.asarray(rgb.resize(size, Image.Resampling.BICUBIC))


@pytest.mark.parametrize("name", ["test_0", "test_1", "test_2", "test_3"])
def test_tensors_are_those_of_the_reference_implementation(name: str) -> None:
    expected = np.load(GOLDEN / "expected.npz")[f"{name}_pixels"]
    tensor = to_tensor(load_image(GOLDEN / "images" / f"{name}.png"), CLIP)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "LA", "RGBA", "P", "CMYK"])
def test_every_kind_of_picture_is_squashed_as_pillow_squashes_its_rgb_form(mode: str, tmp_path: Path) -> None:
    source = Image.fromarray(noise(83, 131)).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    if mode in {"RGBA", "LA"}:
        source.putalpha(Image.fromarray(noise(83, 131, 1, seed=1)[:, :, 0]))
    source.save(path)
    rgb = Image.open(path).convert("RGB")
    image = load_image(path)
    np.testing.assert_array_equal(image, np.asarray(rgb)[:, :, ::-1])
    np.testing.assert_array_equal(squash(image, (48, 32)), pillow_squash(rgb, (48, 32)))


def test_transparency_is_dropped_and_the_colour_under_it_stays(tmp_path: Path) -> None:
    pixels = np.dstack([noise(9, 7), np.zeros((9, 7), np.uint8)])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_image(tmp_path / "a.png"), pixels[:, :, 2::-1])


def test_a_palette_with_a_transparent_colour_keeps_its_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(noise(20, 20)).quantize(16)
    picture.save(tmp_path / "a.png", transparency=3)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png")[:, :, ::-1], np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_of_sixteen_bits_the_upper_eight_count_in_grey_and_colour(channels: int, suffix: str, tmp_path: Path) -> None:
    deep = np.random.default_rng(2).integers(0, 65536, (40, 60, channels), dtype=np.uint16)
    path = tmp_path / f"a{suffix}"
    assert cv2.imwrite(str(path), deep)
    image = load_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.broadcast_to(deep >> 8, (40, 60, 3)))


def test_big_endian_sixteen_bit_grey_is_read(tmp_path: Path) -> None:
    deep = np.random.default_rng(3).integers(0, 65536, (5, 4), dtype=np.uint16)
    (tmp_path / "a.pgm").write_bytes(b"P5 4 5 65535\n" + deep.astype(">u2").tobytes())
    np.testing.assert_array_equal(load_image(tmp_path / "a.pgm")[:, :, 0], deep >> 8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_pictures_stand_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    pixels = noise(6, 10)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}", exif=exif)
    np.testing.assert_array_equal(load_image(tmp_path / f"a{suffix}")[:, :, ::-1], UPRIGHT[orientation](pixels))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    size=st.tuples(st.integers(1, 64), st.integers(1, 64)),
)
def test_any_size_is_squashed_to_any_size_as_pillow_does(height: int, width: int, size: tuple[int, int]) -> None:
    image = noise(height, width, seed=height * 100 + width)
    np.testing.assert_array_equal(squash(image, size), pillow_squash(Image.fromarray(image[:, :, ::-1].copy()), size))


def test_a_view_that_is_not_contiguous_is_read_right() -> None:
    image = noise(64, 96)
    view = image[::2, ::-1]
    np.testing.assert_array_equal(squash(view, (30, 20)), squash(view.copy(), (30, 20)))


def test_one_pixel_becomes_a_plain_picture(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "a.png")
    tensor = to_tensor(load_image(tmp_path / "a.png"), CLIP)
    expected = (np.array([10, 20, 30]) / 255 - CLIP.mean) / CLIP.std
    np.testing.assert_allclose(tensor, np.broadcast_to(expected[:, None, None], (3, 112, 112)), atol=1e-6)


def test_height_and_width_of_the_bundle_are_not_confused() -> None:
    record = CLIP.model_copy(update={"height": 20, "width": 50})
    assert to_tensor(noise(30, 30), record).shape == (3, 20, 50)


BIG = """
import resource, sys
import numpy as np
from PIL import Image
from edgevand_runtime.preprocess import load_image, squash
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
image = load_image(sys.argv[1])
squashed = squash(image, (518, 518))
print(peak() - before)
rgb = Image.frombuffer("RGB", (12000, 9000), image, "raw", "BGR", 0, 1)
assert np.array_equal(squashed, np.asarray(rgb.resize((518, 518), Image.Resampling.BICUBIC)))
"""


def test_twelve_thousand_by_nine_thousand_pixels_are_decoded_once_and_copied_once(
    tmp_path: Path, repository: Path
) -> None:
    """Pillow's decoded picture takes 4 bytes a pixel and the frame 3: nothing else may be of that size."""
    small = Image.fromarray(noise(90, 120))
    small.resize((12000, 9000), Image.Resampling.NEAREST).save(tmp_path / "big.jpg")
    path = [str(repository), str(repository / "runtime")]
    code = f"import sys; sys.path[:0] = {path}\n{BIG}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "big.jpg")], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert float(done.stdout) < 12000 * 9000 * 7 / 2**20 + 100


def broken(kind: str) -> bytes:
    """The content of a file that is no picture, or a damaged one."""
    whole = noise(64, 64)
    jpeg, png = (cv2.imencode(suffix, whole)[1].tobytes() for suffix in (".jpg", ".png"))
    return {
        "empty": b"",
        "text": b"This is no picture.\n",
        "torn jpeg": jpeg[: len(jpeg) // 2],
        "torn png": png[: len(png) // 2],
        "bytes": bytes(range(128, 256)),
        "spoilt png": png[:100] + bytes(40) + png[140:],
    }[kind]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("empty", "is empty (0 bytes)"),
        ("text", "holds text"),
        ("torn jpeg", "damaged"),
        ("torn png", "damaged"),
        ("bytes", "no known format"),
        ("spoilt png", "damaged"),
    ],
)
def test_a_file_that_is_no_whole_picture_is_told_in_one_sentence(kind: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "part.png"
    path.write_bytes(broken(kind))
    with pytest.raises(FrameError) as caught:
        load_image(path)
    sentence = str(caught.value)
    assert says in sentence
    assert str(path) in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert caught.value.source == str(path)


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="does not exist"):
        load_image(tmp_path / "none.png")
    with pytest.raises(FrameError, match="is a folder"):
        load_image(tmp_path)


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (np.full((4, 4), 0.5, np.float32), "floating-point"),
        (np.full((4, 4), 1 << 20, np.int32), "values from 1048576"),
        (np.full((4, 4), -3, np.int32), "values from -3"),
    ],
)
def test_pixel_types_whose_scale_is_unknown_are_refused(pixels: NDArray, says: str, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with pytest.raises(FrameError, match=says):
        load_image(tmp_path / "a.tif")


def test_a_picture_that_claims_more_pixels_than_allowed_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = (60_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(FrameError, match=str(MAX_PIXELS)):
        load_image(path)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_an_array_that_is_no_frame_is_refused(array: NDArray) -> None:
    with pytest.raises(BadInputError, match="must be a"):
        squash(array, (8, 8))


@settings(max_examples=150, deadline=None)
@given(
    suffix=st.sampled_from([".jpg", ".png", ".bmp", ".tiff", ".webp", ".gif"]),
    place=st.floats(0, 1, exclude_max=True),
    junk=st.binary(min_size=1, max_size=12),
    cut=st.floats(0.05, 1),
)
def test_whatever_a_damaged_file_holds_it_gives_a_frame_or_a_frame_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, place: float, junk: bytes, cut: float
) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz{suffix}"
    Image.fromarray(noise(16, 24)).save(path)
    content = bytearray(path.read_bytes())
    start = int(place * len(content))
    content[start : start + len(junk)] = junk
    path.write_bytes(content[: max(1, int(cut * len(content)))])
    try:
        image = load_image(path)
    except FrameError:
        return
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
