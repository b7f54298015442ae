"""shard: pins any image source as numbered shards.

In: a source (folder, tar, Parquet, list; local or S3). Out: `images` parts, one a shard, a table
of rejects beside those that have some, and a manifest for each snapshot of the source.

A source is pinned by increments: the first listing assigns every file a shard and a row, and later
listings assign only files that are new, to later shards. So a source that grows adds shards and
leaves the others as they are, and an `image_id` is never used twice. A reject that was mended gets
another attempt in the same way, by a place in a later shard.

    images = shard(root, ShardOptions(source="photos/"))
    recheck = recheck_rejects(root, images)
"""

import functools
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from infra.errors import ProtegeError
from infra.executors import Executor, Inline
from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import (
    Made,
    OnProgress,
    Output,
    PartId,
    PartWriter,
    Receipt,
    Session,
    make_output,
    run_shards,
    silent,
)
from tasks.shard.candidates import Candidate, content_hash, problem_of, read_loose, read_members
from tasks.shard.options import ShardOptions
from tasks.shard.pins import (
    STAGE,
    Snapshot,
    images_target,
    pin,
    rechecked_reasons,
    shard_pins,
    snapshot_parts,
)
from tasks.shard.read import class_names, read_images, read_keys, read_many, reject_images
from tasks.shard.recheck import Recheck, recheck_rejects
from tasks.shard.sources import SourceFile

DECODE_THREADS = 2
ROW_GROUP_ROWS = 256  # a reader of one image reads no more than so many
READ_THREADS = 16  # small reads wait for the store, not for the processor
IMAGES_PER_BATCH = 256  # checked at a time; the bytes of those that stay in a tar are then freed

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
    "reject_images",
    "shard",
]


def shard(
    root: Store,
    options: ShardOptions,
    *,
    snapshot: Snapshot | None = None,
    executor: Executor = Inline(),
    on_progress: OnProgress = silent,
) -> Output:
    """Make the `images` parts that are missing for a snapshot of the source (default: of now).

    Raises ProtegeError when the source is empty, or too many images cannot be used.
    """
    snapshot = snapshot or pin(root, options)
    target = replace(images_target(root, options), manifest=snapshot.manifest)
    job = ShardJob(target.uri, options, snapshot)

    def make(session: Session) -> Made:
        ids = snapshot_parts(session.store, snapshot)
        make_part = functools.partial(shard_images, job)
        parts = run_shards(session.store, ids, make_part, executor, session.on_progress)
        extra = {"snapshot": snapshot.digest, "increments": list(snapshot.increments)}
        return Made(parts, extra, rechecked_reasons(session.store, snapshot.increments))

    output = make_output(target, make, on_progress)
    if not output.rows_in:
        raise _no_images(options)
    remedy = f"run `protege rejects --recheck {output.uri}`"
    contract.check_reject_share(output, options.max_reject_percent, options.source, remedy)
    return output


def _no_images(options: ShardOptions) -> ProtegeError:
    reason = f"{options.source}: its .tar or .parquet files hold no images"
    if options.slice.is_whole:
        return ProtegeError(reason)
    return ProtegeError(
        f"{reason} in {options.slice}. Widen from_percent and to_percent, or add images"
    )


@dataclass(frozen=True)
class ShardJob:
    """What every worker of this stage is given."""

    uri: str
    options: ShardOptions
    snapshot: Snapshot


def shard_images(job: ShardJob, part: PartId) -> Receipt:
    """Make the part of one shard: the images that can be used, and the rejects."""
    writer, rows = PartWriter(job.uri, part), []
    ids = itertools.count(tables.image_id(part.number, 0))
    candidates = _candidates(job, part.number)
    check = functools.partial(problem_of, options=job.options)
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        while batch := list(itertools.islice(candidates, IMAGES_PER_BATCH)):
            writer.lap("read")
            for candidate, problem in zip(batch, pool.map(check, batch)):
                image_id = next(ids)
                if problem is None:
                    rows.append(_image_row(image_id, candidate))
                else:
                    writer.reject(image_id, candidate.key, problem["reason"], problem["detail"])
            writer.lap("decode")
    table = pa.Table.from_pylist(rows, schema=tables.IMAGES)
    # Encoded images do not shrink, and readers should not pay for trying.
    return writer.write(table, layout=tables.IMAGES_LAYOUT, row_group_rows=ROW_GROUP_ROWS)


def _candidates(job: ShardJob, number: int) -> Iterator[Candidate]:
    files, rechecked = shard_pins(open_store(job.uri), number)
    if files[0].is_container:
        yield from read_members(files[0], job.options, job.uri)
        return
    reasons = (rechecked.get(row) for row in range(len(files)))
    with ThreadPoolExecutor(READ_THREADS) as pool:
        yield from pool.map(_read_or_pass, files, reasons)


def _read_or_pass(file: SourceFile, reason: str | None) -> Candidate:
    """A reject with another attempt stays one when its part is made again: no image comes twice."""
    if reason is None:
        return read_loose(file)
    problem = {"reason": reason, "detail": "there is another attempt at it in a later shard"}
    return Candidate(file.key, b"", file.label, problem=problem)


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
        "content": content_hash(candidate.data),
    }
