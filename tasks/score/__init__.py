"""score: the teacher ranks the classes of every image of every shard.

In: `images` shards and a teacher. Out: `scores`, a part for each shard: the P best classes of each
image with their log-odds in float32, best first, its signature and, by an option, its embedding.
Images that cannot be decoded, or whose logits are not finite, become rejects.

    scores = score(root, images, teacher, ScoreOptions(top_p=10))
    scores = score(root, images, [teacher, second_teacher])         # the mean of their logits
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from infra.errors import ProtegeError
from infra.executors import Executor, Inline
from infra.store import Store
from tasks import contract
from tasks.contract import OnProgress, Output, Target, map_images, silent
from tasks.duplicates.matching import DUPLICATES_VERSION
from tasks.duplicates.views import CROPS_VERSION
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
    teacher: Output | Sequence[Output],
    options: ScoreOptions = ScoreOptions(),
    *,
    executor: Executor = Inline(),
    on_progress: OnProgress = silent,
) -> Output:
    """Score the shards that have no part yet; of several teachers, the logits are averaged.

    Raises ProtegeError when too many images are rejected, or teachers have other classes.
    """
    teachers = (teacher,) if isinstance(teacher, Output) else tuple(teacher)
    if not teachers:
        raise ProtegeError(
            "no teacher was given: score with one, or with several of the same classes"
        )
    first, *others = teachers
    if odd := next((other for other in others if other.classes != first.classes), None):
        raise ProtegeError(f"{odd.uri} has other classes than {first.uri}: score with one of them")
    if len(first.classes) > np.iinfo(np.uint16).max:
        raise ProtegeError(f"{len(first.classes)} classes; at most 65,535 can be scored")
    extra: dict[str, Any] = {
        "classes": first.classes,
        "top_p": min(options.top_p, len(first.classes)),
        "embedding_bytes": _embedding_bytes(first) if options.embeddings else 0,
        "descriptors": options.descriptors,
    }
    target = _target(root, images, teachers, options)
    job = ScoreJob(target.uri, options, images, first, extra["embedding_bytes"], tuple(others))
    make = functools.partial(score_parts, job)
    output = map_images(target, images, make, executor.on_gpus(), on_progress, extra)
    contract.check_reject_share(output, options.max_reject_percent, "the pile")
    return output


def _target(
    root: Store, images: Output, teachers: Sequence[Output], options: ScoreOptions
) -> Target:
    roles = ["teacher", *(f"teacher_{number}" for number in range(2, len(teachers) + 1))]
    by_role = dict(zip(roles, teachers, strict=True))
    weights = {role: output.weights for role, output in by_role.items()}
    return Target(
        root,
        STAGE,
        VERSION,
        options,
        inputs={"images": images, **by_role},
        identities={"images": images.fingerprint, **weights},
        content=_versions(options),
    )


def _versions(options: ScoreOptions) -> dict[str, int]:
    """What else the columns depend on."""
    versions = {"images_version": IMAGES_VERSION, "duplicates_version": DUPLICATES_VERSION}
    if options.descriptors:
        versions["crops_version"] = CROPS_VERSION
    return versions


def _embedding_bytes(teacher: Output) -> int:
    # Imported here: only who wants embeddings waits for torch.
    from tasks.inference.model import load_model

    return FLOAT16_BYTES * load_model(teacher).num_features
