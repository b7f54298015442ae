"""score: the teacher ranks the classes of every image of every shard.

In: `images` shards and a teacher. Out: `scores`, a part for each shard: the P best classes of each
image with their log-odds in float32, best first, and its signature. Images that cannot be decoded,
or whose logits are not finite, become rejects.

    scores = score(root, images, teacher, ScoreOptions(top_p=10))
"""

import functools
from dataclasses import dataclass

import numpy as np

from infra.errors import ProtegeError
from infra.executors import Executor, Inline
from infra.store import Store
from tasks import contract, tables
from tasks.contract import (
    OnProgress,
    Output,
    PartId,
    PartWriter,
    Receipt,
    Target,
    map_images,
    silent,
)
from tasks.duplicates.matching import DUPLICATES_VERSION
from tasks.images import IMAGES_VERSION, Inputs, Limits, Pixels, decode
from tasks.score.options import ScoreOptions
from tasks.score.table import ShardScores, scores_table
from tasks.shard import read_images, read_shard, reject_images

STAGE = "score"
VERSION = 5

__all__ = ["STAGE", "ScoreOptions", "score", "scores_table"]


def score(
    root: Store,
    images: Output,
    teacher: Output,
    options: ScoreOptions = ScoreOptions(),
    *,
    executor: Executor = Inline(),
    on_progress: OnProgress = silent,
) -> Output:
    """Score the shards that have no part yet. Raises ProtegeError when too many are rejected."""
    classes = teacher.classes
    if len(classes) > np.iinfo(np.uint16).max:
        raise ProtegeError(f"{len(classes)} classes; at most 65,535 can be scored")
    target = Target(
        root,
        STAGE,
        VERSION,
        options,
        inputs={"images": images, "teacher": teacher},
        identities={"images": images.fingerprint, "teacher": teacher.weights},
        content={"images_version": IMAGES_VERSION, "duplicates_version": DUPLICATES_VERSION},
    )
    make_part = functools.partial(score_shard, ScoreJob(target.uri, options, images, teacher))
    extra = {"classes": classes, "top_p": min(options.top_p, len(classes))}
    output = map_images(target, images, make_part, executor, on_progress, extra)
    contract.check_reject_share(output, options.max_reject_percent, "the pile")
    return output


@dataclass(frozen=True)
class ScoreJob:
    """What every worker of this stage is given."""

    uri: str
    options: ScoreOptions
    images: Output
    teacher: Output


def score_shard(job: ScoreJob, part: PartId) -> Receipt:
    """Make the part of one shard: the P best classes of every image."""
    # Imported here: it loads torch, which a run that finds everything done does not need.
    from tasks.inference.device_facts import device_facts
    from tasks.inference.model import load_model

    writer = PartWriter(job.uri, part)
    teacher, options = load_model(job.teacher), job.options
    writer.lap("load model")
    rows = read_shard(job.images, part.number, ["key", "tags"])
    writer.lap("read")
    classes = job.teacher.classes
    scores = ShardScores(rows, classes, min(options.top_p, len(classes)))
    for batch in teacher.run(
        enumerate(data for _, data in read_images(job.images, part.number)),
        functools.partial(_decode, scores=scores, inputs=teacher.description.inputs),
        batch_size=options.batch_size,
        precision=options.precision,
        decode_threads=options.speed.decode_threads,
        lap=writer.lap,
    ):
        scores.add_batch(batch)
    reject_images(writer, rows, scores.problems)
    layout, facts = tables.scores_layout(scores.top_p), device_facts(teacher.device)
    return writer.write(scores.table(), facts=facts, layout=layout)


def _decode(numbered: tuple[int, bytes], scores: ShardScores, inputs: Inputs) -> Pixels:
    """The network's input of an image with its row; the signature is made from the same pixels."""
    row, data = numbered
    pixels_HWC = decode(data, Limits())
    scores.add_image(row, pixels_HWC)
    return inputs.square(pixels_HWC)
