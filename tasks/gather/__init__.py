"""gather: collects images into a training set that is shuffled over everything.

In: `images` shards, and `chosen`; without it, all images, which then must be labelled. Out:
`lessons` parts, in an order shuffled once, by a seed. A source is sorted by class as often as not,
and whoever learns from a part of it at a time would learn one class after the other.

1. `_spill`, one for each group of source shards: reads the images that are taken from them once
   and writes them as one file with a row group for each lesson part;
2. `_collect`, one for each lesson part: takes its row groups out of all spills and sorts them.

    lessons = gather(root, pile, chosen, GatherOptions())
    lessons = gather(root, labelled)

plan.py   which images, what they teach, and their order
"""

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import ProtegeError
from infra.executors import Executor, Inline
from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import (
    Made,
    OnProgress,
    Output,
    PartId,
    PartWriter,
    Receipt,
    Session,
    Stopwatch,
    Target,
    make_output,
    part_ids,
    run_shards,
    silent,
)
from tasks.gather.options import GatherOptions
from tasks.gather.plan import Lessons, plan_lessons, read_labels
from tasks.shard import class_names, read_images
from tasks.topk import read_chosen

STAGE = "gather"
VERSION = 3
SHARDS_PER_SPILL = 16
SPILLS = "spills"  # folder of files that are needed until the output is complete

__all__ = ["STAGE", "GatherOptions", "gather"]

SPILL = pa.schema(
    [
        pa.field("order", pa.uint64(), nullable=False),
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("labels", pa.list_(pa.int32()), nullable=False),
        pa.field("weights", pa.list_(pa.float32()), nullable=False),
    ]
)


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


@dataclass(frozen=True)
class GatherJob:
    """What every worker of this stage is given."""

    uri: str
    options: GatherOptions
    images: Output
    chosen: Output | None
    classes: tuple[str, ...]

    def lessons(self) -> Lessons:
        """The plan, made once in each process."""
        return _plan(self)


def _make(job: GatherJob, executor: Executor, session: Session) -> Made:
    lessons = job.lessons()
    shards = np.unique(lessons.image_ids >> tables.ROW_BITS)
    num_spills = -(-len(shards) // SHARDS_PER_SPILL)
    spill = functools.partial(_spill, job)

    def keep_lease(_done: int, _total: int, _note: str) -> None:
        session.lease.check()

    spills = map(PartId, range(num_spills))
    run_shards(session.store, spills, spill, executor, keep_lease, _spill_name, "spill")
    ids = map(PartId, range(_part_count(lessons, job.options)))
    collect = functools.partial(_collect, job, num_spills)
    parts = run_shards(session.store, ids, collect, executor, session.on_progress)
    extra = {
        "classes": list(job.classes),
        "unique_images": len(np.unique(lessons.image_ids)),
        "seed": job.options.seed,
    }
    return Made(parts, extra)


@functools.lru_cache(maxsize=1)
def _plan(job: GatherJob) -> Lessons:
    if job.chosen is None:
        return plan_lessons(read_labels(job.images, job.classes), job.options)
    return plan_lessons(read_chosen(job.chosen), job.options)


def _part_count(lessons: Lessons, options: GatherOptions) -> int:
    return max(1, -(-len(lessons) // options.lessons_per_part))


def _part_of(lessons: Lessons, parts: int) -> npt.NDArray[np.intp]:
    """The part of each lesson: equal pieces of the order of the hashes."""
    places = np.empty(len(lessons), np.intp)
    places[np.lexsort((lessons.image_ids, lessons.order))] = np.arange(len(lessons))
    return places * parts // len(lessons)


def _spill_name(number: int) -> str:
    return f"{SPILLS}/spill-{number:05d}.parquet"


def _spill(job: GatherJob, part: PartId) -> Receipt:
    watch, number = Stopwatch(), part.number
    lessons = job.lessons()
    parts = _part_count(lessons, job.options)
    part_of = _part_of(lessons, parts)
    shards = np.unique(lessons.image_ids >> tables.ROW_BITS)
    own_shards = shards[number * SHARDS_PER_SPILL : (number + 1) * SHARDS_PER_SPILL]
    rows = np.flatnonzero(np.isin(lessons.image_ids >> tables.ROW_BITS, own_shards))
    images = _read_chosen_images(job.images, own_shards, np.unique(lessons.image_ids[rows]))
    watch.lap("read")
    table = _spill_table(lessons, rows, images)
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, _with_counts(len(rows)), compression="none") as writer:
        for lesson_part in range(parts):
            inside = pa.array(np.flatnonzero(part_of[rows] == lesson_part))
            writer.write_table(table.take(inside).cast(writer.schema), row_group_size=len(rows) + 1)
    open_store(job.uri).replace(_spill_name(number), sink.getvalue())
    watch.lap("write")
    return contract.timed(Receipt(_spill_name(number), len(rows), len(rows), 0, "", {}), watch)


def _with_counts(rows: int) -> pa.Schema:
    footer = {"rows_in": rows, "kept": rows, "rejected": 0, "digest": "", "facts": {}}
    return SPILL.with_metadata({contract.FOOTER: contract.canonical(footer)})


def _read_chosen_images(
    images: Output, shards: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]
) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for shard in shards.tolist():
        table = read_images(images, shard, only=wanted)
        found.update(zip(table["image_id"].to_pylist(), table["image"].to_pylist(), strict=True))
    return found


def _spill_table(
    lessons: Lessons, rows: npt.NDArray[np.intp], images: dict[int, bytes]
) -> pa.Table:
    labels = lessons.labels.take(pa.array(rows))
    counts = np.diff(labels.offsets.to_numpy())
    weights = pa.array(np.repeat(1 / counts, counts), pa.float32())
    columns = [
        pa.array(lessons.order[rows]),
        pa.array(lessons.image_ids[rows]),
        pa.array([images[image_id] for image_id in lessons.image_ids[rows].tolist()], pa.binary()),
        labels,
        pa.ListArray.from_arrays(labels.offsets, weights),
    ]
    return pa.Table.from_arrays(columns, schema=SPILL)


def _collect(job: GatherJob, num_spills: int, part: PartId) -> Receipt:
    writer = PartWriter(job.uri, part)
    pieces = [_row_group(writer.store, spill, part.number) for spill in range(num_spills)]
    writer.lap("read")
    table = pa.concat_tables(pieces).sort_by([("order", "ascending"), ("image_id", "ascending")])
    lessons = table.select(tables.LESSONS.names).cast(tables.LESSONS)
    writer.lap("compute")
    return writer.write(lessons, layout=tables.LESSONS_LAYOUT)


def _row_group(store: Store, spill: int, number: int) -> pa.Table:
    with store.open(_spill_name(spill)) as file:
        table = pq.ParquetFile(file).read_row_group(number)
    return table.replace_schema_metadata(None)
