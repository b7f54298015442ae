"""Merges: the second exchange of many lessons, from the buckets of many spills to their parts.

In: a job and the number of a merge, which is a bucket out of a block of spills. Out: a file with a
segment for each part of the bucket. With B buckets and B blocks, a task of either exchange reads B
segments and writes B, so that nothing has as many pieces as spills times parts.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from infra.store import Store, open_store
from tasks import contract
from tasks.contract import PartId, Receipt, Stopwatch
from tasks.gather.exchange import read_segments, write_segments
from tasks.gather.job import GatherJob
from tasks.gather.plan import SPILLS, Plan, read_plan
from tasks.gather.spills import ROUND_IMAGES, spill_name, split_by
from tasks.pieces import pieces


def count_merges(plan: Plan) -> int:
    """How many merges there are."""
    return plan.num_blocks * plan.num_buckets


def merge_name(number: int) -> str:
    """The name of a merge."""
    return f"{SPILLS}/merge-{number:06d}"


def write_merge(job: GatherJob, part: PartId) -> Receipt:
    """Make one merge."""
    watch, plan, name = Stopwatch(), read_plan(job.uri), merge_name(part.number)
    store = open_store(job.uri)
    receipt = write_segments(store, name, _segments(store, plan, part.number))
    watch.lap("exchange")
    return contract.timed(receipt, watch)


def _segments(store: Store, plan: Plan, number: int) -> Iterator[tuple[int, pa.Table]]:
    block, bucket = divmod(number, plan.num_buckets)
    first = block * plan.block_size
    spills = range(first, min(first + plan.block_size, len(plan.groups)))
    found = (table for spill in spills for table in read_segments(store, spill_name(spill), bucket))
    for round_tables in pieces(found, _num_bytes, ROUND_IMAGES, plan.round_bytes):
        table = pa.concat_tables(round_tables)
        for of_part, places in split_by(plan.part_of(table["order"].to_numpy())):
            yield of_part, table.take(pa.array(places)).combine_chunks()


def _num_bytes(table: pa.Table) -> int:
    num_bytes: int = table.nbytes
    return num_bytes


def read_part_segments(store: Store, plan: Plan, part: int) -> Iterator[pa.Table]:
    """The lessons of a part, from wherever the last exchange has left them."""
    if plan.is_direct:
        names = [spill_name(number) for number in range(len(plan.groups))]
    else:
        bucket = int(plan.bucket_of(np.array([part]))[0])
        blocks = range(plan.num_blocks)
        names = [merge_name(block * plan.num_buckets + bucket) for block in blocks]
    for name in names:
        yield from read_segments(store, name, part)
