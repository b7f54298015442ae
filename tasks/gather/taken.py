"""Taken: which images are taken and what they teach, for a task that reads a few source shards.

In: a choice, tags, labelled images, or images that nobody has labelled. Out: how many lessons each
source shard has, and the lessons of a group of shards. A choice is sorted by class, and a share of
labelled images is drawn over all of them, so their rows are brought into the order of the shards
first: into a segment for each group, a bounded number of rows at a time.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import ProtegeError
from infra.store import Store, open_store
from tasks import contract, tables, tags
from tasks.contract import Output, part_name, part_number
from tasks.gather.exchange import index_name, read_segments, write_segments
from tasks.gather.job import GatherJob
from tasks.gather.lesson_rows import LessonRows, lesson_rows, unlabelled_rows
from tasks.gather.plan import SPILLS, Plan
from tasks.gather.subset import read_subset
from tasks.shard import read_shard
from tasks.tables import ROW_BITS

TAKEN = f"{SPILLS}/taken"
COLUMNS = ("image_id", "label", "repeats")
ROUND_ROWS = 4_000_000  # some 200 MB while they are sorted


def count_lessons(job: GatherJob) -> dict[int, int]:
    """How many lessons each source shard has, at most, of those that have any.

    Raises ProtegeError when there are none, or for a choice out of more images than there are.
    """
    counts = _counts_of_parts(job) if _is_by_shard(job) else _counts_of_rows(_rows(job))
    found = {shard: count for shard, count in counts.items() if count}
    if job.chosen is not None:
        _check_any(job.chosen, found)
        _check_shards(job.chosen, job.images, found)
    return found


def write_taken(store: Store, job: GatherJob, plan: Plan) -> None:
    """Bring the rows of all groups into their order, unless that is done or they are in it."""
    if not _is_by_shard(job) and not store.exists(index_name(TAKEN)):
        write_segments(store, TAKEN, _segments(_rows(job), plan))


def read_taken(job: GatherJob, plan: Plan, number: int) -> LessonRows:
    """The lessons of a group of source shards."""
    shards = plan.groups[number]
    if job.chosen is None and not job.classes:
        ids = [read_shard(job.images, shard, [])["image_id"].to_numpy() for shard in shards]
        return unlabelled_rows(np.concatenate(ids), job.options)
    if _is_by_shard(job):
        assert job.chosen is not None, "they are tags"
        store, schema = job.chosen.store, tables.TAG_LABELS
        found = [contract.read_part(store, part_name(shard), schema, COLUMNS) for shard in shards]
    else:
        found = list(read_segments(open_store(job.uri), TAKEN, number))
    return lesson_rows(_joined(found), job.options)


def _is_by_shard(job: GatherJob) -> bool:
    """Whether what is taken of a source shard is known from that shard alone."""
    if job.chosen is not None:
        return job.chosen.stage == tags.STAGE
    return not job.classes


def _counts_of_parts(job: GatherJob) -> dict[int, int]:
    if job.chosen is None:
        return {part_number(part["name"]): part["kept"] for part in job.images.body["parts"]}
    parts = [part for part in job.chosen.body["parts"] if tags.LESSONS in part["facts"]]
    return {part_number(part["name"]): int(part["facts"][tags.LESSONS]) for part in parts}


def _counts_of_rows(rows: Iterable[pa.Table]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for table in rows:
        shards, places = np.unique(_shards_of(table), return_inverse=True)
        times = np.bincount(places, weights=table["repeats"].to_numpy())
        counts.update(dict(zip(shards.tolist(), times.astype(np.int64).tolist(), strict=True)))
    return counts


def _rows(job: GatherJob) -> Iterator[pa.Table]:
    if job.chosen is None:
        yield read_labels(job)
        return
    kept = [label for label, name in enumerate(job.classes) if name not in job.dropped_classes]
    for name in contract.part_names(job.chosen):
        if not name.startswith("part-"):
            continue
        for table in contract.read_pieces(job.chosen.store, name, tables.CHOSEN, COLUMNS):
            is_kept = pc.is_in(table["label"], pa.array(kept, pa.int32()))
            yield table.filter(is_kept) if job.dropped_classes else table


def read_labels(job: GatherJob) -> pa.Table:
    """The labelled images that are taken.

    Raises ProtegeError for an image without a class, or with one that is none of `classes`.
    """
    table = read_subset(job.images, job.options, job.share)
    class_indices = {name: index for index, name in enumerate(job.classes)}
    names = table["label"].unique().to_pylist()
    if None in names:
        raise ProtegeError(
            f"{job.images.uri} has an image without a class: put every image into a folder named "
            "after its class, or give a list with a column 'label'"
        )
    unknown = sorted(set(names) - set(class_indices))
    if unknown:
        raise ProtegeError(f"{job.images.uri}: {unknown[0]!r} is none of the classes")
    labels = [class_indices[name] for name in table["label"].to_pylist()]
    return pa.table(
        {
            "image_id": table["image_id"],
            "label": pa.array(labels, pa.int32()),
            "repeats": pa.array(np.ones(len(labels), np.int32)),
        }
    )


def _segments(rows: Iterable[pa.Table], plan: Plan) -> Iterator[tuple[int, pa.Table]]:
    firsts = np.array([group[0] for group in plan.groups])
    for table in _rounds(rows):
        groups = np.searchsorted(firsts, _shards_of(table), side="right") - 1
        order = np.argsort(groups, kind="stable")
        ends = np.searchsorted(groups[order], np.arange(len(firsts)), side="right")
        for group, places in enumerate(np.split(order, ends[:-1])):
            if len(places):
                yield group, table.take(pa.array(places))


def _rounds(rows: Iterable[pa.Table]) -> Iterator[pa.Table]:
    found: list[pa.Table] = []
    for table in rows:
        found.append(table)
        if sum(map(len, found)) >= ROUND_ROWS:
            yield _joined(found)
            found = []
    if found:
        yield _joined(found)


def _joined(found: Sequence[pa.Table]) -> pa.Table:
    plain = [table.select(COLUMNS).replace_schema_metadata(None) for table in found]
    return pa.concat_tables(plain).combine_chunks()


def _shards_of(table: pa.Table) -> npt.NDArray[np.int64]:
    shards: npt.NDArray[np.int64] = table["image_id"].to_numpy() >> ROW_BITS
    return shards


def _check_any(chosen: Output, counts: dict[int, int]) -> None:
    if not counts:
        raise ProtegeError(
            f"no image of {chosen.uri} is left to learn from: choose more images of each class, "
            "ask less of their precision, or train a better teacher"
        )


def _check_shards(chosen: Output, images: Output, counts: dict[int, int]) -> None:
    """Raise ProtegeError for a choice out of more images, as of a pile that has grown."""
    missing = counts.keys() - {part_number(part["name"]) for part in images.body["parts"]}
    if missing:
        raise ProtegeError(
            f"{chosen.uri} has images of shard {min(missing)}, which {images.uri} has not: take "
            "the images that it was made from"
        )
