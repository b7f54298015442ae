"""Many: images and keys of ids that are scattered over many shards.

In: an `images` output and ids. Out: encoded images, or keys. What a shard is asked for is little
and the answer takes a while, so that several shards are asked at the same time.

    for image_id, data in read_many(images, ids): ...
    keys = read_keys(images, ids)
"""

from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Semaphore

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.prefetch import map_ahead
from tasks import contract, tables
from tasks.contract import Output
from tasks.shard.read import has_pages, locate_images, piece_places, read_located

Ids = npt.NDArray[np.int64]

AT_A_TIME = 16
PIECE_BYTES = 8 << 20  # of encoded images that one of these reads at a time
# For one image, the whole of its page is read, which may be four times as much.
PAGES_AT_A_TIME = 4
KEYS = ["image_id", "key"]


def read_many(images: Output, ids: Ids) -> Iterator[tuple[int, bytes]]:
    """(image_id, encoded image) of each of these images once, sorted by image_id.

    Raises ProtegeError.
    """

    def locate(shard: tuple[int, Ids]) -> pa.Table:
        return locate_images(images, *shard)

    reading_pages = Semaphore(PAGES_AT_A_TIME)

    def read(places: pa.Table) -> Iterable[tuple[int, bytes]]:
        with reading_pages if has_pages(places) else nullcontext():
            return zip(places["image_id"].to_pylist(), read_located(places), strict=True)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        located = map_ahead(pool, locate, tables.ids_by_shard(ids), AT_A_TIME)
        pieces = (piece for places in located for piece in piece_places(places, PIECE_BYTES))
        for piece in map_ahead(pool, read, pieces, AT_A_TIME):
            yield from piece


def read_key_column(images: Output, ids: Ids) -> pa.Array:
    """The keys of these ids, in their order; of the others in a shard, none is kept."""
    table = pa.concat_tables(_key_tables(images, ids))
    places = np.searchsorted(table["image_id"].to_numpy(), ids)
    return table["key"].combine_chunks().take(pa.array(places))


def read_keys(images: Output, ids: Ids) -> list[str]:
    """The keys of these ids, in their order."""
    keys: list[str] = read_key_column(images, ids).to_pylist()
    return keys


def find_keys(images: Output, ids: Ids, wanted: Collection[str]) -> dict[int, str]:
    """Those of these ids whose keys are wanted, with their keys; of others, none is kept."""
    keys = pa.array(sorted(wanted), pa.string())
    found: dict[int, str] = {}
    for table in _key_tables(images, ids):
        rows = table.filter(pc.is_in(table["key"], value_set=keys))
        found |= dict(zip(rows["image_id"].to_pylist(), rows["key"].to_pylist(), strict=True))
    return found


def _key_tables(images: Output, ids: Ids) -> Iterator[pa.Table]:
    """KEYS of these ids, sorted, a shard at a time; first, a table without rows."""
    yield tables.IMAGES.empty_table().select(KEYS).replace_schema_metadata()

    def read(shard: tuple[int, Ids]) -> pa.Table:
        number, inside = shard
        name = contract.part_name(number)
        table = contract.read_part(images.store, name, tables.IMAGES, KEYS, inside)
        return table.sort_by("image_id").replace_schema_metadata()

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield from map_ahead(pool, read, tables.ids_by_shard(ids), AT_A_TIME)
