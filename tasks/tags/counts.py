"""Counts: how many images have each tag, and teach each class.

In: shards of images and a mapping. Out: a file for every few shards, which is needed until the
output is complete, and their sum. An image that has a tag twice, or two tags of one class, counts
once.
"""

from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from infra.store import Store, open_store
from tasks import contract
from tasks.contract import Output, PartId, Receipt, RowCounts, Stopwatch
from tasks.shard import read_shard
from tasks.tags.mapping import TagMapping, canonical_tags

COUNTS = "counts"
SHARDS_PER_FILE = 16

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("is_class", pa.bool_(), nullable=False),
        pa.field("images", pa.int64(), nullable=False),
    ]
)


@dataclass
class TagCounts:
    """Images by tag and by class."""

    tags: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class CountsJob:
    """What every worker of the first step is given."""

    uri: str
    images: Output
    mapping: TagMapping


def counts_name(number: int) -> str:
    """The name of the file of a group of shards."""
    return f"{COUNTS}/counts-{number:05d}.parquet"


def num_files(images: Output) -> int:
    """How many files there are."""
    return -(-len(images.body["parts"]) // SHARDS_PER_FILE)


def write_counts(job: CountsJob, part: PartId) -> Receipt:
    """Count the images of a group of shards."""
    watch, counts = Stopwatch(), TagCounts()
    first = part.number * SHARDS_PER_FILE
    for shard in job.images.body["parts"][first : first + SHARDS_PER_FILE]:
        number = contract.part_number(shard["name"])
        for tags in read_shard(job.images, number, ["tags"])["tags"].to_pylist():
            found = canonical_tags(tags)
            counts.tags.update(found)
            counts.classes.update(job.mapping.classes_of(found))
    table, store = _table(counts), open_store(job.uri)
    rows = RowCounts(len(table), len(table), 0)
    receipt = contract.write_part(store, counts_name(part.number), table, rows)
    watch.lap("count")
    return contract.timed(receipt, watch)


def _table(counts: TagCounts) -> pa.Table:
    rows = [(name, False, images) for name, images in sorted(counts.tags.items())]
    rows += [(name, True, images) for name, images in sorted(counts.classes.items())]
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)


def read_counts(store: Store, number: int) -> TagCounts:
    """The counts of one group of shards."""
    with store.open_parquet(counts_name(number)) as parquet:
        table = parquet.read()
    found = TagCounts()
    for counter, is_class in ((found.tags, False), (found.classes, True)):
        rows = table.filter(pc.equal(table["is_class"], is_class))
        counter.update(dict(zip(rows["name"].to_pylist(), rows["images"].to_pylist(), strict=True)))
    return found
