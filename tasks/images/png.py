"""PNG: what of a file decides its pixels, and its transparent colour.

In: the bytes of a PNG. Out: the same without its notes (text, profiles, times), which may be broken
or large beside sound pixels, and without the frames of an animation.

    bytes_of_picture = without_notes(data, whole=True)
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import ImageFile, PngImagePlugin

from tasks.images.unusable import Unusable

SIGNATURE_BYTES = 8
MAX_NOTE_BYTES = 1 << 20  # of a note that says how the camera was held, inflated
MAX_NOTES = 32

# The notes that can say how the camera was held; Pillow reads it there.
ORIENTATION = re.compile(rb"(?:Raw profile type exif|XML:com\.adobe\.xmp)\0", re.DOTALL)
# Bits of a sample, by Pillow's name for how grey or RGB samples are stored.
DEPTHS = {"1": 1, "L;2": 2, "L;4": 4, "L": 8, "I;16B": 16, "RGB": 8, "RGB;16B": 16}
TEXT = {b"tEXt", b"zTXt", b"iTXt"}

Mask = npt.NDArray[np.bool_]
Chunk = tuple[bytes, memoryview, bool]  # name, body, whether its checksum is right


def without_notes(data: bytes, *, whole: bool) -> bytes:
    """The chunks that pixels are made of, and where the picture's top is; checksums are checked.

    Without `whole` it ends where the pixels begin, which is enough to look at the header. Raises
    Unusable when a chunk of the pixels is damaged.
    """
    pieces = [data[:SIGNATURE_BYTES]]
    notes = 0
    for name, body, sound in _chunks(data):
        if name == b"IDAT" and not whole:
            return b"".join([*pieces, struct.pack(">I", len(body)), name])
        if not name[0] & 32 or name == b"tRNS":  # a critical chunk begins with a capital letter
            if not sound:
                raise Unusable("damaged", f"wrong checksum of its chunk {name.decode()}")
        elif not (sound and notes < MAX_NOTES and _tells_orientation(name, bytes(body))):
            continue
        else:
            notes += 1
        crc = zlib.crc32(body, zlib.crc32(name))
        pieces += [struct.pack(">I", len(body)), name, bytes(body), struct.pack(">I", crc)]
        if name == b"IEND":
            return b"".join(pieces)
    raise Unusable("damaged", "it is cut off: a PNG without its end")


def _chunks(data: bytes) -> Iterator[Chunk]:
    at, view = SIGNATURE_BYTES, memoryview(data)
    while at + 8 <= len(data):
        (length,), name = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        if not name.isalpha():
            raise Unusable("damaged", f"{name!r} where the name of a chunk should be")
        body, checksum = view[at + 8 : at + 8 + length], data[at + 8 + length : at + 12 + length]
        is_pixels = name == b"IDAT"
        if len(body) < length and not is_pixels:
            raise Unusable("damaged", f"it is cut off in its chunk {name.decode()}")
        yield name, body, checksum == struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))
        at += 12 + length


def _tells_orientation(name: bytes, body: bytes) -> bool:
    if name == b"eXIf":
        return len(body) <= MAX_NOTE_BYTES
    if name not in TEXT or not ORIENTATION.match(body):
        return False
    text = body[body.index(b"\0") + 1 :]
    if name == b"zTXt":
        return _inflates_small(text[1:])
    if name == b"iTXt" and text[:1] != b"\0":
        return _inflates_small(text[2:].split(b"\0", 2)[-1])
    return len(text) <= MAX_NOTE_BYTES


def _inflates_small(packed: bytes) -> bool:
    inflater = zlib.decompressobj()
    try:
        inflater.decompress(packed, MAX_NOTE_BYTES)
    except zlib.error:
        return False
    return not inflater.unconsumed_tail


def clear_samples(image: ImageFile.ImageFile) -> Mask | None:
    """Where grey or RGB samples are the transparent colour (H, W); None when there is none.

    Compared in the file's own depth: Pillow compares 8 bits, which are wrong for all others.
    """
    clear, raw_mode = image.info.get("transparency"), image.tile[0].args
    depth = DEPTHS.get(str(raw_mode))
    if clear is None or depth is None or not isinstance(image.fp, io.BytesIO):
        return None
    del image.info["transparency"]
    encoded = image.fp.getvalue()
    samples = np.asarray(image).astype(np.uint16)
    if raw_mode == "RGB;16B":
        low_bytes = PngImagePlugin.PngImageFile(io.BytesIO(encoded))
        # As if the file were little-endian: gives the byte that Pillow leaves out otherwise.
        low_bytes.tile = [low_bytes.tile[0]._replace(args="RGB;16L")]
        samples = samples << 8 | np.asarray(low_bytes)
    elif 1 < depth < 8:
        samples = samples // (255 // (2**depth - 1))
    same: Mask = samples == np.array(clear) % 2**depth
    return same if image.mode != "RGB" else np.asarray(same.all(axis=2))
