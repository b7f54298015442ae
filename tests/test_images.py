"""Whatever bytes come in: upright 8-bit RGB pixels come out, or `Unusable` with a reason."""

import io
import re
import resource
import struct
import time
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from tasks.images import (
    REASONS,
    Limits,
    Pixels,
    Scaled,
    Unusable,
    check,
    decode,
    encode_png,
    random_box,
    square,
)
from tests.builders.encoded import NOISE, encoded, png

# Pillow warns of odd metadata, and pytest would make errors of it.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

RAMP = np.tile(np.arange(0, 65536, 64, dtype=np.uint16), (4, 1))
LIMITS = Limits(max_pixels=64_000_000)
QUADRANTS = np.kron(
    np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8),
    np.ones((16, 24, 1), np.uint8),
)


def reason(data: bytes, limits: Limits = LIMITS) -> str:
    with pytest.raises(Unusable) as caught:
        decode(data, limits)
    assert caught.value.reason in REASONS
    assert caught.value.detail
    assert "\n" not in str(caught.value)
    return caught.value.reason


def lying_jpeg(width: int, height: int) -> bytes:
    data = encoded(NOISE, "JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


# ------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize(
    "kind", ["PNG", "BMP", "PPM", "TIFF", "GIF", "WEBP", "AVIF", "JPEG", "MPO"]
)
def test_every_format_gives_rgb_bytes(kind: str) -> None:
    flat = Image.new("RGB", (60, 40), (200, 30, 60))
    pixels = decode(encoded(flat, kind), LIMITS)
    assert pixels.shape == (40, 60, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert np.abs(pixels.astype(int) - (200, 30, 60)).max() <= 4


@pytest.mark.parametrize("how", [{"progressive": True}, {"quality": 95, "subsampling": 0}, {}])
def test_jpeg_pixels_are_those_of_pillow(how: dict[str, Any]) -> None:
    data = encoded(NOISE, "JPEG", **how)
    assert np.array_equal(decode(data, LIMITS), np.asarray(Image.open(io.BytesIO(data))))


def test_grey_jpeg_becomes_three_equal_channels() -> None:
    pixels = decode(encoded(NOISE.convert("L"), "JPEG"), LIMITS)
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


@pytest.mark.parametrize("ycck", [False, True])
def test_cmyk_jpeg_has_the_colours_it_was_made_of(ycck: bool) -> None:
    flat = Image.new("RGB", (64, 64), (200, 40, 90))
    data = encoded(flat.convert("CMYK"), "JPEG", quality=95)
    if ycck:
        data = as_ycck(data)
    pixels = decode(data, LIMITS).astype(int)
    theirs = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(pixels - theirs).max() <= 1
    if not ycck:
        assert np.abs(pixels - (200, 40, 90)).max() <= 6


def as_ycck(data: bytes) -> bytes:
    """The same samples, said to be YCCK by the Adobe marker."""
    at = data.index(b"Adobe") + 11
    return data[:at] + b"\x02" + data[at + 1 :]


def test_damaged_cmyk_jpeg_is_refused() -> None:
    data = encoded(NOISE.convert("CMYK"), "JPEG")
    assert reason(data[: len(data) // 2]) == "damaged"


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_ramp_stays_a_ramp(kind: str) -> None:
    grey = decode(encoded(Image.fromarray(RAMP), kind), LIMITS)[0, :, 0].astype(int)
    assert grey.tolist() == (RAMP[0] >> 8).tolist()


def test_8_bit_ramp_and_one_bit_are_kept() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    assert np.array_equal(decode(encode_png(ramp), LIMITS)[..., 1], ramp)
    bits = decode(encoded(Image.fromarray(np.eye(20) > 0), "PNG"), LIMITS)
    assert np.array_equal(bits[..., 0], np.eye(20) * 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparent_pixels_lie_on_white(mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0)).convert(mode)
    kind = "TIFF" if mode == "PA" else "PNG"
    assert (decode(encoded(image, kind), LIMITS) == 255).all()


@pytest.mark.parametrize(("mode", "clear"), [("P", 0), ("P", b"\0\x80"), ("L", 0), ("1", 0)])
def test_transparency_of_palettes_and_grey_lies_on_white(mode: str, clear: int | bytes) -> None:
    image = Image.new(mode, (8, 8), 0)
    pixels = decode(encoded(image, "PNG", transparency=clear), LIMITS)
    assert (pixels == 255).all()


def test_transparent_colour_of_an_rgb_png_lies_on_white() -> None:
    image = Image.new("RGB", (4, 4), (9, 8, 7))
    image.putpixel((0, 0), (1, 2, 3))
    pixels = decode(encoded(image, "PNG", transparency=(9, 8, 7)), LIMITS)
    assert pixels[0, 0].tolist() == [1, 2, 3]
    assert (pixels[1:] == 255).all()


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    data = encoded(Image.new("RGBA", (4, 4), (0, 100, 200, 128)), "PNG")
    assert decode(data, LIMITS)[0, 0].tolist() == pytest.approx([127, 177, 227], abs=1)


def test_interlaced_png_is_read() -> None:
    # Eight rows of one colour by hand, in the seven passes of Adam7: Pillow writes no such file.
    passes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)]
    rows = b"".join((b"\0" + bytes((7, 8, 9)) * width) * height for width, height in passes)
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 1)
    pieces = [b"\x89PNG\r\n\x1a\n"]
    for name, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        pieces += [struct.pack(">I", len(body)), name, body]
        pieces += [struct.pack(">I", zlib.crc32(name + body))]
    pixels = decode(b"".join(pieces), LIMITS)
    assert pixels.shape == (8, 8, 3)
    assert (pixels == (7, 8, 9)).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_animation_and_pages_give_the_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    how: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **how)
    assert (decode(data, LIMITS) == (255, 0, 0)).all()


