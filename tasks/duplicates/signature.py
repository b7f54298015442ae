"""signature: a hash and a thumbnail of each image, by which near-duplicates of it are found.

In: `images` shards. Out: `signatures`, a part for each shard: a perceptual hash and a thumbnail of
each image. The pile has its own in `scores`, for there each image is decoded anyway.

    exclude = {"test": signature(root, images)}
    chosen = topk(root, scores, TopkOptions(), exclude=exclude)
"""

import functools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from infra.executors import Executor, Inline
from infra.store import Store
from tasks import tables
from tasks.contract import (
    OneByOne,
    OnProgress,
    Output,
    PartId,
    PartWriter,
    Receipt,
    Target,
    map_images,
    silent,
)
from tasks.duplicates.matching import DUPLICATES_VERSION, THUMBNAIL_BYTES, signature_of
from tasks.images import IMAGES_VERSION, Limits, Unusable, decode
from tasks.shard import read_images, read_shard, reject_images

STAGE = "signature"
VERSION = 2


def signature(
    root: Store,
    images: Output,
    *,
    executor: Executor = Inline(),
    on_progress: OnProgress = silent,
) -> Output:
    """Make the signatures of the shards that have no part yet. Raises ProtegeError, Failures."""
    target = Target(
        root,
        STAGE,
        VERSION,
        inputs={"images": images},
        identities={"images": images.fingerprint},
        content={"images_version": IMAGES_VERSION, "duplicates_version": DUPLICATES_VERSION},
    )
    make_part = functools.partial(sign_shard, SignatureJob(target.uri, images))
    make = OneByOne(make_part, f"{STAGE} shard")
    return map_images(target, images, make, executor, on_progress)


@dataclass(frozen=True)
class SignatureJob:
    """What every worker of this stage is given."""

    uri: str
    images: Output


def sign_shard(job: SignatureJob, part: PartId) -> Receipt:
    """Make the part of one shard: the signature of every image."""
    writer = PartWriter(job.uri, part)
    rows = read_shard(job.images, part.number, ["key"])
    writer.lap("read")
    signatures: dict[int, tuple[int, bytes]] = {}
    problems: dict[int, Unusable] = {}
    for row, (_, data) in enumerate(read_images(job.images, part.number)):
        try:
            signatures[row] = signature_of(decode(data, Limits()))
        except Unusable as unusable:
            problems[row] = unusable
    writer.lap("decode")
    reject_images(writer, rows, problems)
    columns = [
        rows["image_id"].take(pa.array(signatures, pa.int64())).combine_chunks(),
        pa.array(np.array([phash for phash, _ in signatures.values()], np.uint64)),
        pa.array([pixels for _, pixels in signatures.values()], pa.binary(THUMBNAIL_BYTES)),
    ]
    table = pa.Table.from_arrays(columns, schema=tables.SIGNATURES)
    return writer.write(table, layout=tables.SIGNATURES_LAYOUT)
