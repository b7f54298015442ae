"""gather: collects images into a training set that is shuffled over everything.

In: `images` shards, and `chosen`, by scores or by tags; without it, all images, or a share of each
class. Out: `lessons`
parts, in an order shuffled once, by a seed. A source is sorted by class as often as not, and
whoever learns from a part of it at a time would learn one class after the other.

1. `write_spill`, for each group of source shards: reads the images that are taken from them once,
   and writes them as one file with a segment for each lesson part;
2. `collect_lessons`, for each lesson part: takes its segments out of all spills and sorts them.

Where there are more than some hundred parts, segments are of buckets of parts instead, and between
the two steps `write_merge` brings those of a block of spills to their parts. So no step reads or
writes more pieces than about the square root of all, and no task has all lessons in memory.

    lessons = gather(root, pile, chosen, GatherOptions())
    lessons = gather(root, pile, tags, GatherOptions(multi_label="share"))
    lessons = gather(root, labelled)
    lessons = gather(root, labelled, options=GatherOptions(percent_of_class=1))
    lessons = gather(root, pile, classes=[])                        # no classes: to look at only
    lessons = gather(root, pile, chosen, GatherOptions(pseudo_labels="soft"), scores=scores)

plan.py     how many parts, and which source shards are read together
taken.py    which images of these are taken
lesson_rows.py  what they teach, and their order
subset.py   a share of each class, and its table
soft_labels.py  probabilities of classes, out of scores
options.py  options
job.py      what every worker is given
exchange.py files of segments, which are read by their bytes
spills.py   those of the source shards
merges.py   those of blocks of spills, where there are many parts
lessons.py  the parts
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from infra.errors import ProtegeError
from infra.executors import Executor, Inline
from infra.store import Store
from tasks import contract, tags
from tasks.contract import (
    Made,
    OnProgress,
    Output,
    PartId,
    Receipt,
    Session,
    Target,
    make_output,
    part_ids,
    run_shards,
    silent,
)
from tasks.gather.exchange import index_name, read_index_receipt
from tasks.gather.job import GatherJob
from tasks.gather.lessons import collect_lessons
from tasks.gather.merges import count_merges, merge_name, write_merge
from tasks.gather.options import GatherOptions, PseudoLabels
from tasks.gather.plan import SPILLS, make_plan, publish_plan
from tasks.gather.spills import NUM_IMAGES, spill_name, write_spill
from tasks.gather.subset import SUBSET, Share, write_subset
from tasks.gather.taken import count_lessons, write_taken
from tasks.shard import class_names

STAGE = "gather"
VERSION = 6

__all__ = ["STAGE", "SUBSET", "GatherOptions", "PseudoLabels", "Share", "gather"]


def gather(
    root: Store,
    images: Output,
    chosen: Output | None = None,
    options: GatherOptions = GatherOptions(),
    *,
    classes: Sequence[str] | None = None,
    scores: Output | None = None,
    dropped_classes: Sequence[str] = (),
    share: Share | None = None,
    executor: Executor = Inline(),
    on_progress: OnProgress = silent,
) -> Output:
    """Collect the lessons, or take the output that is there.

    Labelled images have the classes that their labels name, unless `classes` says which, in which
    order; with no classes at all, every image is taken and its label is not looked at. Chosen ones
    have the classes of the choice, or, where `options.pseudo_labels` are soft, the probabilities of
    `scores`. Of a choice, images of `dropped_classes` are not taken; of labelled images, only a
    `share`. Raises ProtegeError, Failures.
    """
    inputs = {"images": images}
    soft_labels = None
    if chosen is None:
        # What nobody has pseudo-labelled is the same training set, however others are.
        options = options.model_copy(update={"pseudo_labels": "hard"})
    else:
        _check_same_images(images, chosen)
        inputs["chosen"] = chosen
        if options.pseudo_labels == "soft":
            soft_labels = inputs["soft_labels"] = _soft_labels(chosen, scores)
    names = _class_names(images, chosen, classes)
    content: dict[str, Any] = {"classes": list(names)}
    if dropped_classes:
        content["dropped_classes"] = sorted(dropped_classes)
    if share is not None:
        content["share"] = [share.percent, share.seed]
    target = Target(root, STAGE, VERSION, options, inputs, content=content, scratch=SPILLS)
    job = GatherJob(
        target.uri,
        options,
        images,
        chosen,
        tuple(names),
        soft_labels,
        frozenset(dropped_classes),
        share,
    )
    return make_output(target, functools.partial(_make, job, executor), on_progress)


def _class_names(
    images: Output, chosen: Output | None, classes: Sequence[str] | None
) -> Sequence[str]:
    if chosen is not None:
        return chosen.classes
    return class_names(images) if classes is None else classes


def _soft_labels(chosen: Output, scores: Output | None) -> Output:
    """The scores to learn from. Raises ProtegeError without any, or for those of other classes."""
    if scores is None:
        raise ProtegeError(
            "options.pseudo_labels=soft are the probabilities that the images were scored with: "
            "give the scores, or set pseudo_labels=hard"
        )
    if scores.classes != chosen.classes:
        raise ProtegeError(
            f"{scores.uri} has other classes than {chosen.uri}: score the images with a network of "
            "the same classes"
        )
    return scores


def _check_same_images(images: Output, chosen: Output) -> None:
    """Raise ProtegeError when the chosen ids are those of other images.

    Nothing can be said when the scores were deleted, which are needed no more.
    """
    made: Mapping[str, Any] = chosen.body
    if chosen.stage != tags.STAGE:
        scores = next((node for node in chosen.lineage() if node.role == "scores"), None)
        if scores is None or scores.manifest is None:
            return
        made = scores.manifest
    digests = {part.number: part.made_from for part in part_ids(images)}
    for part in made["parts"]:
        if not part["made_from"]:
            continue  # a table of the whole
        number = contract.part_number(part["name"])
        if digests.get(number, part["made_from"]) != part["made_from"]:
            raise ProtegeError(
                f"shard {number} of {images.uri} has other images than those that {chosen.uri} "
                "was chosen from. Choose from these images"
            )


def _make(job: GatherJob, executor: Executor, session: Session) -> Made:
    plan = make_plan(count_lessons(job), job.images, job.options)
    publish_plan(session.store, plan)
    write_taken(session.store, job, plan)
    spills = _exchange(job, executor, session, len(plan.groups), write_spill, spill_name)
    _exchange(job, executor, session, count_merges(plan), write_merge, merge_name)
    collect = functools.partial(collect_lessons, job)
    ids = map(PartId, range(plan.num_parts))
    parts = run_shards(session.store, ids, collect, executor, session.on_progress)
    if job.chosen is None and job.classes:
        parts = [*parts, *write_subset(session, job.images, job.options, job.share)]
    extra = {
        "classes": list(job.classes),
        "unique_images": sum(int(spill.facts[NUM_IMAGES]) for spill in spills),
        "seed": job.options.seed,
        "dropped_classes": sorted(job.dropped_classes),
    }
    return Made(parts, extra)


def _exchange(
    job: GatherJob,
    executor: Executor,
    session: Session,
    count: int,
    write: Callable[[GatherJob, PartId], Receipt],
    name: Callable[[int], str],
) -> list[Receipt]:
    """Make so many files of segments."""
    return run_shards(
        session.store,
        map(PartId, range(count)),
        functools.partial(write, job),
        executor,
        session.keep_lease,
        functools.partial(_index_of, name),
        "spill",
        read=read_index_receipt,
    )


def _index_of(name: Callable[[int], str], number: int) -> str:
    return index_name(name(number))
