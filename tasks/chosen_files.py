"""Chosen files: which files were chosen for each class, by their names.

In: an output of topk. Out: a table with a row for each chosen image, in the order of `chosen`.

    chosen_files(chosen).to_pandas()
"""

import pyarrow as pa

from infra.errors import ProtegeError
from tasks.contract import Output, output_of
from tasks.shard import read_key_column
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
    keys = read_key_column(images, table["image_id"].to_numpy())
    columns = [names.take(table["label"].combine_chunks()), ranks, keys]
    columns += [table["log_odds"], table["repeats"]]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def images_behind(chosen: Output) -> Output | None:
    """The images that were chosen from, if they are still there."""
    for node in chosen.lineage():
        if node.stage == "shard" and node.role == "images" and node.manifest:
            return output_of(node)
    return None
