"""Ranges: which bytes of an object are read in one request, where a request costs more than bytes.

In: the ranges that are wanted. Out: blocks, each of neighbouring ranges and what lies between them.
While a request is on its way, a connection could have carried some megabytes: what lies between two
ranges is read along, and thrown away, where it is less than that.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MERGE_GAP_BYTES = 2 << 20  # about 30 ms at 90 MB/s, a connection's speed on S3
BLOCK_BYTES = 8 << 20  # of a large range, several are read at the same time
WINDOW_BYTES = 128 << 20  # of blocks in memory at a time

Range = tuple[int, int]


@dataclass
class Block:
    """Bytes that are read in one request, and the places of the ranges that lie in them."""

    offset: int
    end: int
    places: list[int]

    @property
    def size(self) -> int:
        """Its number of bytes."""
        return self.end - self.offset


def blocks_of(ranges: Sequence[Range]) -> list[Block]:
    """The blocks that hold these ranges, each given as (offset, size); none for an empty range."""
    blocks: list[Block] = []
    for place in sorted(range(len(ranges)), key=ranges.__getitem__):
        offset, size = ranges[place]
        if not size:
            continue
        last = blocks[-1] if blocks else None
        end = offset + size
        if last and offset - last.end <= MERGE_GAP_BYTES and end - last.offset <= BLOCK_BYTES:
            last.end = max(last.end, end)
            last.places.append(place)
        else:
            blocks.append(Block(offset, end, [place]))
    return blocks


def windows(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Blocks that are read at a time."""
    window: list[Block] = []
    for block in blocks:
        if window and sum(other.size for other in window) + block.size > WINDOW_BYTES:
            yield window
            window = []
        window.append(block)
    if window:
        yield window
