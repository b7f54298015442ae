"""Shards: their tables before they are written, and all rows of one with their images."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from tasks import tables
from tasks.contract import Output
from tasks.shard import read_images, read_shard


def images_table(columns: Mapping[str, pa.Array]) -> pa.Table:
    """Rows of a shard, with nulls in the columns that are not given."""
    count = len(columns["image_id"])
    whole = [columns.get(field.name, pa.nulls(count, field.type)) for field in tables.IMAGES]
    return pa.table(whole, names=tables.IMAGES.names).cast(tables.IMAGES)


def shard_table(
    images: Output, number: int, columns: Sequence[str] = (), only: np.ndarray | None = None
) -> pa.Table:
    """image_id, the columns and the encoded image of each row, or of those of `only`."""
    rows = read_shard(images, number, columns)
    found = dict(read_images(images, number, only))
    rows = rows.filter(pa.array(np.isin(rows["image_id"].to_numpy(), list(found))))
    encoded = [found[image_id] for image_id in rows["image_id"].to_pylist()]
    return rows.append_column("image", pa.array(encoded, pa.binary()))
