"""Subset: a share of the labelled images of each class, as 1 % and 10 % of ImageNet are used.

In: labelled images. Out: those that are taken. Which ones they are follows from their keys and a
seed alone: another size of shards takes the same images, a larger share takes these and others, and
new images in a source displace few.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tasks import contract, tables
from tasks.contract import Output, Receipt, RowCounts, Session
from tasks.gather.options import GatherOptions

SUBSET = "subset.parquet"
WHOLE = 100


@dataclass(frozen=True)
class Share:
    """A share of the images that are taken, of each class, for a member of a committee."""

    percent: float
    seed: int


def read_subset(images: Output, options: GatherOptions, share: Share | None = None) -> pa.Table:
    """The columns `image_id` and `label` of the images that are taken, and `key` of a share."""
    if options.percent_of_class == WHOLE and share is None:
        return contract.read_rows(images, tables.IMAGES, ["image_id", "label"])
    table = contract.read_rows(images, tables.IMAGES, ["image_id", "key", "label"])
    if options.percent_of_class != WHOLE:
        table = _share_of(table, options.percent_of_class, options.seed)
    if share is not None:
        # Two members that learn from all images of a class would say the same of it.
        table = _share_of(table, share.percent, share.seed, spared=1)
    return table


def _share_of(table: pa.Table, percent: float, seed: int, spared: int = 0) -> pa.Table:
    """The share of each class: at least one image, and, of several, all but `spared` at most."""
    hashes = np.array([_hash(key, seed) for key in table["key"].to_pylist()], np.uint64)
    labels = table["label"].combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
    order = np.lexsort((hashes, labels))
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    wanted = np.minimum(np.rint(counts * percent / WHOLE), counts - spared)
    wanted = np.maximum(1, wanted).astype(np.int64)
    ranks = np.arange(len(order)) - np.repeat(starts, counts)
    return table.take(pa.array(np.sort(order[ranks < np.repeat(wanted, counts)])))


def write_subset(
    session: Session, images: Output, options: GatherOptions, share: Share | None
) -> tuple[Receipt, ...]:
    """Publish the table of a share, so that others can take the same images."""
    if options.percent_of_class == WHOLE and share is None:
        return ()
    table = read_subset(images, options, share).select(tables.SUBSET.names).cast(tables.SUBSET)
    return (contract.write_part(session.store, SUBSET, table, RowCounts(0, 0, 0)),)


def _hash(key: str, seed: int) -> int:
    digest = hashlib.blake2b(key.encode(), digest_size=8, salt=seed.to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big")