@pytest.mark.parametrize("values", [RAMP.astype(np.float32), RAMP.astype(np.int32)])
def test_pixels_without_an_agreed_range_are_refused(values: np.ndarray) -> None:
    assert reason(encoded(Image.fromarray(values), "TIFF")) == "unsupported"


# ------------------------------------------------------------------------------ EXIF orientation


def turned(orientation: int) -> Image.Image:
    """The quadrants as a camera stores them, so that this orientation turns them upright."""
    how = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    image = Image.fromarray(QUADRANTS)
    for step in how.get(orientation, []):
        image = image.transpose(step)
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_orientation_is_undone__once(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(turned(orientation), kind, exif=exif, quality=95)
    pixels = decode(data, LIMITS).astype(int)
    assert pixels.shape == QUADRANTS.shape
    assert np.abs(pixels - QUADRANTS).mean() < 4


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientation_out_of_range_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    assert decode(encoded(NOISE, "JPEG", exif=exif), LIMITS).shape == (40, 60, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_beside_sound_pixels_is_ignored(kind: str) -> None:
    for exif in (
        b"Exif\0\0rubbish",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x09",
    ):
        assert decode(encoded(NOISE, kind, exif=exif), LIMITS).shape == (40, 60, 3)


# --------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_truncated_files_are_refused(kind: str, share: float) -> None:
    data = encoded(NOISE, kind)
    assert reason(data[: int(len(data) * share)]) in {"damaged", "not_an_image"}


def test_truncated_progressive_jpeg_is_refused__no_blurred_picture() -> None:
    data = encoded(NOISE, "JPEG", progressive=True)
    assert reason(data[: int(len(data) * 0.8)]) == "damaged"


@pytest.mark.parametrize("level", [0, 6])
def test_any_flipped_bit_in_png_pixels_is_found(level: int) -> None:
    data = encoded(NOISE, "PNG", compress_level=level)
    start = data.index(b"IDAT") + 4
    for at in range(start, len(data) - 12, 211):
        torn = bytearray(data)
        torn[at] ^= 16
        assert reason(bytes(torn)) == "damaged"


def test_flipped_bits_in_a_jpeg_are_mostly_found__and_never_another_size() -> None:
    data = encoded(NOISE, "JPEG", quality=95)
    found = 0
    for at in range(len(data) // 2, len(data) - 100, 23):
        torn = bytearray(data)
        torn[at : at + 2] = b"\xff\xd9"
        try:
            assert decode(bytes(torn), LIMITS).shape == (40, 60, 3)
        except Unusable as unusable:
            found += unusable.reason == "damaged"
    assert found == len(range(len(data) // 2, len(data) - 100, 23))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty"),
        (b"\0" * 1000, "not_an_image"),
        (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "not_an_image"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "not_an_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image"),
        (b"\xff\xd8\xff", "damaged"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"GIF89a", "damaged"),
        (b"GIF89a\x08\0\x08\0\0\0\0;", "damaged"),
    ],
)
def test_what_is_no_image_is_told_apart_from_a_damaged_one(data: bytes, expected: str) -> None:
    assert reason(data) == expected


# ------------------------------------------------------------------------- lies and bombs


@pytest.mark.parametrize(
    "data",
    [
        png(10_000, 10_001),
        png(30_000, 4_000),
        png(2**31 - 1, 2**31 - 1),
        lying_jpeg(10_000, 10_000),
        lying_jpeg(65_500, 65_500),
        b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x08\x01\0\0;",
        b"P6 60000 60000 255\n",
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, 40_000, 40_000, 1, 24, *[0] * 6),
    ],
)
@pytest.mark.parametrize("look", [check, decode])
def test_size_by_the_header_is_refused_before_decoding(data: bytes, look: Any) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Unusable, match="too_many_pixels") as caught:
        look(data, LIMITS)
    assert re.search(r"\d+ x \d+", caught.value.detail)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_jpeg_of_endless_scans_is_refused() -> None:
    data = encoded(NOISE, "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    assert reason(data[:-2] + last * 200 + data[-2:]) == "unsupported"


def test_tiff_with_missing_strips_is_damaged__not_black() -> None:
    data = bytearray(encoded(NOISE, "TIFF"))
    at = data.index(struct.pack("<HHIH", 257, 4, 1, 40)) + 8
    data[at : at + 4] = struct.pack("<I", 400)
    assert reason(bytes(data)) == "damaged"


def test_sound_header_with_lying_size_is_damaged__not_grey() -> None:
    assert reason(lying_jpeg(600, 400)) == "damaged"


def seeds() -> list[bytes]:
    kinds = ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "MPO"]
    data = [encoded(NOISE.resize((12, 8)), kind) for kind in kinds]
    data += [encoded(NOISE.resize((12, 8)), "TIFF", compression="tiff_lzw")]
    data += [encoded(NOISE.resize((12, 8)), "TIFF", compression="jpeg")]
    return [*data, encoded(Image.fromarray(RAMP[:, :16]), "PNG")]


def bounded(data: bytes) -> None:
    """Pixels or Unusable, soon and in little memory."""
    started = time.thread_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(Unusable):
        pixels = decode(data, LIMITS)
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
    assert time.thread_time() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


CALM = settings(max_examples=300, derandomize=True)


@CALM
@given(
    st.sampled_from([b"", *(seed[:12] for seed in seeds())]).flatmap(
        lambda head: st.binary(max_size=300).map(lambda tail: head + tail)
    )
)
def test_random_bytes_give_pixels_or_unusable__never_anything_else(data: bytes) -> None:
    bounded(data)


@CALM
@given(
    st.sampled_from(seeds()),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    st.floats(0.2, 1),
)
def test_damaged_files_give_pixels_or_unusable__never_anything_else(
    seed: bytes, changes: list[tuple[float, int]], keep: float
) -> None:
    data = bytearray(seed[: int(len(seed) * keep)])
    for at, value in changes:
        # Damage in the header does most: half of the changes fall into the first 64 bytes.
        data[int(at * (64 if value % 2 else len(data))) % len(data)] = value
    bounded(bytes(data))


# ----------------------------------------------------------------------------- squares and crops


@settings(max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40))
def test_squares_and_crops_have_the_size_that_was_asked_for(
    height: int, width: int, size: int, resize: int
) -> None:
    pixels: Pixels = np.full((height, width, 3), 77, np.uint8)
    box = random_box(width, height, 0.08, np.random.default_rng(0))
    crop = Scaled(pixels, width, height).crop(box, size, "bilinear")
    for result in (square(pixels, size, resize), crop):
        assert result.shape == (size, size, 3)
        assert (result == 77).all()


@pytest.mark.parametrize("shape", [(1, 60_000, 3), (60_000, 1, 3)])
def test_a_strip_of_one_row_needs_little_memory(shape: tuple[int, int, int]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert square(np.zeros(shape, np.uint8), 224, 256).shape == (224, 224, 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_square_takes_the_middle() -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    assert (square(pixels, 10, 10) == 255).all()


def test_compressed_tiffs_are_whole() -> None:
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        data = encoded(NOISE, "TIFF", compression=compression)
        assert np.array_equal(decode(data, LIMITS), np.asarray(NOISE))


def test_encoded_png_comes_back_bit_for_bit() -> None:
    pixels = np.asarray(NOISE)
    assert np.array_equal(decode(encode_png(pixels), LIMITS), pixels)
    assert simplejpeg.is_jpeg(encoded(NOISE, "JPEG"))
