"""For any bytes, looking at an image takes a few times the memory of the largest allowed one."""

import re
import struct
import zlib

from PIL import Image

from tests.builders.encoded import NOISE, chunk, encoded, gif, grey_tiff, png, with_chunk
from tests.builders.peak import peaks

MAX_PIXELS = 1_000_000
MAX_MIB = 26  # nine times the RGB bytes of MAX_PIXELS
HUGE = 65_535


def patched(data: bytes, pattern: bytes, new: bytes) -> bytes:
    """The bytes after the pattern replaced, wherever it is."""
    changed, count = re.subn(
        b"(" + pattern + b").{%d}" % len(new), lambda found: found[1] + new, data, flags=re.DOTALL
    )
    assert count
    return changed


def webp(width: int, height: int, **how: object) -> bytes:
    data = encoded(NOISE, "WEBP", **how)
    if data[12:16] == b"VP8L":
        alpha_and_version = struct.unpack("<I", data[21:25])[0] >> 28 << 28
        size = struct.pack("<I", width - 1 | (height - 1) << 14 | alpha_and_version)
        return data[:21] + size + data[25:]
    if data[12:16] == b"VP8X":
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        return data[:24] + size + data[30:]
    return data[:26] + struct.pack("<HH", width, height) + data[30:]


def jpeg(width: int, height: int, **how: object) -> bytes:
    return patched(
        encoded(NOISE, "JPEG", **how),
        rb"\xff[\xc0\xc2]\0\x11\x08",
        struct.pack(">HH", height, width),
    )


def bmp(width: int, height: int, compression: int, body: bytes) -> bytes:
    sizes = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + sizes + bytes(1024) + body


def animation(kind: str) -> bytes:
    frames = [NOISE, Image.new("RGB", NOISE.size)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)


TWO_FRAMES = struct.pack(">II", 2, 0)
FRAME_OF_ANIMATION = struct.pack(">IIIIIHHBB", 0, HUGE, HUGE, 0, 0, 1, 1, 1, 0)

TOO_LARGE = {
    "gif": gif((HUGE, HUGE), (HUGE, HUGE), 0),
    "gif cleared after its frame": gif((HUGE, HUGE), (HUGE, HUGE), 2 << 2),
    "gif put back after its frame": gif((HUGE, HUGE), (HUGE, HUGE), 3 << 2 | 1),
    "gif with a frame beyond its screen": gif((1, 1), (HUGE, HUGE), 2 << 2 | 1),
    "png": png(HUGE, HUGE, (b"IDAT", zlib.compress(b""))),
    "png of the largest size": png(2**31 - 1, 2**31 - 1, (b"IDAT", b"")),
    "animated png": png(
        HUGE, HUGE, (b"acTL", TWO_FRAMES), (b"fcTL", FRAME_OF_ANIMATION), (b"IDAT", b"")
    ),
    "webp": webp(16383, 16383),
    "webp without loss": webp(16383, 16383, lossless=True),
    "webp with a note": webp(16383, 16383, exif=b"Exif\0\0"),
    "animated webp": patched(animation("WEBP"), rb"VP8X.{8}", b"\xff\x3f\0\xff\x3f\0"),
    "tiff": grey_tiff(HUGE, HUGE),
    "tiff of one row": grey_tiff(2**31 - 1, 1),
    "tiff with a compression": grey_tiff(HUGE, HUGE, (259, 3, (5,))),
    "tiff with a second width": grey_tiff(
        8, 8, (256, 4, (HUGE,)), (257, 4, (HUGE,)), (256, 4, (8,))
    ),
    **{
        f"tiff of one tile, compression {number}": grey_tiff(
            64, 64, (322, 4, (HUGE,)), (323, 4, (HUGE,)), (324, 4, (8,)), (325, 4, (64,)),
            (259, 3, (number,)),
        )
        for number in (1, 5, 7, 8, 32773, 34925, 50000)
    },
    "bmp": bmp(40_000, 40_000, 0, b""),
    "bmp of runs": bmp(40_000, 40_000, 1, b"\0\2\xff\xff" * 99),
    "ppm": b"P6 60000 60000 255\n",
    "ppm as text": b"P3 60000 60000 255\n1 2 3",
    "ppm of bits": b"P4 60000 60000\n",
    "jpeg": jpeg(HUGE, HUGE),
    "progressive jpeg": jpeg(HUGE, HUGE, progressive=True),
    "avif": patched(encoded(NOISE, "AVIF"), b"ispe\0{4}", struct.pack(">II", 30_000, 30_000)),
    "avif beyond its library": patched(
        encoded(NOISE, "AVIF"), b"ispe\0{4}", struct.pack(">II", 2**31, 2**31)
    ),
    "heic": b"\0\0\0\x14ftypheic\0\0\0\0heic"
    + b"\0\0\0\x14ispe\0\0\0\0" + struct.pack(">II", HUGE, HUGE),
}  # fmt: skip

ZEROS = zlib.compress(bytes(100_000_000))
SMALL = encoded(NOISE.resize((64, 64)), "PNG")

