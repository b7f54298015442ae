"""The interface of a store: a folder of whole objects."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from infra.errors import ProtegeError
from infra.store.parquet import ParquetObject

TEMPORARY_PREFIX = ".tmp-"


class Draft(Protocol):
    """An object before it is published; one that never is leaves nothing behind."""

    file: BinaryIO

    def create(self) -> bool:
        """Publish what was written unless the name is taken; False when it was."""
        ...

    def replace(self) -> None:
        """Publish what was written; it replaces an object of the same name."""
        ...


class Store(Protocol):
    """A folder of whole objects. Paths are relative, with forward slashes, and stay below it."""

    @property
    def uri(self) -> str:
        """The address of the folder, without a trailing slash."""
        ...

    def read(self, path: str) -> bytes:
        """The whole object. Raises FileNotFoundError."""
        ...

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Ranges of an object, each given as (offset, size). OSError when it is too short."""
        ...

    def open_parquet(self, path: str) -> AbstractContextManager[ParquetObject]:
        """The object as a Parquet file.

        Raises FileNotFoundError; pa.ArrowInvalid or OSError when it is torn.
        """
        ...

    def local_file(self, path: str) -> AbstractContextManager[BinaryIO]:
        """The object as a seekable file on a disk of this machine. Raises FileNotFoundError."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Publish the object unless the name is taken; False when it was."""
        ...

    def replace(self, path: str, data: bytes) -> None:
        """Publish the object; it replaces one of the same name."""
        ...

    def append(self, path: str, data: bytes) -> None:
        """Add to the end of an object that people follow while it grows, or begin it.

        For one writer; who reads it meanwhile may find the last line half written.
        """
        ...

    def draft(self, path: str) -> AbstractContextManager["Draft"]:
        """An object that is too large for memory, written to a file and then published."""
        ...

    def sizes(self, path: str = "", limit: int | None = None) -> dict[str, "ObjectInfo"]:
        """The objects at or below `path`, by name and in sorted order, from a single listing.

        With a limit, so many of them where there are more, and which ones is not said.
        """
        ...

    def exists(self, path: str) -> bool:
        """Whether there is an object of that name."""
        ...

    def delete(self, path: str) -> None:
        """Remove the object; nothing happens when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object of a listing: its size in bytes, and a version that changes with its content."""

    size: int
    version: str


def check_inside(uri: str, path: str) -> str:
    """The path, which stays below the store's folder. Raises ProtegeError for any other."""
    if path.startswith("/") or ".." in path.split("/"):
        raise ProtegeError(
            f"{path!r} leads out of {uri}: give a name below this folder, without '..' and "
            "without a leading '/'"
        )
    return path


def _check_lengths(path: str, ranges: Sequence[tuple[int, int]], pieces: Sequence[bytes]) -> None:
    for (offset, size), piece in zip(ranges, pieces):
        if len(piece) != size:
            raise OSError(f"{path} ends at {offset + len(piece)}, before {offset + size} bytes")
