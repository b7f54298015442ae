"""Page headers: what stands before each page of a column in a Parquet file.

In: bytes that begin with a header. Out: the header, and its own length. It is a struct in Thrift's
compact protocol, as parquet.thrift of the format describes it (`PageHeader`); Arrow reads it too,
but does not say where the pages are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Numbers of parquet.thrift: kinds of pages, and encodings of their values.
DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = 0, 2, 3
PLAIN, DICTIONARY_ENCODINGS = 0, (2, 8)

# Types of the compact protocol. A boolean is in its type.
STOP, TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 12
INTEGERS = (4, 5, 6)
SIZES = {BYTE: 1, DOUBLE: 8}
LONG_LIST = 15
VARINT_BITS, MAX_NUMBER = 64, 2**31 - 1  # numbers of a header have 32 bits


@dataclass(frozen=True)
class PageHeader:
    """A page; sizes are in bytes, and those of its content do not count the levels before it."""

    header_bytes: int
    kind: int
    num_values: int
    """Of a page of data, nulls are counted too, so that they are as many as rows."""
    encoding: int
    levels_bytes: int
    """Levels that are not compressed; in pages of the first version, they are with the values."""
    num_bytes: int
    decompressed_bytes: int
    is_compressed: bool


def read_page_header(data: bytes) -> PageHeader:
    """The header that these bytes begin with. Raises IndexError or ValueError."""
    reader = _Reader(data)
    fields = reader.read_struct()
    kind, decompressed, compressed = (_number(fields, number) for number in (1, 2, 3))
    count = encoding = levels_bytes = 0
    is_compressed = True
    if kind in (DATA_PAGE, DICTIONARY_PAGE):
        of_page = _struct(fields, 5 if kind == DATA_PAGE else 7)
        count, encoding = _number(of_page, 1), _number(of_page, 2)
    elif kind == DATA_PAGE_V2:
        of_data = _struct(fields, 8)
        count, encoding = _number(of_data, 3), _number(of_data, 4)
        levels_bytes = _number(of_data, 5) + _number(of_data, 6)
        is_compressed = of_data.get(7, True) is True
    if levels_bytes > min(compressed, decompressed):
        raise ValueError("the levels of a page are longer than the page")
    sizes = (compressed - levels_bytes, decompressed - levels_bytes)
    return PageHeader(reader.at, kind, count, encoding, levels_bytes, *sizes, is_compressed)


def _number(fields: Mapping[int, Any], number: int) -> int:
    found = fields.get(number)
    if type(found) is not int or not 0 <= found <= MAX_NUMBER:
        raise ValueError(f"a header has no number in its field {number}")
    return found


def _struct(fields: Mapping[int, Any], number: int) -> Mapping[int, Any]:
    found = fields.get(number)
    if not isinstance(found, dict):
        raise ValueError(f"a header has no struct in its field {number}")
    return found


class _Reader:
    """A place in bytes of the compact protocol."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def read_struct(self) -> dict[int, Any]:
        """Numbers, booleans and structs by the ids of their fields; of the rest, None."""
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != STOP:
            # The high bits are the distance from the last id, where that is small.
            number = number + (head >> 4) if head >> 4 else self._integer()
            fields[number] = self._value(head & 15)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if kind in INTEGERS:
            return self._integer()
        if kind == STRUCT:
            return self.read_struct()
        if kind in SIZES:
            self._skip(SIZES[kind])
        elif kind == BINARY:
            self._skip(self._varint())
        elif kind in (LIST, SET):
            self._skip_list()
        else:
            raise ValueError(f"{kind} is no type of a Parquet header")
        return None

    def _skip_list(self) -> None:
        head = self._byte()
        count = head >> 4 if head >> 4 != LONG_LIST else self._varint()
        for _ in range(count):
            # In a list, a boolean is a byte.
            self._value(BYTE if head & 15 in (TRUE, FALSE) else head & 15)

    def _integer(self) -> int:
        """Zigzag: the lowest bit is the sign."""
        number = self._varint()
        return (number >> 1) ^ -(number & 1)

    def _varint(self) -> int:
        number = 0
        for shift in range(0, VARINT_BITS, 7):
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
        raise ValueError("a number of a header has no end")

    def _byte(self) -> int:
        self._skip(1)
        return self._data[self.at - 1]

    def _skip(self, num_bytes: int) -> None:
        self.at += num_bytes
        if self.at > len(self._data):
            raise IndexError("a header goes on beyond what was read")
