"""Pages: where the images of a Parquet file lie, so that they can stay there.

In: an open file, the column of the images in a row group, and its values as Arrow reads them, one
after the other. Out: the place of each, or None. A place is given only where the same bytes were
found at it, so that nothing depends on how a file was written; an image without one is copied.

    places = ImagePlaces(file, chunk, column)
    place = places.find(image)   # of the first row, then of the next
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.shard.sources.page_headers import (
    DATA_PAGE,
    DATA_PAGE_V2,
    DICTIONARY_ENCODINGS,
    DICTIONARY_PAGE,
    PLAIN,
    PageHeader,
    read_page_header,
)
from tasks.shard.sources.places import Page, Place

# Whoever wants one image reads the whole of its page: beyond this, a copy of the images costs less.
MAX_PAGE_BYTES = 16 << 20
HEADER_BYTES = 64 << 10  # a header may hold the smallest and the largest value
LENGTH_BYTES = 4  # of a value, before it
CODECS = {
    "SNAPPY": "snappy",
    "GZIP": "gzip",
    "BROTLI": "brotli",
    "ZSTD": "zstd",
    "LZ4": "lz4_raw",
}
# RecursionError: bytes that are no header may look like deeply nested structs.
UNREADABLE = (pa.ArrowException, OSError, LookupError, ValueError, RecursionError)
FOREVER = 1 << 62

Read = Callable[[int, int], bytes]  # the bytes from a place on, and how many


class _Values(Protocol):
    """The values of a page."""

    def find(self, value: bytes) -> Place | None:
        """Where this value lies, if it is the next one or, in a dictionary, any of them."""
        ...


@dataclass
class _Plain:
    """Values that stand in the order of the rows, each behind its length (encoding PLAIN)."""

    read: Read
    next: int
    page: Page | None

    def find(self, value: bytes) -> Place | None:
        first, length = self.next + LENGTH_BYTES, len(value).to_bytes(LENGTH_BYTES, "little")
        if self.read(self.next, LENGTH_BYTES) != length or self.read(first, len(value)) != value:
            return None
        self.next = first + len(value)
        return Place(first, self.page)

    def walk(self, count: int) -> Iterator[tuple[int, bytes]]:
        """The first byte of each of these values, and the value. Raises ValueError."""
        at = self.next
        for _ in range(count):
            length = self.read(at, LENGTH_BYTES)
            value = self.read(at + LENGTH_BYTES, int.from_bytes(length, "little"))
            if length != len(value).to_bytes(LENGTH_BYTES, "little"):
                raise ValueError("a page has fewer values than its header says")
            at += LENGTH_BYTES
            yield at, value
            at += len(value)


class _Dictionary:
    """Values of which rows have the numbers. Only their hashes are in memory."""

    def __init__(self, values: _Plain, count: int) -> None:
        self._read, self._page = values.read, values.page
        self._places: dict[int, int] = {}
        for first, value in values.walk(count):
            if self._places.setdefault(hash(value), first) != first:
                raise ValueError("a dictionary has a value twice")

    def find(self, value: bytes) -> Place | None:
        first = self._places.get(hash(value))
        if first is None or self._read(first, len(value)) != value:
            return None
        return Place(first, self._page)


class ImagePlaces:
    """The pages of a column in a row group. One is in memory at a time, beside its dictionary."""

    def __init__(
        self, file: BinaryIO, chunk: pq.ColumnChunkMetaData, column: pq.ColumnSchema
    ) -> None:
        self._file, self._compression = file, chunk.compression
        self._next_page = chunk.data_page_offset
        if chunk.has_dictionary_page:
            self._next_page = min(self._next_page, chunk.dictionary_page_offset)
        self._end = self._next_page + chunk.total_compressed_size
        self._may_be_null = column.max_definition_level > 0
        self._rows_left = 0
        self._dictionary: _Values | None = None
        self._values: _Values | None = None

    def find(self, image: bytes | None) -> Place | None:
        """The place of the image of the next row; None for a null, and where it is not known."""
        try:
            while not self._rows_left:
                self._open_page()
        except UNREADABLE:
            self._values, self._rows_left = None, FOREVER
        self._rows_left -= 1
        if image is None or self._values is None:
            return None
        return self._values.find(image)

    def _open_page(self) -> None:
        if self._next_page >= self._end:
            raise ValueError("there are fewer rows in its pages than in the row group")
        header = read_page_header(self._read(self._next_page, HEADER_BYTES))
        first = self._next_page + header.header_bytes + header.levels_bytes
        self._next_page = first + header.num_bytes
        if header.kind == DICTIONARY_PAGE:
            values = self._plain_values(header, first)
            self._dictionary = _Dictionary(values, header.num_values) if values else None
        elif header.kind in (DATA_PAGE, DATA_PAGE_V2):
            self._rows_left = header.num_values
            self._values = None
            if header.encoding == PLAIN:
                self._values = self._plain_values(header, first)
            elif header.encoding in DICTIONARY_ENCODINGS:
                self._values = self._dictionary

    def _plain_values(self, header: PageHeader, first: int) -> _Plain | None:
        """The values of a page whose bytes begin there; None where we could not read them again."""
        if self._compression == "UNCOMPRESSED" or not header.is_compressed:
            values = _Plain(self._read, first, None)
        elif max(header.num_bytes, header.decompressed_bytes) > MAX_PAGE_BYTES:
            return None
        else:
            codec = CODECS[self._compression]
            page = Page(first, header.num_bytes, header.decompressed_bytes, codec)
            data = decompress(self._read(first, page.num_bytes), page)
            values = _Plain(lambda start, size: data[start : start + size], 0, page)
        if header.kind == DATA_PAGE and self._may_be_null:
            length = values.read(values.next, LENGTH_BYTES)
            values.next += LENGTH_BYTES + int.from_bytes(length, "little")
        return values

    def _read(self, start: int, size: int) -> bytes:
        # Arrow reads the same file, from a place of its own.
        return os.pread(self._file.fileno(), size, start)


def decompress(data: bytes, page: Page) -> bytes:
    """What is in a page. Raises OSError or ValueError where it is another."""
    found: bytes = pa.decompress(data, page.decompressed_bytes, page.codec, asbytes=True)
    return found
