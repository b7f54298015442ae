"""gather: collects images into a training set that is shuffled over everything.

In: `images` shards, and `chosen`; without it, all images, which then must be labelled. Out:
`lessons` parts, in an order shuffled once, by a seed. A source is sorted by class as often as not,
and whoever learns from a part of it at a time would learn one class after the other.

1. `write_spill`, for each group of source shards: reads the images that are taken from them once
   and writes them as one file, with row groups for each lesson part;
2. `collect_lessons`, for each lesson part: takes its row groups out of all spills and sorts them.

    lessons = gather(root, pile, chosen, GatherOptions())
    lessons = gather(root, labelled)

plan.py     which images, what they teach, and their order
options.py  options
job.py      what every worker is given, and into how many parts the lessons are cut
spills.py   the files between the two steps
lessons.py  the parts
"""

import functools
from collections.abc import Sequence

import numpy as np

from infra.errors import ProtegeError
from infra.executors import Executor, Inline
from infra.store import Store
from tasks import contract
from tasks.contract import (
    Made,
    OnProgress,
    Output,
    PartId,
    Session,
    Target,
    make_output,
    part_ids,
    run_shards,
    silent,
)
from tasks.gather.job import GatherJob
from tasks.gather.lessons import collect_lessons
from tasks.gather.options import GatherOptions
from tasks.gather.spills import SPILLS, count_spills, spill_name, write_spill
from tasks.shard import class_names

STAGE = "gather"
VERSION = 3

__all__ = ["STAGE", "GatherOptions", "gather"]


def gather(
    root: Store,
    images: Output,
    chosen: Output | None = None,
    options: GatherOptions = GatherOptions(),
    *,
    classes: Sequence[str] | None = None,
    executor: Executor = Inline(),
    on_progress: OnProgress = silent,
) -> Output:
    """Collect the lessons, or take the output that is there.

    Labelled images have the classes that their labels name, unless `classes` says which, in which
    order; chosen ones have those of the choice. Raises ProtegeError, Failures.
    """
    inputs = {"images": images}
    if chosen is not None:
        _check_same_images(images, chosen)
        inputs["chosen"] = chosen
    names = chosen.classes if chosen is not None else classes or class_names(images)
    content = {"classes": list(names)}
    target = Target(root, STAGE, VERSION, options, inputs, content=content, scratch=SPILLS)
    job = GatherJob(target.uri, options, images, chosen, tuple(names))
    return make_output(target, functools.partial(_make, job, executor), on_progress)


def _check_same_images(images: Output, chosen: Output) -> None:
    """Raise ProtegeError when the chosen ids are those of other images.

    Nothing can be said when the scores were deleted, which are needed no more.
    """
    scores = next((node for node in chosen.lineage() if node.role == "scores"), None)
    if scores is None or scores.manifest is None:
        return
    digests = {part.number: part.made_from for part in part_ids(images)}
    for part in scores.manifest["parts"]:
        number = contract.part_number(part["name"])
        if digests.get(number, part["made_from"]) != part["made_from"]:
            raise ProtegeError(
                f"shard {number} of {images.uri} has other images than those that {chosen.uri} "
                "was chosen from. Score these images, and choose from those scores"
            )


def _make(job: GatherJob, executor: Executor, session: Session) -> Made:
    def keep_lease(_done: int, _total: int, _note: str) -> None:
        session.lease.check()

    spills = map(PartId, range(count_spills(job)))
    spill = functools.partial(write_spill, job)
    run_shards(session.store, spills, spill, executor, keep_lease, spill_name, "spill")
    collect = functools.partial(collect_lessons, job)
    ids = map(PartId, range(job.plan.num_parts))
    parts = run_shards(session.store, ids, collect, executor, session.on_progress)
    extra = {
        "classes": list(job.classes),
        "unique_images": len(np.unique(job.plan.lessons.image_ids)),
        "seed": job.options.seed,
    }
    return Made(parts, extra)
