"""What is no picture, or a picture of a kind that is not read, is refused by its name."""

import io
import struct
import sys
import wave
import zipfile

import numpy as np
import pytest
from PIL import ExifTags, Image

from tasks.images import Limits, Unusable, check, decode
from tests.builders.encoded import NOISE, Entry, encoded, grey_tiff, tiff
from tests.builders.reference import pillow_pixels

LIMITS = Limits(max_pixels=1_000_000)
PNG = encoded(NOISE, "PNG")


def refusal(data: bytes) -> Unusable:
    with pytest.raises(Unusable) as caught:
        decode(data, LIMITS)
    return caught.value


def same_as_pillow(data: bytes) -> bool:
    check(data, LIMITS)
    return np.array_equal(decode(data, LIMITS), pillow_pixels(data))


# --------------------------------------------------------------------------------- raw camera files

MAKES = {
    "Nikon, NEF": b"NIKON CORPORATION\0",
    "Sony, ARW": b"SONY\0",
    "Pentax, PEF": b"PENTAX Corporation\0",
    "Samsung, SRW": b"SAMSUNG\0",
}


def raw_file(make: bytes, *more: Entry, behind: int = 32803) -> bytes:
    """A thumbnail, and a second directory with the values of the sensor."""
    sensor = tiff((256, 4, (6000,)), (257, 4, (4000,)), (262, 3, (behind,)))[8:]
    gap = bytes(20 * 30) + sensor
    return tiff(
        *((256, 4, (30,)), (257, 4, (20,)), (258, 3, (8,)), (259, 3, (1,)), (262, 3, (1,))),
        *((271, 2, make), (273, 4, (8,)), (278, 4, (20,)), (279, 4, (600,))),
        *((330, 4, (8 + 600,)), *more),
        gap=gap,
    )


@pytest.mark.parametrize("kind", MAKES)
def test_a_raw_camera_file_is_told_by_its_kind(kind: str) -> None:
    for data in (
        raw_file(MAKES[kind]),
        raw_file(MAKES[kind], (254, 4, (1,))),
        raw_file(MAKES[kind], (254, 4, (1,)), behind=1),
    ):
        found = refusal(data)
        assert found.reason == "unsupported"
        assert f"raw camera file ({kind})" in found.detail


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (grey_tiff(160, 120, (254, 4, (1,)), (50706, 1, bytes((1, 4, 0, 0)))), "DNG"),
        (grey_tiff(160, 120, (50706, 1, bytes((1, 4, 0, 0)))), "DNG"),
        (grey_tiff(160, 120)[:8] + b"CR\2\0" + grey_tiff(160, 120)[12:], "Canon, CR2"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "Canon, CR3"),
        (b"FUJIFILMCCD-RAW 0201", "Fujifilm, RAF"),
        (b"IIRO\x08\0\0\0", "Olympus, ORF"),
        (b"IIU\0\x18\0\0\0", "Panasonic, RW2"),
    ],
)
def test_raw_camera_files_without_a_maker_are_told_too(data: bytes, kind: str) -> None:
    found = refusal(data)
    assert (found.reason, kind in found.detail) == ("unsupported", True)


def test_a_tiff_of_a_camera_that_is_no_raw_file_is_kept() -> None:
    whole = raw_file(b"NIKON CORPORATION\0", behind=2)
    assert np.array_equal(decode(whole, LIMITS), pillow_pixels(whole))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg", "lzma"])
