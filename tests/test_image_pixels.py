"""Every picture that is kept has the pixels that Pillow gives it, in every format and mode."""

import io
import struct
import zlib
from itertools import product
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from tasks.images import Limits, Unusable, decode
from tests.builders.encoded import NOISE, chunk, encoded, png, tiff, with_chunk
from tests.builders.reference import pillow_pixels

LIMITS = Limits(max_pixels=1_000_000)
ALPHA = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60), dtype=np.uint8))


def picture(mode: str) -> Image.Image:
    """Noise in this mode, transparent in another noise where the mode can."""
    if mode == "I;16":
        return Image.fromarray(np.asarray(NOISE.convert("L")).astype(np.uint16) * 251)
    if mode in {"RGBA", "LA", "PA"}:
        image = NOISE.convert("RGBA")
        image.putalpha(ALPHA)
        return image.convert(mode)
    if mode == "RGBa":
        return picture("RGBA").convert("RGBa")
    return NOISE.convert(mode)


MODES = {
    "JPEG": ("1", "L", "RGB", "CMYK"),
    "MPO": ("L", "RGB"),
    "PNG": ("1", "L", "LA", "I;16", "P", "RGB", "RGBA"),
    "GIF": ("1", "L", "P", "RGB", "RGBA"),
    "WEBP": ("L", "RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "I;16", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"),
    "PPM": ("1", "L", "I;16", "RGB"),
    "AVIF": ("L", "RGB", "RGBA"),
}
WAYS: dict[str, tuple[dict[str, Any], ...]] = {
    "JPEG": ({}, {"progressive": True}, {"subsampling": 0, "quality": 95}, {"quality": 10}),
    "PNG": ({}, {"exif": Image.Exif()}, {"transparency": 3}),
    "GIF": ({}, {"interlace": 0}, {"transparency": 3}),
    "WEBP": ({}, {"lossless": True}),
    "TIFF": tuple(
        {"compression": name}
        for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma")
    ),
}
CASES = [
    (kind, mode, how) for kind, modes in MODES.items() for mode in modes
    for how in WAYS.get(kind, ({},))
]  # fmt: skip


@pytest.mark.parametrize(("kind", "mode", "how"), CASES)
def test_pixels_are_those_of_pillow(kind: str, mode: str, how: dict[str, Any]) -> None:
    if "transparency" in how and mode not in {"L", "P", "I;16"}:
        how = {}
    jpeg_in_tiff = how.get("compression") == "jpeg"
    if jpeg_in_tiff and mode not in {"L", "RGB", "CMYK", "YCbCr"}:
        how = {}
    data = encoded(picture(mode), kind, **how)
    assert np.array_equal(decode(data, LIMITS), pillow_pixels(data))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"])
def test_turned_pixels_are_those_of_pillow(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(NOISE, kind, exif=exif)
    assert np.array_equal(decode(data, LIMITS), pillow_pixels(data))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG", "AVIF", "MPO"])
def test_first_frames_are_those_of_pillow(kind: str) -> None:
    data = encoded(NOISE, kind, save_all=True, append_images=[ALPHA.convert("RGB")])
    assert np.array_equal(decode(data, LIMITS), pillow_pixels(data))


# ------------------------------------------------------------------- transparent colours of a PNG


def packed_rows(samples: np.ndarray, depth: int) -> bytes:
    """Rows of a PNG without filters, of 1 to 16 bits a sample."""
    rows = []
    for row in samples.reshape(len(samples), -1):
        bits = "".join(f"{int(sample):0{depth}b}" for sample in row)
        bits += "0" * (-len(bits) % 8)
        rows.append(b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big"))
    return b"".join(rows)


@pytest.mark.parametrize(("depth", "colour"), [*product((1, 2, 4, 8, 16), (0,)), (8, 2), (16, 2)])
def test_the_transparent_colour_counts_in_the_depth_of_the_file(depth: int, colour: int) -> None:
    channels = 3 if colour == 2 else 1
    rng = np.random.default_rng(depth)
    clear = rng.integers(0, 2**depth, channels)
    samples = rng.integers(0, 2**depth, (6, 9, channels))
    samples[1:3] = clear
    if depth == 16:
        samples[4] = clear
        samples[4, :, 0] ^= 1  # the same but for the lowest bit: not transparent
    is_clear = (samples == clear).all(axis=2)
    data = png(
        9,
        6,
        (b"tRNS", struct.pack(f">{channels}H", *clear)),
        (b"IDAT", zlib.compress(packed_rows(samples, depth))),
        depth=depth,
        colour=colour,
    )
    pixels = decode(with_chunk(data, chunk(b"iCCP", b"rubbish", crc=1)), LIMITS)
    assert (pixels[is_clear] == 255).all()
    seen = samples >> 8 if depth == 16 else samples * 255 // (2**depth - 1)
    assert np.array_equal(pixels[~is_clear], np.broadcast_to(seen, (6, 9, 3))[~is_clear])


@pytest.mark.parametrize("depth", [2, 4, 8])
def test_bits_above_the_depth_of_a_transparent_colour_are_ignored(depth: int) -> None:
    samples = np.arange(4).reshape(1, 4, 1)
    data = png(
        4,
        1,
        (b"tRNS", struct.pack(">H", 1 << depth | 2)),
        (b"IDAT", zlib.compress(packed_rows(samples, depth))),
        depth=depth,
        colour=0,
    )
    assert (decode(data, LIMITS)[0, :, 0] == 255).tolist()[2]


# ------------------------------------------------------------------------------ modes of a TIFF


@pytest.mark.parametrize(
    ("extra", "transparent"),
    [(0, False), (1, True), (2, True)],
    ids=["none", "weighted", "alpha"],
)
def test_grey_with_a_second_sample_in_a_tiff(extra: int, transparent: bool) -> None:
    rows = np.full((4, 5, 2), (100, 0), np.uint8)
    data = tiff(
        *((256, 4, (5,)), (257, 4, (4,)), (258, 3, (8, 8)), (259, 3, (1,)), (262, 3, (1,))),
        *((273, 4, (8,)), (277, 3, (2,)), (278, 4, (4,)), (279, 4, (40,)), (338, 3, (extra,))),
        gap=rows.tobytes(),
    )
    pixels = decode(data, LIMITS)
    assert (pixels == (255 if transparent else 100)).all()
    assert np.array_equal(pixels, pillow_pixels(data))


def test_a_big_tiff_has_the_pixels_of_pillow() -> None:
    data = encoded(NOISE, "TIFF", big_tiff=True)
    assert data[2] == 43
    assert np.array_equal(decode(data, LIMITS), pillow_pixels(data))
    raw = data.replace(struct.pack("<HHQQ", 262, 3, 1, 2), struct.pack("<HHQQ", 262, 3, 1, 32803))
    with pytest.raises(Unusable, match="raw camera file"):
        decode(raw, LIMITS)


def test_a_picture_in_memory_has_the_pixels_of_pillow() -> None:
    sink = io.BytesIO()
    picture("RGBa").convert("RGBA").save(sink, "TIFF")
    assert np.array_equal(decode(sink.getvalue(), LIMITS), pillow_pixels(sink.getvalue()))
