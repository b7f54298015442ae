"""Spills: the images of a few source shards, sorted by the lesson parts that they go to.

In: a job and the number of a spill. Out: one file, which is needed until the output is complete.
It is written in rounds that are bounded in bytes; each has a row group for every lesson part, so
that the row groups of part p are p, p + parts, p + 2 parts, and so on.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from infra.store import Store, open_store
from tasks import contract
from tasks.contract import PartDraft, PartId, Receipt, RowCounts, Stopwatch
from tasks.gather.job import GatherJob, Plan
from tasks.gather.plan import Lessons
from tasks.gather.soft_labels import SoftLabel, read_soft_labels
from tasks.pieces import pieces
from tasks.shard import read_many
from tasks.tables import ROW_BITS, Layout

SHARDS_PER_SPILL = 16
ROUND_BYTES = 128 << 20  # of images in memory, before they are written
ROUND_IMAGES = 1_000_000
SPILLS = "spills"

SPILL = pa.schema(
    [
        pa.field("order", pa.uint64(), nullable=False),
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("labels", pa.list_(pa.int32()), nullable=False),
        pa.field("weights", pa.list_(pa.float32()), nullable=False),
    ]
)


@dataclass(frozen=True)
class _Image:
    """An image and the rows of its lessons; a soft label takes the place of their classes."""

    data: bytes
    rows: range
    soft_label: SoftLabel | None


def count_spills(job: GatherJob) -> int:
    """How many spills there are."""
    return -(-len(job.plan.shards) // SHARDS_PER_SPILL)


def spill_name(number: int) -> str:
    """The name of a spill."""
    return f"{SPILLS}/spill-{number:05d}.parquet"


def write_spill(job: GatherJob, part: PartId) -> Receipt:
    """Make one spill."""
    watch, plan = Stopwatch(), job.plan
    # Encoded images do not shrink.
    with PartDraft(open_store(job.uri), spill_name(part.number), SPILL, Layout("none")) as draft:
        images = _read_images(job, part.number)
        for images_of_round in pieces(images, _num_bytes, ROUND_IMAGES, ROUND_BYTES):
            watch.lap("read")
            for table in _tables(plan, images_of_round):
                draft.add(table)
            watch.lap("write")
        receipt = draft.publish(RowCounts(draft.num_rows, draft.num_rows, 0))
    return contract.timed(receipt, watch)


def _read_images(job: GatherJob, number: int) -> Iterator[_Image]:
    shards = job.plan.shards[number * SHARDS_PER_SPILL : (number + 1) * SHARDS_PER_SPILL]
    all_ids = job.plan.lessons.image_ids
    first, last = np.searchsorted(all_ids, [shards[0] << ROW_BITS, (shards[-1] + 1) << ROW_BITS])
    soft_labels: Iterator[SoftLabel | None] = itertools.repeat(None)
    if job.soft_labels is not None:
        soft_labels = read_soft_labels(job.soft_labels, all_ids[first:last])
    for image_id, data in read_many(job.images, all_ids[first:last]):
        rows = range(*np.searchsorted(all_ids, [image_id, image_id + 1]).tolist())
        yield _Image(data, rows, next(soft_labels))


def _num_bytes(image: _Image) -> int:
    soft_label = image.soft_label
    label_bytes = soft_label.labels_P.nbytes + soft_label.weights_P.nbytes if soft_label else 0
    return (len(image.data) + label_bytes) * len(image.rows)


def _tables(plan: Plan, images: Sequence[_Image]) -> Iterator[pa.Table]:
    """The lessons of these images, a table for each lesson part."""
    of_rows = [image for image in images for _ in image.rows]
    rows = np.array([row for image in images for row in image.rows])
    by_part = np.argsort(plan.part_of[rows], kind="stable")
    ends = np.searchsorted(plan.part_of[rows][by_part], np.arange(plan.num_parts), side="right")
    for places in np.split(by_part, ends[:-1]):
        yield _table(plan.lessons, rows[places], [of_rows[place] for place in places.tolist()])


def _table(lessons: Lessons, rows: npt.NDArray[np.intp], images: Sequence[_Image]) -> pa.Table:
    labels, weights = _targets(lessons, rows, images)
    columns = [
        pa.array(lessons.order[rows]),
        pa.array(lessons.image_ids[rows]),
        pa.array([image.data for image in images], pa.binary()),
        labels,
        weights,
    ]
    return pa.Table.from_arrays(columns, schema=SPILL)


def _targets(
    lessons: Lessons, rows: npt.NDArray[np.intp], images: Sequence[_Image]
) -> tuple[pa.ListArray, pa.ListArray]:
    """The classes of these lessons, and their weights."""
    soft_labels = [image.soft_label for image in images if image.soft_label is not None]
    if soft_labels:
        counts = np.array([len(soft_label.labels_P) for soft_label in soft_labels])
        offsets = pa.array(np.append(0, counts.cumsum()), pa.int32())
        flat = np.concatenate([soft_label.labels_P for soft_label in soft_labels])
        labels = pa.ListArray.from_arrays(offsets, pa.array(flat, pa.int32()))
        flat_weights = np.concatenate([soft_label.weights_P for soft_label in soft_labels])
    else:
        labels = lessons.labels.take(pa.array(rows, pa.int64()))
        counts = np.diff(labels.offsets.to_numpy())
        flat_weights = np.repeat(1 / np.maximum(counts, 1), counts)
    weights = pa.ListArray.from_arrays(labels.offsets, pa.array(flat_weights, pa.float32()))
    return labels, weights


def read_spill(store: Store, number: int, part: int, num_parts: int) -> Iterator[pa.Table]:
    """The lessons that a spill has for a part."""
    with store.open(spill_name(number)) as file:
        parquet = pq.ParquetFile(file, pre_buffer=True)
        for group in range(part, parquet.num_row_groups, num_parts):
            yield parquet.read_row_group(group).replace_schema_metadata(None)