# Of a small size by the header: whatever becomes of them, it takes little memory.
SWELLING = {
    "png that inflates": png(8, 8, (b"IDAT", ZEROS)),
    "png with text": with_chunk(SMALL, chunk(b"zTXt", b"Comment\0\0" + ZEROS)),
    "png with much text": with_chunk(SMALL, chunk(b"zTXt", b"Comment\0\0" + ZEROS[:90_000]) * 80),
    "png with text behind": with_chunk(
        SMALL, chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + ZEROS), before=b"IEND"
    ),
    "png with a profile": with_chunk(SMALL, chunk(b"iCCP", b"profile\0\0" + ZEROS)),
    "png with a frame of an animation": with_chunk(
        SMALL, chunk(b"acTL", TWO_FRAMES) + chunk(b"fcTL", FRAME_OF_ANIMATION)
    ),
    "gif with a second frame": gif((8, 8), (8, 8), 8, b"\x02\0\x51\0")[:-1]
    + gif((1, 1), (HUGE, HUGE), 8)[13:],
    "bmp of runs": bmp(1_000_000, 1, 1, b"\0\2\xff\xff" * 999),
    "bmp with colours": patched(bmp(8, 8, 0, bytes(64)), rb"\0{8}(?=\0\x01\0\0)", b""),
    "tiff with two million strips": grey_tiff(8, 8, (273, 4, tuple(range(2_000_000)))),
    "tiff with two million depths": grey_tiff(8, 8, (258, 3, (8000,) * 2_000_000)),
    "tiff with many ratios": grey_tiff(8, 8, (282, 5, bytes(8) * 500_000)),
    "tiff with one strip of all rows": grey_tiff(8, 8, (278, 4, (2**32 - 1,)), (259, 3, (5,))),
    "tiff with strips of too many rows": grey_tiff(
        8, 8, (278, 4, (2**31 - 1,)), (259, 3, (32773,))
    ),
    "tiff of many samples": grey_tiff(8, 8, (277, 3, (65_535,)), (259, 3, (5,))),
    "tiff of many directories": grey_tiff(8, 8) + b"\0" * 1000,
    "ppm with a long comment": b"P6 #" + b"x" * 400_000 + b"\n8 8 255\n" + bytes(192),
    "jpeg with two sizes": jpeg(64, 64).replace(
        b"\xff\xda", jpeg(HUGE, HUGE)[jpeg(HUGE, HUGE).index(b"\xff\xc0") :][:19] + b"\xff\xda", 1
    ),
    "jpeg as a part of a note": jpeg(64, 64)[:2]
    + b"\xff\xfd" + jpeg(HUGE, HUGE)[jpeg(HUGE, HUGE).index(b"\xff\xc0") :][:19] + jpeg(64, 64)[2:],
}  # fmt: skip

# Pictures of kinds that are not read: no library sees them.
NOT_READ = {
    "ico": b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, 2**31, 22),
    "icns": b"icns" + struct.pack(">I", 99) + b"ic10" + struct.pack(">I", 2**31),
    "pcx": b"\x0a\5\1\x08" + struct.pack("<HHHH", 0, 0, HUGE, HUGE) + bytes(116),
    "tga": b"\0\0\2" + bytes(9) + struct.pack("<HHBB", HUGE, HUGE, 24, 0),
    "psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, HUGE, HUGE, 8, 3),
    "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
    "sgi": struct.pack(">HBBHHHH", 474, 1, 1, 3, HUGE, HUGE, 4),
    "dds": b"DDS " + struct.pack("<IIII", 124, 0, HUGE, HUGE) + bytes(100),
}


def test_a_size_beyond_the_limit_is_refused_by_the_header() -> None:
    names = sorted(TOO_LARGE)
    found = dict(zip(names, peaks([TOO_LARGE[name] for name in names], MAX_PIXELS)))
    refused = {name: (peak.check, peak.decode) for name, peak in found.items()}
    assert refused == dict.fromkeys(names, ("too_many_pixels", "too_many_pixels"))
    # Not even a few times as much as the limit: nothing was allocated.
    assert {name: peak.mib for name, peak in found.items() if peak.mib > 4} == {}


def test_what_swells_behind_its_header_takes_little_memory() -> None:
    names = sorted(SWELLING)
    found = dict(zip(names, peaks([SWELLING[name] for name in names], MAX_PIXELS)))
    assert {name: peak.mib for name, peak in found.items() if peak.mib > MAX_MIB} == {}


def test_a_picture_of_a_kind_that_is_not_read_is_never_opened() -> None:
    names = sorted(NOT_READ)
    found = dict(zip(names, peaks([NOT_READ[name] for name in names], MAX_PIXELS)))
    refused = {name: (peak.check, peak.decode) for name, peak in found.items()}
    assert refused == dict.fromkeys(names, ("unsupported", "unsupported"))
    assert {name: peak.mib for name, peak in found.items() if peak.mib > 1} == {}


def test_the_largest_allowed_pictures_take_a_few_times_their_bytes() -> None:
    side = (1000, 1000)
    modes = {
        "PNG": ("1", "L", "LA", "I;16", "P", "RGB", "RGBA"),
        "JPEG": ("L", "RGB", "CMYK"),
        "GIF": ("P", "L"),
        "WEBP": ("RGB", "RGBA"),
        "BMP": ("RGB",),
        "TIFF": ("LA", "PA", "RGBA", "CMYK", "YCbCr"),
        "PPM": ("RGB",),
        "AVIF": ("RGBA",),
    }
    pictures = {
        f"{kind} {mode}": encoded(Image.new(mode, side), kind)
        for kind, names in modes.items()
        for mode in names
    }
    deep = zlib.compress(bytes(1000 * 6001))
    clear = (b"tRNS", bytes(6))
    pictures["PNG of 16 bits"] = png(*side, clear, (b"IDAT", deep), depth=16)
    pictures["progressive JPEG"] = encoded(Image.new("RGB", side), "JPEG", progressive=True)
    found = dict(zip(pictures, peaks(list(pictures.values()), MAX_PIXELS)))
    assert {name: peak.decode for name, peak in found.items() if peak.decode} == {}
    assert {name: peak.mib for name, peak in found.items() if peak.mib > MAX_MIB} == {}
