"""Pieces: successive items that are worked on together, bounded by their number and their bytes.

A bound by number alone is none: ten thousand icons have the bytes of one photograph of a phone.

    for files in pieces(listing, lambda file: file.size, PIECE_IMAGES, PIECE_BYTES): ...
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

PIECE_IMAGES = 256
PIECE_BYTES = 32 << 20  # of encoded images that a worker reads, checks and writes at a time

Item = TypeVar("Item")


def pieces(
    items: Iterable[Item], size_of: Callable[[Item], int], max_items: int, max_bytes: int
) -> Iterator[list[Item]]:
    """The items in lists that end at so many items or bytes, whichever comes first.

    An item that has more bytes is a list by itself.
    """
    piece: list[Item] = []
    num_bytes = 0
    for item in items:
        size = size_of(item)
        if piece and (len(piece) == max_items or num_bytes + size > max_bytes):
            yield piece
            piece, num_bytes = [], 0
        piece.append(item)
        num_bytes += size
    if piece:
        yield piece