def test_a_tiff_whose_header_is_cut_off_is_damaged(compression: str) -> None:
    data = encoded(NOISE, "TIFF", compression=compression)
    for cut in (*range(1, 250, 7), len(data) // 2):
        assert refusal(data[:-cut]).reason == "damaged"


def test_a_thumbnail_of_another_image_is_not_kept() -> None:
    alone = grey_tiff(160, 120, (254, 4, (1,)))
    assert np.array_equal(decode(alone, LIMITS), pillow_pixels(alone))
    for data in (grey_tiff(160, 120, (254, 4, (1,)), (330, 4, (8,))), alone[:-4] + b"\x08\0\0\0"):
        found = refusal(data)
        assert (found.reason, "thumbnail" in found.detail) == ("unsupported", True)


def test_colours_that_nothing_converts_are_unsupported() -> None:
    data = encoded(NOISE.convert("L"), "TIFF").replace(
        struct.pack("<HHIH", 262, 3, 1, 1), struct.pack("<HHIH", 262, 3, 1, 32844)
    )
    assert refusal(data).reason in {"unsupported", "damaged"}
    lab = encoded(Image.new("LAB", (8, 8)), "TIFF")
    assert refusal(lab).reason == "unsupported"


# ---------------------------------------------------------------------------------- other kinds


def sound() -> bytes:
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(100))
    return sink.getvalue()


def archive() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        file.writestr("a.png", PNG)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (sound(), "WAV"),
        (b"RIFF\x24\0\0\0AVI LIST", "AVI"),
        (b"RIFF\x24\0\0\0CDR9", "RIFF"),
        (archive(), "ZIP"),
        (b"\x1f\x8b\x08\0" + bytes(9), "gzip"),
        (b"%PDF-1.7\n", "PDF"),
        (b"OggS\0\2" + bytes(20), "Ogg"),
        (b"ID3\4\0" + bytes(20), "MP3"),
        (b"\xff\xfb\x90\x64" + bytes(20), "MP3"),
        (b"fLaC\0", "FLAC"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2avc1mp41", "MP4"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "MP4"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "MOV"),
        (b"\0\0\1\0moov", "MOV"),
        (b"\x1aE\xdf\xa3\x01", "WebM"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<?xml version='1.0'?>\n<!-- made by hand -->\n<svg/>", "SVG"),
        (b"<!DOCTYPE html><html>404</html>", "HTML"),
        (b"\n\n<HTML><body>404", "HTML"),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "XML"),
        (b'{"error": "not found"}', "JSON"),
        (b"PAR1\x15\4", "Parquet"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        (bytes(5000), "zero bytes"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "macOS"),
        (b"BMW makes cars, and this is a text", "begins with"),
        (b"P1 is the first of these notes", "begins with"),
    ],
)
def test_what_is_no_picture_is_told_by_its_name(data: bytes, name: str) -> None:
    found = refusal(data)
    assert (found.reason, name in found.detail) == ("not_an_image", True), found


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"8BPS\0\1", "PSD"),
        (b"MM\0+\0\x08\0\0", "BigTIFF"),
        (b"\0\0\1\0\1\0\x10\x10", "ICO"),
        (b"v/1\1\2\0\0\0", "OpenEXR"),
    ],
)
def test_a_picture_of_a_kind_that_is_not_read_is_told_by_its_name(data: bytes, name: str) -> None:
    found = refusal(data)
    assert (found.reason, name in found.detail) == ("unsupported", True)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1"])
def test_heic_is_named_with_the_remedy(brand: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    found = refusal(b"\0\0\0\x1cftyp" + brand + b"\0\0\0\0mif1heicmiaf" + bytes(100))
    assert found.reason == "unsupported"
    assert found.detail == "HEIC: convert it to JPEG, or install pillow-heif"


def test_heic_is_read_where_pillow_heif_is_installed() -> None:
    heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for turned in (Image.Exif(), exif):
        sink = io.BytesIO()
        heif.from_pillow(NOISE).save(sink, exif=turned.tobytes())
        heif.register_heif_opener()
        assert same_as_pillow(sink.getvalue())
    assert refusal(sink.getvalue()[:500]).reason == "damaged"


def test_an_avif_of_the_common_brand_is_read() -> None:
    data = encoded(NOISE, "AVIF")
    common = data[:8] + b"mif1" + data[12:]
    assert np.array_equal(decode(common, LIMITS), decode(data, LIMITS))
