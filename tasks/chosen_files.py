"""Chosen files: which files were chosen for each class, by their names.

In: an output of topk. Out: a table with a row for each chosen image, in the order of `chosen`.

    chosen_files(chosen).to_pandas()
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import ProtegeError
from tasks import contract, tables
from tasks.contract import Output, output_of
from tasks.topk import read_chosen

SCHEMA = pa.schema(
    {
        "class": pa.string(),
        "rank": pa.int32(),
        "key": pa.string(),
        "log_odds": pa.float32(),
        "repeats": pa.int32(),
    }
)


def chosen_files(chosen: Output) -> pa.Table:
    """The table; ranks count from 1. Raises ProtegeError when the images are no longer there."""
    images = images_behind(chosen)
    if images is None:
        raise ProtegeError(
            f"{chosen.uri}: the images that it was chosen from are no longer there, and only they "
            "know the names of the files"
        )
    table = read_chosen(chosen)
    names = pa.array(chosen.classes, pa.string())
    ranks = pa.array(table["rank"].to_numpy() + 1, pa.int32())
    keys = _keys(images, table["image_id"].to_numpy())
    columns = [names.take(table["label"].combine_chunks()), ranks, keys]
    columns += [table["log_odds"], table["repeats"]]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def images_behind(chosen: Output) -> Output | None:
    """The images that were chosen from, if they are still there."""
    for node in chosen.lineage():
        if node.stage == "shard" and node.role == "images" and node.manifest:
            return output_of(node)
    return None


def _keys(images: Output, ids: npt.NDArray[np.int64]) -> pa.Array:
    """The keys of these ids, in their order; of the others in a shard, none is kept."""
    found = [tables.IMAGES.empty_table().select(["image_id", "key"])]
    shards = ids >> tables.ROW_BITS
    for shard in np.unique(shards).tolist():
        name, wanted = contract.part_name(shard), np.unique(ids[shards == shard])
        found.append(
            contract.read_part(images.store, name, tables.IMAGES, ["image_id", "key"], wanted)
        )
    table = pa.concat_tables([piece.replace_schema_metadata() for piece in found])
    order = np.argsort(table["image_id"].to_numpy(), kind="stable")
    places = np.searchsorted(table["image_id"].to_numpy(), ids, sorter=order)
    return table["key"].combine_chunks().take(pa.array(order[places]))
