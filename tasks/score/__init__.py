"""score: the teacher ranks the classes of every image of every shard.

In: `images` shards and a teacher. Out: `scores`, a part for each shard: the P best classes of each
image with their log-odds in float32, best first, its signature and, by an option, its embedding.
Images that cannot be decoded, or whose logits are not finite, become rejects.

    scores = score(root, images, teacher, ScoreOptions(top_p=10))
"""

import functools
from typing import Any

import numpy as np

from infra.errors import ProtegeError
from infra.executors import Executor, Inline
from infra.store import Store
from tasks import contract
from tasks.contract import OnProgress, Output, Target, map_images, silent
from tasks.duplicates.matching import DUPLICATES_VERSION
from tasks.images import IMAGES_VERSION
from tasks.score.options import ScoreOptions
from tasks.score.stream import ScoreJob, score_parts
from tasks.score.table import scores_table

STAGE = "score"
VERSION = 5
FLOAT16_BYTES = 2

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
    extra: dict[str, Any] = {"classes": classes, "top_p": min(options.top_p, len(classes))}
    if options.embeddings:
        extra["embedding_bytes"] = _embedding_bytes(teacher)
    job = ScoreJob(target.uri, options, images, teacher, extra.get("embedding_bytes", 0))
    make = functools.partial(score_parts, job)
    output = map_images(target, images, make, executor.on_gpus(), on_progress, extra)
    contract.check_reject_share(output, options.max_reject_percent, "the pile")
    return output


def _embedding_bytes(teacher: Output) -> int:
    # Imported here: only who wants embeddings waits for torch.
    from tasks.inference.model import load_model

    return FLOAT16_BYTES * load_model(teacher).num_features
