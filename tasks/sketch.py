"""sketch: what copies of the labelled and of the test images are found by in the pile.

In: `images` shards. Out: `sketches`, a part for each shard: a perceptual hash and a thumbnail of
each image. The pile has its own in `scores`, for there each image is decoded anyway.

    known = {"test": sketch(root, images, executor)}
    chosen = topk(root, TopkOptions(), scores, executor, known=known)
"""

import functools
import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from infra.cluster import Executor
from infra.lease import Lease
from infra.storage import Store, open_store
from tasks import contract, copies, tables
from tasks.contract import Counts, Manifest, OnProgress, Output, Receipt, Stopwatch, silent
from tasks.images import IMAGES_VERSION, Limits, Unusable, decode
from tasks.once import once
from tasks.shard import read_images, reject_rows
from tasks.work import run_shards

STAGE = "sketch"
VERSION = 1


def sketch(
    root: Store, images: Output, executor: Executor, on_progress: OnProgress = silent
) -> Output:
    """Sketch the shards that have no part yet. Raises ProtegeError, Failures."""
    versions = [IMAGES_VERSION, copies.COPIES_VERSION]
    content = {"images": images.fingerprint, "versions": versions}
    fingerprint = contract.fingerprint_of(STAGE, VERSION, content)
    store = open_store(f"{root.uri}/{STAGE}/{fingerprint}")
    # One manifest for each snapshot of the images, side by side over the same parts.
    name = f"manifest-{images.digest}.json"
    make = functools.partial(_make, _Job(store.uri, images), name, executor)
    return once(store, make, on_progress, inputs={"images": images}, name=name)


@dataclass(frozen=True)
class _Job:
    uri: str
    images: Output


def _make(
    job: _Job, name: str, executor: Executor, lease: Lease, on_progress: OnProgress
) -> Output:
    started = time.perf_counter()
    store = open_store(job.uri)
    numbers = [contract.part_number(part) for part in contract.part_names(job.images)]
    parts = run_shards(store, numbers, functools.partial(_sketch_one, job), executor, on_progress)
    manifest = Manifest(
        stage=STAGE,
        fingerprint=store.uri.rsplit("/", 1)[1],
        options={},
        inputs={"images": contract.link(job.images)},
        parts=parts,
        seconds=time.perf_counter() - started,
    )
    lease.check()
    return contract.publish(store, manifest, name)


def _sketch_one(job: _Job, number: int) -> Receipt:
    store, watch = open_store(job.uri), Stopwatch()
    table = read_images(job.images, number, ["key"])
    watch.lap("read")
    found: dict[int, tuple[int, bytes]] = {}
    problems: dict[int, Unusable] = {}
    for row, data in enumerate(table["image"].to_pylist()):
        try:
            found[row] = copies.sketch(decode(data, Limits()))
        except Unusable as unusable:
            problems[row] = unusable
    watch.lap("decode")
    contract.write_rejects(store, number, reject_rows(table, problems), tables.REJECTS)
    columns = [
        table["image_id"].take(pa.array(found, pa.int64())).combine_chunks(),
        pa.array(np.array([phash for phash, _ in found.values()], np.uint64)),
        pa.array([thumbnail for _, thumbnail in found.values()], pa.binary(copies.THUMBNAIL)),
    ]
    receipt = contract.write_part(
        store,
        contract.part_name(number),
        pa.Table.from_arrays(columns, schema=tables.SKETCHES),
        Counts(len(table), len(found), len(problems)),
        layout=tables.SKETCHES_LAYOUT,
    )
    watch.lap("write")
    return contract.timed(receipt, watch)
