"""Encoded: images as bytes, made by hand where no encoder would write such a file."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)
NOISE = Image.fromarray(RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **how: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **how)
    return sink.getvalue()


def chunk(name: bytes, body: bytes, crc: int | None = None) -> bytes:
    """A chunk of a PNG, with its checksum or another."""
    right = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", right ^ (crc or 0))


def png(
    width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, colour: int = 2
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pieces = [chunk(*piece) for piece in ((b"IHDR", header), *chunks, (b"IEND", b""))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(pieces)


def with_chunk(data: bytes, piece: bytes, *, before: bytes = b"IDAT") -> bytes:
    """A PNG with one more chunk."""
    at = data.index(before) - 4
    return data[:at] + piece + data[at:]


def gif(screen: tuple[int, int], frame: tuple[int, int], flags: int, body: bytes = b"\0") -> bytes:
    """A GIF of one frame; flags are those of its graphic control: disposal, transparency."""
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0, 0, 0)
    control = b"!\xf9\x04" + struct.pack("<BHBB", flags, 0, 0, 0)
    return head + control + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x08" + body + b";"


# Tag, type (3: 16 bits, 4: 32 bits, 2: text, 5: ratios) and values.
Entry = tuple[int, int, tuple[int, ...] | bytes]


def tiff(*entries: Entry, behind: bytes = b"", kind: bytes = b"II*\0", gap: bytes = b"") -> bytes:
    """A TIFF of one directory, with `behind` at its end; `gap` follows the header."""
    at = 8 + len(gap) + 2 + 12 * len(entries) + 4
    rows, values = [], b""
    for tag, form, numbers in sorted(entries):
        if isinstance(numbers, bytes):
            packed, count = numbers, len(numbers) // (8 if form == 5 else 1)
        else:
            count = len(numbers)
            packed = struct.pack(f"<{count}{'H' if form == 3 else 'I'}", *numbers)
        if len(packed) <= 4:
            place = packed.ljust(4, b"\0")
        else:
            place = struct.pack("<I", at + len(values))
            values += packed
        rows.append(struct.pack("<HHI", tag, form, count) + place)
    directory = struct.pack("<H", len(rows)) + b"".join(rows) + b"\0\0\0\0"
    return kind + struct.pack("<I", 8 + len(gap)) + gap + directory + values + behind


def grey_tiff(width: int, height: int, *more: Entry) -> bytes:
    """A TIFF of 8-bit grey without compression, its pixels before the directory."""
    replaced = {entry[0] for entry in more}
    usual: list[Entry] = [
        (256, 4, (width,)),
        (257, 4, (height,)),
        (258, 3, (8,)),
        (259, 3, (1,)),
        (262, 3, (1,)),
        (273, 4, (8,)),
        (277, 3, (1,)),
        (278, 4, (height,)),
        (279, 4, (min(width * height, 1 << 16),)),
    ]
    pixels = bytes(min(width * height, 1 << 16))
    return tiff(*(entry for entry in usual if entry[0] not in replaced), *more, gap=pixels)
