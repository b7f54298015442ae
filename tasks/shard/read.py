"""Read: images out of one shard, wherever their bytes lie; out of many shards, see many.py.

In: an `images` output and the ids that are wanted. Out: encoded bytes.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.prefetch import prefetch
from infra.store import Address, open_object
from tasks import contract, tables
from tasks.contract import Output, PartWriter
from tasks.images import Unusable
from tasks.pieces import PIECE_BYTES, pieces
from tasks.shard.in_place import Range, read_in_place
from tasks.shard.sources import Page

# Where the bytes of images lie: in a part of ours, whose uri has no hash of its images, or in the
# file that they were left in, or in a compressed page of that.
PAGE = [
    pa.field("page_offset", pa.int64()),
    pa.field("page_bytes", pa.int32()),
    pa.field("page_decompressed_bytes", pa.int32()),
    pa.field("page_codec", pa.string()),
]
PLACES = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("content_hash", pa.uint64()),
        *PAGE,
    ]
)


def read_shard(images: Output, number: int, columns: Sequence[str]) -> pa.Table:
    """Rows of one shard, without their images. Raises ProtegeError."""
    name = contract.part_name(number)
    return contract.read_part(images.store, name, tables.IMAGES, ["image_id", *columns])


def read_images(
    images: Output, number: int, only: npt.NDArray[np.int64] | None = None
) -> Iterator[tuple[int, bytes]]:
    """(image_id, encoded image) of each row of one shard, in order, wherever the bytes lie.

    `only` is an array of image_ids, of which each is read by itself, unless the store finds it
    cheaper to read what lies between (`read_ranges`); without it, all rows. A piece is read while
    the caller works on the one before. Raises ProtegeError.
    """
    yield from read_places(locate_images(images, number, only))


def locate_images(
    images: Output,
    number: int,
    only: npt.NDArray[np.int64] | None = None,
    columns: Sequence[str] = (),
) -> pa.Table:
    """Where the bytes of these images of one shard lie: PLACES, and other columns of the shard.

    `only` is an array of image_ids; without it, all rows, in order. Raises ProtegeError.
    """
    name = contract.part_name(number)
    with contract.open_part(images.store, name, tables.IMAGES) as parquet:
        table = parquet.read([*PLACES.names, *columns])
        packed = table["uri"].is_null().to_numpy()
        sizes = np.where(packed, table["size"].to_numpy(), -1)
        inside = contract.value_offsets(parquet, "image", sizes)
    offsets = np.where(packed, inside, table["offset"].fill_null(0).to_numpy())
    places = [
        table["image_id"],
        table["uri"].fill_null(f"{images.store.uri}/{name}"),
        pa.array(offsets),
        table["size"],
        pa.array(table["content_hash"].to_numpy(), mask=packed),
        *(table[field.name] for field in PAGE),
    ]
    located = pa.Table.from_arrays(places, schema=PLACES)
    for column in columns:
        located = located.append_column(column, table[column])
    if only is not None:
        located = located.filter(np.isin(located["image_id"].to_numpy(), only))
    return located.combine_chunks()


def read_places(places: pa.Table) -> Iterator[tuple[int, bytes]]:
    """(image_id, encoded image) of each of these PLACES, in order, a piece at a time.

    Raises ProtegeError.
    """
    found = (
        list(zip(piece["image_id"].to_pylist(), read_located(piece), strict=True))
        for piece in piece_places(places)
    )
    for piece in prefetch(found, ahead=1):
        yield from piece


def read_located(places: pa.Table) -> list[bytes]:
    """The encoded images at these PLACES. Raises ProtegeError where a file has changed."""
    data = [b""] * len(places)
    uris, hashes = places["uri"].to_pylist(), places["content_hash"].to_pylist()
    ranges = list(zip(places["offset"].to_pylist(), places["size"].to_pylist(), strict=True))
    pages = _pages(places)
    # An image by itself is a file by itself more often than not, so that what is done for a file
    # is done without tables.
    by_file = sorted(range(len(uris)), key=uris.__getitem__)
    for uri, grouped in itertools.groupby(by_file, key=uris.__getitem__):
        rows = list(grouped)
        if hashes[rows[0]] is None:
            found = _read_part(uri, [ranges[row] for row in rows])
        else:
            found = read_in_place(uri, [(ranges[row], pages[row], hashes[row]) for row in rows])
        for row, image in zip(rows, found, strict=True):
            data[row] = image
    return data


def piece_places(places: pa.Table, max_bytes: int = PIECE_BYTES) -> Iterator[pa.Table]:
    """These PLACES in pieces of so many bytes, which are read at a time; no page is cut."""
    sizes, pages, uris = places["size"].to_pylist(), _pages(places), places["uri"].to_pylist()

    def num_bytes(rows: Sequence[int]) -> int:
        page = pages[rows[0]]
        # It is in memory as it is and decompressed, while its images are cut out of it.
        return sizes[rows[0]] if page is None else page.num_bytes + page.decompressed_bytes

    def page_of(row: int) -> object:
        return row if pages[row] is None else (uris[row], pages[row])

    together = (list(rows) for _, rows in itertools.groupby(range(len(places)), key=page_of))
    for groups in pieces(together, num_bytes, max(len(places), 1), max_bytes):
        first, last = groups[0][0], groups[-1][-1]
        yield places.slice(first, last + 1 - first)


def has_pages(places: pa.Table) -> bool:
    """Whether any of these PLACES lies in a page, which is read as a whole."""
    return bool(places["page_codec"].null_count < len(places))


def _pages(places: pa.Table) -> list[Page | None]:
    """The page that each of these PLACES lies in, if it lies in any."""
    columns = [places[field.name].to_pylist() for field in PAGE]
    return [None if values[0] is None else Page(*values) for values in zip(*columns, strict=True)]


def _read_part(uri: str, ranges: Sequence[Range]) -> list[bytes]:
    """Images of a part of ours. Raises ProtegeError when it is another now."""
    store, name = open_object(Address(uri))
    try:
        return contract.read_values(store, name, ranges)
    except OSError as error:
        raise contract.unreadable(store, name, error) from error


def reject_images(writer: PartWriter, rows: pa.Table, problems: Mapping[int, Unusable]) -> None:
    """Reject rows that were read with their keys; `problems` are by row."""
    for row, problem in sorted(problems.items()):
        image_id, key = rows["image_id"][row].as_py(), rows["key"][row].as_py()
        writer.reject(image_id, key, problem.reason, problem.detail)
