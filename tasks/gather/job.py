"""Job: what every worker of the stage is given, and how the lessons are cut into parts.

Parts are equal pieces of the order of the lessons' hashes. Their number is that by which a part has
at most `lessons_per_part` lessons and, by the mean size of the images of each source shard, at most
`mib_per_part` of images.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import ProtegeError
from tasks import tables
from tasks.contract import Output, part_number
from tasks.gather.options import GatherOptions
from tasks.gather.plan import Lessons, plan_lessons, plan_unlabelled, read_labels, read_taken
from tasks.gather.subset import Share
from tasks.shard import IMAGE_BYTES


@dataclass(frozen=True)
class Plan:
    """The lessons without their images, the part of each, and the source shards of all."""

    lessons: Lessons
    part_of: npt.NDArray[np.intp]
    num_parts: int
    shards: npt.NDArray[np.int64]


@dataclass(frozen=True)
class GatherJob:
    """What every worker of this stage is given."""

    uri: str
    options: GatherOptions
    images: Output
    chosen: Output | None
    classes: tuple[str, ...]
    soft_labels: Output | None = None
    """The scores that say how much an image is of each class, instead of the class it is for."""
    dropped_classes: frozenset[str] = frozenset()
    """Classes whose chosen images are not taken."""
    share: Share | None = None
    """A share of the labelled images, for a member of a committee."""

    @property
    def plan(self) -> Plan:
        """The plan, made once in each process."""
        return _plan(self)


@functools.lru_cache(maxsize=1)
def _plan(job: GatherJob) -> Plan:
    lessons = _lessons(job)
    shards = np.unique(lessons.image_ids >> tables.ROW_BITS)
    _check_shards(job, shards)
    num_parts = _count_parts(lessons, job.images, job.options)
    places = np.empty(len(lessons), np.intp)
    places[np.lexsort((lessons.image_ids, lessons.order))] = np.arange(len(lessons))
    part_of = places * num_parts // max(len(lessons), 1)
    return Plan(lessons, part_of, num_parts, shards)


def _lessons(job: GatherJob) -> Lessons:
    if job.chosen is not None:
        taken = read_taken(job.chosen)
        kept = [label for label, name in enumerate(job.classes) if name not in job.dropped_classes]
        if job.dropped_classes:
            taken = taken.filter(pc.is_in(taken["label"], pa.array(kept, pa.int32())))
        if not len(taken):
            raise ProtegeError(
                f"no image of {job.chosen.uri} is left to learn from: choose more images of each "
                "class, ask less of their precision, or train a better teacher"
            )
        return plan_lessons(taken, job.options)
    if not job.classes:
        return plan_unlabelled(job.images, job.options)
    labels = read_labels(job.images, job.classes, job.options, job.share)
    return plan_lessons(labels, job.options)


def _check_shards(job: GatherJob, shards: npt.NDArray[np.int64]) -> None:
    """Raise ProtegeError for a choice out of more images, as of a pile that has grown."""
    known = [part_number(part["name"]) for part in job.images.body["parts"]]
    missing = np.setdiff1d(shards, known)
    if len(missing) and job.chosen is not None:
        raise ProtegeError(
            f"{job.chosen.uri} has images of shard {missing[0]}, which {job.images.uri} has not: "
            "take the images that it was made from"
        )


def _count_parts(lessons: Lessons, images: Output, options: GatherOptions) -> int:
    num_bytes = _estimated_bytes(lessons, images)
    by_number = -(-len(lessons) // options.lessons_per_part)
    by_bytes = -(-num_bytes // (options.mib_per_part << 20))
    return max(1, by_number, min(by_bytes, len(lessons)))


def _estimated_bytes(lessons: Lessons, images: Output) -> int:
    """The bytes of all lessons, if images are taken from a shard whatever their size."""
    shards, counts = np.unique(lessons.image_ids >> tables.ROW_BITS, return_counts=True)
    means = {
        part_number(part["name"]): int(part["facts"][IMAGE_BYTES]) / max(part["kept"], 1)
        for part in images.body["parts"]
    }
    taken = zip(shards.tolist(), counts.tolist(), strict=True)
    total: float = sum(means[shard] * count for shard, count in taken)
    return math.ceil(total)
