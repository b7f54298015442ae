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
import logging
from collections.abc import Mapping
from dataclasses import replace

from infra.errors import ProtegeError
from infra.executors import Executor, Inline
from infra.store import Store
from tasks import contract
from tasks.contract import (
    Made,
    OnProgress,
    Output,
    Session,
    make_output,
    run_shards,
    silent,
)
from tasks.shard.candidates import read_loose
from tasks.shard.classes import class_names, look_alikes, sort_classes
from tasks.shard.many import find_keys, read_key_column, read_keys, read_many
from tasks.shard.options import ShardOptions
from tasks.shard.part import ShardJob, shard_images
from tasks.shard.passed import (
    IMAGE_BYTES,
    PASSED_OVER,
    STRAYS,
    count_strays,
    total_counts,
    tried_rejects,
)
from tasks.shard.pins import (
    STAGE,
    Snapshot,
    images_target,
    pin,
    rechecked_reasons,
    snapshot_parts,
)
from tasks.shard.read import (
    PLACES,
    has_pages,
    locate_images,
    piece_places,
    read_images,
    read_located,
    read_places,
    read_shard,
    reject_images,
)
from tasks.shard.recheck import Recheck, recheck_rejects
from tasks.shard.sources import (
    Row,
    describe_passed_over,
    label_text,
    read_list_rows,
    table_size,
)

logger = logging.getLogger(__name__)


__all__ = [
    "IMAGE_BYTES",
    "PLACES",
    "STAGE",
    "Recheck",
    "Row",
    "ShardOptions",
    "Snapshot",
    "class_names",
    "find_keys",
    "has_pages",
    "label_text",
    "locate_images",
    "look_alikes",
    "piece_places",
    "pin",
    "read_images",
    "read_key_column",
    "read_keys",
    "read_list_rows",
    "read_located",
    "read_loose",
    "read_many",
    "read_places",
    "read_shard",
    "recheck_rejects",
    "reject_images",
    "shard",
    "sort_classes",
    "table_size",
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
        extra = {
            "snapshot": snapshot.digest,
            "increments": list(snapshot.increments),
            **total_counts(session.store, snapshot.increments, parts),
        }
        return Made(parts, extra, rechecked_reasons(session.store, snapshot.increments))

    output = make_output(target, make, on_progress)
    _check_images(output, options, snapshot)
    return output


def _check_images(output: Output, options: ShardOptions, snapshot: Snapshot) -> None:
    """Say what was passed over. Raises ProtegeError when too few of the rest are images."""
    counts = output.body["extra"]
    if not output.rows_in:
        raise _no_images(options, describe_passed_over(counts[PASSED_OVER]))
    _log_passed_over(options.source, counts)
    strays = 0
    if output.rejected > output.rows_in * options.max_reject_percent / 100:
        # The tables of rejects are read only where it matters: there is one for each shard.
        strays = count_strays(output, tried_rejects(output.store, snapshot.increments))
    remedy = f"run `protege rejects --recheck {output.uri}`"
    contract.check_reject_share(
        output, options.max_reject_percent, options.source, remedy, passed_over=strays
    )


def _log_passed_over(source: str, counts: Mapping[str, Mapping[str, int]]) -> None:
    if counts[PASSED_OVER]:
        passed_over = describe_passed_over(counts[PASSED_OVER])
        logger.info("%s: passed over, for they are no images: %s", source, passed_over)
    if counts[STRAYS]:
        strays = describe_passed_over(counts[STRAYS])
        logger.info("%s: opened, and no images either: %s", source, strays)


def _no_images(options: ShardOptions, passed_over: str) -> ProtegeError:
    reason = f"{options.source}: its .tar or .parquet files hold no images"
    if passed_over:
        reason += f" but other files ({passed_over})"
    if options.slice.is_whole:
        return ProtegeError(reason)
    return ProtegeError(
        f"{reason} in {options.slice}. Widen options.from_percent and options.to_percent, or add "
        "images"
    )
