"""Read: images out of shards, wherever their bytes lie.

In: an `images` output and the ids that are wanted. Out: encoded bytes, or keys.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import ProtegeError
from infra.prefetch import prefetch
from infra.store import Address, open_object
from tasks import contract, tables
from tasks.contract import Output, PartWriter
from tasks.images import Unusable
from tasks.pieces import PIECE_BYTES, pieces
from tasks.shard.changes import content_hash


def read_shard(images: Output, number: int, columns: Sequence[str]) -> pa.Table:
    """Rows of one shard, without their images. Raises ProtegeError."""
    name = contract.part_name(number)
    return contract.read_part(images.store, name, tables.IMAGES, ["image_id", *columns])


def read_images(
    images: Output, number: int, only: npt.NDArray[np.int64] | None = None
) -> Iterator[tuple[int, bytes]]:
    """(image_id, encoded image) of each row of one shard, in order, wherever the bytes lie.

    `only` is an array of image_ids; without it, all rows. A piece is read while the caller works
    on the one before. Raises ProtegeError.
    """
    for found in prefetch(_read_pieces(images, number, only), ahead=1):
        yield from found


def _read_pieces(
    images: Output, number: int, only: npt.NDArray[np.int64] | None
) -> Iterator[list[tuple[int, bytes]]]:
    wanted = ["image_id", "image", "uri", "offset", "size", "content_hash"]
    name = contract.part_name(number)
    for table in contract.read_pieces(images.store, name, tables.IMAGES, wanted, only):
        sizes = table["size"].to_pylist()
        # Images that stay in their tars make no row group large.
        for rows in pieces(range(len(table)), sizes.__getitem__, len(table), PIECE_BYTES):
            piece = table.slice(rows[0], len(rows))
            yield list(zip(piece["image_id"].to_pylist(), _bytes_of(piece), strict=True))


def reject_images(writer: PartWriter, rows: pa.Table, problems: Mapping[int, Unusable]) -> None:
    """Reject rows that were read with their keys; `problems` are by row."""
    for row, problem in sorted(problems.items()):
        image_id, key = rows["image_id"][row].as_py(), rows["key"][row].as_py()
        writer.reject(image_id, key, problem.reason, problem.detail)


def _bytes_of(table: pa.Table) -> list[bytes]:
    data: list[bytes] = table["image"].to_pylist()
    in_place: dict[str, list[int]] = {}
    for row, uri in enumerate(table["uri"].to_pylist()):
        if uri is not None:
            in_place.setdefault(uri, []).append(row)
    for uri, rows in in_place.items():
        store, name = open_object(Address(uri))
        ranges = [(table["offset"][row].as_py(), table["size"][row].as_py()) for row in rows]
        try:
            pieces = store.read_ranges(name, ranges)
        except OSError as error:
            raise ProtegeError(f"{uri} cannot be read any more: {error}") from error
        for row, piece in zip(rows, pieces):
            if content_hash(piece) != table["content_hash"][row].as_py():
                raise ProtegeError(
                    f"{uri} has changed since it was pinned: put it back as it was, or give what "
                    "is new in it a file of its own"
                )
            data[row] = piece
    return data


def read_many(images: Output, ids: npt.NDArray[np.int64]) -> Iterator[tuple[int, bytes]]:
    """(image_id, encoded image) of each of these images once, by shard, a piece at a time."""
    wanted = np.unique(ids)
    for shard in np.unique(wanted >> tables.ROW_BITS).tolist():
        inside = wanted[wanted >> tables.ROW_BITS == shard]
        yield from read_images(images, shard, only=inside)


def read_key_column(images: Output, ids: npt.NDArray[np.int64]) -> pa.Array:
    """The keys of these ids, in their order; of the others in a shard, none is kept."""
    columns = ["image_id", "key"]
    found = [tables.IMAGES.empty_table().select(columns)]
    shards = ids >> tables.ROW_BITS
    for shard in np.unique(shards).tolist():
        name, wanted = contract.part_name(shard), np.unique(ids[shards == shard])
        found.append(contract.read_part(images.store, name, tables.IMAGES, columns, wanted))
    table = pa.concat_tables([piece.replace_schema_metadata() for piece in found])
    order = np.argsort(table["image_id"].to_numpy(), kind="stable")
    places = np.searchsorted(table["image_id"].to_numpy(), ids, sorter=order)
    return table["key"].combine_chunks().take(pa.array(order[places]))


def read_keys(images: Output, ids: npt.NDArray[np.int64]) -> list[str]:
    """The keys of these ids, in their order."""
    keys: list[str] = read_key_column(images, ids).to_pylist()
    return keys
