"""shard: pins any image source as numbered shards.

In: a source (folder, tar, Parquet, list; local or S3). Out: `images` parts, one a shard, a table
of rejects beside those that have some, and a manifest for each snapshot of the source.

A source is pinned by increments: the first listing assigns every file a shard and a row, and later
listings assign only files that are new, to later shards. So a source that grows adds shards and
leaves the others as they are, and an `image_id` is never used twice. A reject that was mended gets
another attempt in the same way, by a place in a later shard.

    images = shard(root, ShardOptions(source="photos/"), Inline())
    recheck = recheck_rejects(root, images)
"""

import functools
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from infra.errors import ProtegeError
from infra.executors import Executor
from infra.lease import Lease
from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import (
    Manifest,
    OnProgress,
    Output,
    Receipt,
    RowCounts,
    Stopwatch,
    once,
    run_shards,
    silent,
)
from tasks.shard.candidates import Candidate, problem_of, read_loose, read_members
from tasks.shard.options import ShardOptions
from tasks.shard.pins import STAGE, Snapshot, pin, rechecked_reasons, shard_pins
from tasks.shard.read import class_names, read_images, read_keys, read_many, reject_rows
from tasks.shard.recheck import Recheck, recheck_rejects
from tasks.shard.sources import SourceFile

DECODE_THREADS = 2
ROW_GROUP_ROWS = 256  # a reader of one image reads no more than so many
READ_THREADS = 16  # small reads wait for the store, not for the processor
AT_ONCE = 256  # images checked at a time; those that stay in a tar are let go afterwards

__all__ = [
    "STAGE",
    "Recheck",
    "ShardOptions",
    "Snapshot",
    "class_names",
    "pin",
    "read_images",
    "read_keys",
    "read_many",
    "recheck_rejects",
    "reject_rows",
    "shard",
]


def shard(
    root: Store,
    options: ShardOptions,
    executor: Executor,
    on_progress: OnProgress = silent,
    snapshot: Snapshot | None = None,
) -> Output:
    """Make the `images` parts that are missing for a snapshot of the source (default: of now).

    Raises ProtegeError when the source is empty, or too many images cannot be used.
    """
    snapshot = snapshot or pin(root, options)
    output = once(
        open_store(snapshot.uri),
        functools.partial(_make, _Job(snapshot, options), executor),
        on_progress,
        inputs={"source": options.source},
        name=snapshot.manifest,
    )
    if not output.rows_in:
        raise _no_images(options)
    remedy = f"run `protege rejects --recheck {output.uri}`"
    contract.check_reject_share(output, options.max_reject_percent, options.source, remedy)
    return output


def _no_images(options: ShardOptions) -> ProtegeError:
    told = f"{options.source}: its .tar or .parquet files hold no images"
    if options.slice.is_whole:
        return ProtegeError(told)
    return ProtegeError(
        f"{told} in {options.slice}. Widen from_percent and to_percent, or add images"
    )


@dataclass(frozen=True)
class _Job:
    snapshot: Snapshot
    options: ShardOptions


def _make(job: _Job, executor: Executor, lease: Lease, on_progress: OnProgress) -> Output:
    started = time.perf_counter()
    snapshot = job.snapshot
    store = open_store(snapshot.uri)
    make = functools.partial(_shard_one, job)
    receipts = run_shards(store, range(snapshot.shards), make, executor, on_progress)
    manifest = Manifest(
        stage=STAGE,
        fingerprint=snapshot.fingerprint,
        options=job.options.model_dump(),
        inputs={},
        parts=receipts,
        seconds=time.perf_counter() - started,
        extra={"snapshot": snapshot.digest, "increments": list(snapshot.increments)},
        rechecked=rechecked_reasons(store, snapshot.increments),
    )
    lease.check()
    return contract.publish(store, manifest, snapshot.manifest)


def _shard_one(job: _Job, number: int) -> Receipt:
    store = open_store(job.snapshot.uri)
    watch = Stopwatch()
    table, rejected = _checked(job, number, watch)
    contract.write_rejects(store, number, rejected, tables.REJECTS)
    receipt = contract.write_part(
        store,
        contract.part_name(number),
        table,
        RowCounts(len(table) + len(rejected), len(table), len(rejected)),
        # Encoded images do not shrink, and readers should not pay for trying.
        layout=tables.IMAGES_LAYOUT,
        row_group_rows=ROW_GROUP_ROWS,
    )
    watch.lap("write")
    return contract.timed(receipt, watch)


def _checked(job: _Job, number: int, watch: Stopwatch) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The images of a shard that can be used, and the rejects."""
    kept, rejected = [], []
    ids = itertools.count(tables.image_id(number, 0))
    candidates = _candidates(job, number)
    look = functools.partial(problem_of, options=job.options)
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        while batch := list(itertools.islice(candidates, AT_ONCE)):
            watch.lap("read")
            for candidate, problem in zip(batch, pool.map(look, batch)):
                image_id = next(ids)
                if problem is None:
                    kept.append(_image_row(image_id, candidate))
                else:
                    rejected.append({"image_id": image_id, "key": candidate.key, **problem})
            watch.lap("decode")
    return pa.Table.from_pylist(kept, schema=tables.IMAGES), rejected


def _candidates(job: _Job, number: int) -> Iterator[Candidate]:
    entries, rechecked = shard_pins(open_store(job.snapshot.uri), number)
    if entries[0].is_container:
        yield from read_members(entries[0], job.options, job.snapshot.uri)
        return
    reasons = (rechecked.get(row) for row in range(len(entries)))
    with ThreadPoolExecutor(READ_THREADS) as pool:
        yield from pool.map(_read_or_pass, entries, reasons)


def _read_or_pass(entry: SourceFile, reason: str | None) -> Candidate:
    """A reject with another attempt stays one when its part is made again: no image comes twice."""
    if reason is None:
        return read_loose(entry)
    problem = {"reason": reason, "detail": "there is another attempt at it in a later shard"}
    return Candidate(entry.key, b"", entry.label, problem=problem)


def _image_row(image_id: int, candidate: Candidate) -> dict[str, Any]:
    in_place = candidate.uri is not None
    return {
        "image_id": image_id,
        "image": None if in_place else candidate.data,
        "uri": candidate.uri,
        "offset": candidate.offset,
        "size": len(candidate.data),
        "key": candidate.key,
        "label": candidate.label,
        "tags": candidate.tags,
    }
