"""Cases: what is tried, made from the seed and the number of the case alone.

In: seed and number. Out: the kind of the input and its files, the first of them changed.

    case = make_case(seed=1, number=4711)
"""

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from tests.builders.encoded import gif, grey_tiff, png
from tests.fuzz.seeds import Files, seeds

WEIGHTS_OF_KINDS = {"image": 70, "source": 15, "weights": 10, "model": 5}
HEAD_BYTES = 128  # half of the changes fall here: headers decide most
NUMBERS = (0, 1, 2, 7, 8, 255, 256, 4096, 65_535, 65_536, 2**24 - 1, 2**31 - 1, 2**31, 2**32 - 1)
WORDS = (b"\0", b"\xff", b"\xff\xd8", b"\xff\xd9", b"\xff\xda", b"IDAT", b"tRNS", b"\n", b",", b'"')
MAX_CHANGES = 5


@dataclass(frozen=True)
class Case:
    """The files of one input, by name; the first is the one to open."""

    number: int
    kind: str
    files: Files

    @property
    def data(self) -> bytes:
        """The bytes that were changed."""
        return next(iter(self.files.values()))


def make_case(seed: int, number: int) -> Case:
    """The same for the same seed and number, as long as the same packages are installed."""
    rng = random.Random(f"{seed}/{number}")
    kind = rng.choices(list(WEIGHTS_OF_KINDS), list(WEIGHTS_OF_KINDS.values()))[0]
    files = dict(rng.choice(seeds()[kind]))
    name = next(iter(files))
    data = files[name]
    if kind == "image" and rng.random() < 0.1:
        data = _made_by_hand(rng)
    for _ in range(rng.randint(0, MAX_CHANGES)):
        data = rng.choice(CHANGES)(rng, data)
    if data.startswith(b"\x89PNG") and rng.random() < 0.7:
        data = _with_right_checksums(data)
    return Case(number, kind, {**files, name: data})


def _made_by_hand(rng: random.Random) -> bytes:
    """A picture whose fields are odd numbers."""
    size, other = ((rng.choice(NUMBERS), rng.choice(NUMBERS)) for _ in range(2))
    short = min(size[0], 65_535), min(size[1], 65_535)
    fields = [(rng.choice((254, 256, 257, 258, 259, 262, 273, 277, 278, 322, 323, 324, 330)), 4,
               tuple(rng.choice(NUMBERS) for _ in range(rng.choice((1, 1, 1, 2, 40)))))
              for _ in range(rng.randint(1, 4))]  # fmt: skip
    chunks = [(b"IDAT", zlib.compress(bytes(rng.choice((0, 100, 10_000_000)))))]
    return rng.choice((
        lambda: gif(short, (min(other[0], 65_535), min(other[1], 65_535)), rng.randrange(256)),
        lambda: grey_tiff(min(size[0], 4096), 16, *fields),
        lambda: png(*size, *chunks, depth=rng.choice((1, 2, 4, 8, 16)), colour=rng.randrange(8)),
    ))()  # fmt: skip


def _place(rng: random.Random, data: bytes) -> int:
    length = max(1, len(data))
    return rng.randrange(min(HEAD_BYTES, length) if rng.random() < 0.5 else length)


def _flip_bit(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data or b"\0")
    changed[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set_byte(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]


def _set_number(rng: random.Random, data: bytes) -> bytes:
    at, form = _place(rng, data), rng.choice(("<H", ">H", "<I", ">I", "<Q"))
    most = 2 ** (8 * struct.calcsize(form)) - 1
    number = struct.pack(form, min(rng.choice(NUMBERS), most))
    return data[:at] + number + data[at + len(number) :]


def _insert(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    piece = rng.choice(WORDS) if rng.random() < 0.5 else rng.randbytes(rng.choice((1, 9, 300)))
    return data[:at] + piece + data[at:]


def _cut_out(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 2, 16, 400)) :]


def _cut_off(rng: random.Random, data: bytes) -> bytes:
    return data[: _place(rng, data)]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    start, times = _place(rng, data), rng.choice((1, 2, 50))
    piece = data[start : start + rng.choice((4, 40, 400))]
    return data[:start] + piece * times + data[start:]


def _blank(rng: random.Random, data: bytes) -> bytes:
    at, count = _place(rng, data), rng.choice((4, 64, 512))
    return data[:at] + bytes(min(count, len(data) - at)) + data[at + count :]


def _append(rng: random.Random, data: bytes) -> bytes:
    return data + rng.choice((bytes(600), rng.randbytes(600), data))


def _splice(rng: random.Random, data: bytes) -> bytes:
    other = next(iter(rng.choice(seeds()[rng.choice(list(seeds()))]).values()))
    return data[: _place(rng, data)] + other[_place(rng, other) :]


CHANGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _flip_bit, _flip_bit, _set_byte, _set_byte, _set_number, _set_number, _insert, _cut_out,
    _cut_off, _repeat, _blank, _append, _splice,
)  # fmt: skip


def _with_right_checksums(data: bytes) -> bytes:
    """So that what was changed in a chunk is looked at, and not its checksum only."""
    pieces, at = [data[:8]], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        pieces += [data[at : at + 4], body, struct.pack(">I", zlib.crc32(body))]
        at += 12 + length
    return b"".join([*pieces, data[at:]])
