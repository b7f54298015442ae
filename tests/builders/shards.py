"""Shards: all rows of one shard with their images, for tests that compare them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tasks.contract import Output
from tasks.shard import read_images, read_shard


def shard_table(
    images: Output, number: int, columns: Sequence[str] = (), only: np.ndarray | None = None
) -> pa.Table:
    """image_id, the columns and the encoded image of each row, or of those of `only`."""
    rows = read_shard(images, number, columns)
    found = dict(read_images(images, number, only))
    rows = rows.filter(pa.array(np.isin(rows["image_id"].to_numpy(), list(found))))
    encoded = [found[image_id] for image_id in rows["image_id"].to_pylist()]
    return rows.append_column("image", pa.array(encoded, pa.binary()))
