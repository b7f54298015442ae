"""TIFF: the first directory of a file, looked at before Pillow and libtiff allocate for it.

In: the bytes of a TIFF. Raises `Unusable` for a directory that claims too much, and for a raw
camera file, which is a TIFF whose first image is a thumbnail.

    check_directory(data, limits)
"""

import struct
from dataclasses import dataclass

from tasks.images.kinds import unsupported_raw
from tasks.images.unusable import Limits, Unusable

BIG_TIFF = 43  # the third byte; Pillow reads no big-endian ones, and none come here
SUBFILE_TYPE, WIDTH, LENGTH, PHOTOMETRIC, MAKE = 254, 256, 257, 262, 271
TILE_WIDTH, TILE_LENGTH, DIRECTORIES, DNG_VERSION = 322, 323, 330, 50706
SENSOR_PIXELS = {32803, 34892}  # photometric interpretations: colour filter array, linear raw

# Fields that pixels depend on; all others are notes.
OF_PIXELS = {256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 320, *range(322, 326), 338, 339}

VALUE_BYTES = {3: 2, 4: 4, 5: 8, 6: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
RATIONALS = {5, 10}
# Each number becomes an object of 40 bytes, a rational one of 500. Strips and tiles are fewer.
MAX_NUMBERS, MAX_RATIONALS = 1 << 20, 1 << 12
MIN_TILE_PIXELS = 1 << 20  # tiles up to this size are no danger, however small the limit
MAX_FIELDS = 4096  # of a directory; a usual one has twenty
HEAD_BYTES = 64  # that are read of a field

RAW_KINDS = {  # by the maker of the camera
    b"NIKON": "Nikon, NEF",
    b"SONY": "Sony, ARW",
    b"CANON": "Canon, CR2",
    b"PENTAX": "Pentax, PEF",
    b"RICOH": "Ricoh, PEF",
    b"SAMSUNG": "Samsung, SRW",
    b"HASSELBLAD": "Hasselblad, 3FR",
    b"PHASE ONE": "Phase One, IIQ",
    b"LEAF": "Leaf, MOS",
    b"EPSON": "Epson, ERF",
    b"KODAK": "Kodak, DCR",
    b"EASTMAN KODAK": "Kodak, DCR",
    b"MAMIYA": "Mamiya, MEF",
}


@dataclass(frozen=True)
class Field:
    """A field of a directory: its first integers (none for other types), and its first bytes."""

    tag: int
    kind: int
    count: int
    integers: tuple[int, ...]
    head: bytes
    is_whole: bool


@dataclass(frozen=True)
class Layout:
    """How the numbers of a file are written: byte order, and the wide ones of a BigTIFF."""

    order: str
    is_big: bool

    def first(self, data: bytes) -> int:
        """Where the first directory begins."""
        return self._number("Q" if self.is_big else "I", data, 8 if self.is_big else 4)

    def read(self, data: bytes, at: int) -> list[Field]:
        """The fields of a directory. Raises Unusable when it is cut off."""
        width, step = ("Q", 20) if self.is_big else ("H", 12)
        count = self._number(width, data, at)
        start = at + struct.calcsize(f"={width}")
        there = max(0, len(data) - start) // step
        if count > min(there, MAX_FIELDS):
            raise Unusable("damaged", f"{there} of the {count} fields of its header are there")
        return [self._field(data, start + row * step) for row in range(count)]

    def following(self, data: bytes, at: int) -> int:
        """Where the directory after this one begins; 0 for the last one."""
        width, step, wide = ("Q", 20, "Q") if self.is_big else ("H", 12, "I")
        count = self._number(width, data, at)
        return self._number(wide, data, at + struct.calcsize(f"={width}") + count * step)

    def _field(self, data: bytes, at: int) -> Field:
        wide = "Q" if self.is_big else "I"
        room = struct.calcsize(f"={wide}")
        tag, kind = struct.unpack_from(f"{self.order}HH", data, at)
        count, place = self._number(wide, data, at + 4), at + 4 + room
        code = INTEGERS.get(kind)
        size = count * VALUE_BYTES.get(kind, 1)
        if size > room:
            place = self._number(wide, data, place)
        head = data[place : place + HEAD_BYTES]
        integers: tuple[int, ...] = ()
        if code:
            fitting = min(count, len(head) // struct.calcsize(f"={code}"))
            integers = struct.unpack_from(f"{self.order}{fitting}{code}", head)
        return Field(tag, kind, count, integers, head, place + size <= len(data))

    def _number(self, code: str, data: bytes, at: int) -> int:
        """A number, 0 where the file has ended."""
        if at + struct.calcsize(f"={code}") > len(data):
            return 0
        return int(struct.unpack_from(self.order + code, data, at)[0])


def check_directory(data: bytes, limits: Limits) -> None:
    """Raises Unusable for what must not be opened."""
    layout = Layout("<" if data[:2] == b"II" else ">", is_big=data[2] == BIG_TIFF)
    fields = layout.read(data, layout.first(data))
    for field in fields:
        most = MAX_RATIONALS if field.kind in RATIONALS else MAX_NUMBERS
        if field.kind in VALUE_BYTES and field.count > most:
            raise Unusable("damaged", f"{field.count:,} numbers in field {field.tag} of its header")
        if field.tag in OF_PIXELS and not field.is_whole:
            raise Unusable("damaged", f"field {field.tag} of its header lies beyond its end")
    _check_sizes(fields, limits)
    offsets = [at for field in fields if field.tag == DIRECTORIES for at in field.integers]
    behind = [directory for at in offsets if (directory := _read_leniently(layout, data, at))]
    if kind := _raw_kind(data, fields, behind):
        raise unsupported_raw(kind)
    has_others = bool(offsets) or layout.following(data, layout.first(data))
    if has_others and _largest(fields, SUBFILE_TYPE) & 1:
        raise Unusable("unsupported", "a TIFF whose first image is a thumbnail of another")


def _read_leniently(layout: Layout, data: bytes, at: int) -> list[Field]:
    """A directory that only tells of other images, so it may be broken."""
    try:
        return layout.read(data, at)
    except Unusable:
        return []


def _check_sizes(fields: list[Field], limits: Limits) -> None:
    width, height = _largest(fields, WIDTH), _largest(fields, LENGTH)
    if width and height:
        limits.check_size(width, height)
    tile_width, tile_height = _largest(fields, TILE_WIDTH), _largest(fields, TILE_LENGTH)
    if tile_width * tile_height > max(MIN_TILE_PIXELS, limits.max_pixels):
        size = f"{tile_width} x {tile_height}"
        raise Unusable("too_many_pixels", f"a tile of {size} by its header")


def _raw_kind(data: bytes, fields: list[Field], behind: list[list[Field]]) -> str | None:
    """Which raw camera file this is, by its first directory and by those that it names."""
    if any(field.tag == DNG_VERSION for field in fields):
        return "DNG"
    if data[8:10] == b"CR":
        return "Canon, CR2"
    makers = [field.head.upper() for field in fields if field.tag == MAKE]
    kinds = [
        kind for name, kind in RAW_KINDS.items() if any(make.startswith(name) for make in makers)
    ]
    of_sensor = {_largest(directory, PHOTOMETRIC) for directory in [fields, *behind]}
    if of_sensor & SENSOR_PIXELS:
        return (kinds or ["TIFF of a sensor's values"])[0]
    return kinds[0] if kinds and _largest(fields, SUBFILE_TYPE) & 1 else None


def _largest(fields: list[Field], tag: int) -> int:
    """The largest value of a field that may be there twice: readers disagree on which counts."""
    values = [number for field in fields if field.tag == tag for number in field.integers]
    return max(values, default=0)
