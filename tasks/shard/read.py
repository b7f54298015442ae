"""Read: images out of shards, wherever their bytes lie.

In: an `images` output and the ids that are wanted. Out: encoded bytes, or keys.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import ProtegeError
from infra.store import Address, open_object
from tasks import contract, tables
from tasks.contract import Output, PartWriter
from tasks.images import Unusable
from tasks.shard.changes import content_hash


def read_images(
    images: Output, number: int, columns: Sequence[str] = (), only: np.ndarray | None = None
) -> pa.Table:
    """Rows of one shard with the bytes of their images, wherever those lie.

    `only` is a sorted array of image_ids; without it, all rows. Raises ProtegeError.
    """
    wanted = ["image_id", "image", "uri", "offset", "size", "content_hash", *columns]
    name = contract.part_name(number)
    table = contract.read_part(images.store, name, tables.IMAGES, wanted, only)
    data = _bytes_of(table)
    return table.select(["image_id", *columns]).append_column("image", pa.array(data, pa.binary()))


def reject_images(writer: PartWriter, table: pa.Table, problems: Mapping[int, Unusable]) -> None:
    """Reject rows of a table that was read with its keys; `problems` are by row."""
    for row, problem in sorted(problems.items()):
        image_id, key = table["image_id"][row].as_py(), table["key"][row].as_py()
        writer.reject(image_id, key, problem.reason, problem.detail)


def _bytes_of(table: pa.Table) -> list[bytes | None]:
    data: list[bytes | None] = table["image"].to_pylist()
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


def read_many(images: Output, ids: npt.NDArray[np.int64]) -> list[bytes]:
    """The encoded images of these ids, in their order."""
    found: dict[int, bytes] = {}
    for shard in np.unique(ids >> tables.ROW_BITS).tolist():
        table = read_images(images, shard, only=np.unique(ids))
        found.update(zip(table["image_id"].to_pylist(), table["image"].to_pylist(), strict=True))
    return [found[image_id] for image_id in ids.tolist()]


def read_keys(images: Output, ids: npt.NDArray[np.int64]) -> list[str]:
    """The keys of these ids, in their order."""
    found: dict[int, str] = {}
    for shard in np.unique(ids >> tables.ROW_BITS).tolist():
        name = contract.part_name(shard)
        table = contract.read_part(images.store, name, tables.IMAGES, ["image_id", "key"])
        found.update(zip(table["image_id"].to_pylist(), table["key"].to_pylist(), strict=True))
    return [found[image_id] for image_id in ids.tolist()]
