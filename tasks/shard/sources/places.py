"""Places: where the bytes of an image lie in the container that it is left in."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Page:
    """A compressed page of a Parquet file, which is read as a whole."""

    offset: int
    num_bytes: int
    decompressed_bytes: int
    codec: str


@dataclass(frozen=True)
class Place:
    """The first byte of an image: in its file, or in a page of that once it is decompressed."""

    offset: int
    page: Page | None = None
