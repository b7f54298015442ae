"""signature: what copies of the labelled and of the test images are found by in the pile.

In: `images` shards. Out: `signatures`, a part for each shard: a perceptual hash and a thumbnail of
each image. The pile has its own in `scores`, for there each image is decoded anyway.

    exclude = {"test": signature(root, images, executor)}
    chosen = topk(root, TopkOptions(), scores, executor, exclude=exclude)
"""

import functools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

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
    over_images,
    silent,
    snapshot_manifest,
)
from tasks.duplicates import matching as copies
from tasks.images import IMAGES_VERSION, Limits, Unusable, decode
from tasks.shard import read_images, reject_rows

STAGE = "signature"
VERSION = 1


def signature(
    root: Store, images: Output, executor: Executor, on_progress: OnProgress = silent
) -> Output:
    """Make the signatures of the shards that have no part yet. Raises ProtegeError, Failures."""
    versions = [IMAGES_VERSION, copies.DUPLICATES_VERSION]
    content = {"images": images.fingerprint, "versions": versions}
    fingerprint = contract.fingerprint_of(STAGE, VERSION, content)
    store = open_store(f"{root.uri}/{STAGE}/{fingerprint}")
    make = functools.partial(_make, _Job(store.uri, images), executor)
    name = snapshot_manifest(images)
    return once(store, make, on_progress, inputs={"images": images}, name=name)


@dataclass(frozen=True)
class _Job:
    uri: str
    images: Output


def _make(job: _Job, executor: Executor, lease: Lease, on_progress: OnProgress) -> Output:
    store = open_store(job.uri)
    fingerprint, inputs = store.uri.rsplit("/", 1)[1], {"images": contract.link(job.images)}
    manifest = Manifest(
        stage=STAGE, fingerprint=fingerprint, options={}, inputs=inputs, parts=[], seconds=0.0
    )
    make = functools.partial(_make_part, job)
    return over_images(job.images, manifest, store, make, executor, lease, on_progress)


def _make_part(job: _Job, number: int) -> Receipt:
    store, watch = open_store(job.uri), Stopwatch()
    table = read_images(job.images, number, ["key"])
    watch.lap("read")
    found: dict[int, tuple[int, bytes]] = {}
    problems: dict[int, Unusable] = {}
    for row, data in enumerate(table["image"].to_pylist()):
        try:
            found[row] = copies.signature_of(decode(data, Limits()))
        except Unusable as unusable:
            problems[row] = unusable
    watch.lap("decode")
    contract.write_rejects(store, number, reject_rows(table, problems), tables.REJECTS)
    columns = [
        table["image_id"].take(pa.array(found, pa.int64())).combine_chunks(),
        pa.array(np.array([phash for phash, _ in found.values()], np.uint64)),
        pa.array([thumbnail for _, thumbnail in found.values()], pa.binary(copies.THUMBNAIL_BYTES)),
    ]
    receipt = contract.write_part(
        store,
        contract.part_name(number),
        pa.Table.from_arrays(columns, schema=tables.SIGNATURES),
        RowCounts(len(table), len(found), len(problems)),
        layout=tables.SIGNATURES_LAYOUT,
    )
    watch.lap("write")
    return contract.timed(receipt, watch)
