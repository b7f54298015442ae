"""The interface of a store: a folder of whole objects."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

TEMPORARY = ".tmp-"


class Store(Protocol):
    """A folder of whole objects. Paths are relative, with forward slashes."""

    @property
    def uri(self) -> str:
        """The address of the folder, without a trailing slash."""
        ...

    def read(self, path: str) -> bytes:
        """The whole object. Raises FileNotFoundError."""
        ...

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Pieces of one object, each given as (offset, size). OSError when it is too short."""
        ...

    def open(self, path: str) -> pa.NativeFile:
        """The object as a seekable Arrow file, for Parquet readers. Raises FileNotFoundError."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Publish the object if there is none of that name; False when there was one."""
        ...

    def replace(self, path: str, data: bytes) -> None:
        """Publish the object, in place of the one that may be there."""
        ...

    def sizes(self, path: str = "") -> dict[str, "ObjectInfo"]:
        """One recursive listing of what is at or below `path`: name -> entry, in sorted order."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is an object of that name."""
        ...

    def delete(self, path: str) -> None:
        """Remove the object; nothing happens when there is none."""
        ...


@dataclass(frozen=True)
class ObjectInfo:
    """One object of a listing: its size in bytes, and a mark that changes when its content does."""

    size: int
    version: str


def _check_lengths(path: str, ranges: Sequence[tuple[int, int]], pieces: Sequence[bytes]) -> None:
    for (offset, size), piece in zip(ranges, pieces):
        if len(piece) != size:
            raise OSError(f"{path} ends at {offset + len(piece)}, before {offset + size} bytes")
