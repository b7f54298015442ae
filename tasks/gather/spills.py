"""Spills: the lessons of a few source shards, handed to those who collect them.

In: a job and the number of a group of source shards. Out: a file with a segment for each bucket of
parts, which is needed until the output is complete.

An image goes through the exchange, or stays where it is until its part is made, whichever costs
less: through the exchange, its bytes are written and read once or twice more; where it is, it costs
a request by itself. Of the images that go, no more than a round is in memory.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.store import Address, open_store
from tasks import contract, tables
from tasks.contract import Output, PartId, Receipt, Stopwatch
from tasks.gather.exchange import write_segments
from tasks.gather.job import GatherJob
from tasks.gather.lesson_rows import LessonRows
from tasks.gather.plan import SPILLS, Plan, read_plan
from tasks.gather.soft_labels import read_soft_labels
from tasks.gather.taken import read_taken
from tasks.pieces import pieces
from tasks.shard import PLACES, has_pages, locate_images, read_places

NUM_IMAGES = "images"
ROUND_IMAGES = 1_000_000
# A request of 30 ms takes as long as to write and to read so many bytes, at 90 MB/s a connection.
STAYING_BYTES = 1 << 20
LOCATING_THREADS = 8

# A lesson has its image, or the place of it.
PLACE_COLUMNS = [name for name in PLACES.names if name not in ("image_id", "size")]
SPILL = pa.schema(
    [
        pa.field("order", pa.uint64(), nullable=False),
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("labels", pa.list_(pa.int32()), nullable=False),
        pa.field("weights", pa.list_(pa.float32()), nullable=False),
        pa.field("image", pa.binary()),
        *(PLACES.field(name).with_nullable(True) for name in PLACE_COLUMNS),
    ]
)


def spill_name(number: int) -> str:
    """The name of a spill."""
    return f"{SPILLS}/spill-{number:06d}"


def write_spill(job: GatherJob, part: PartId) -> Receipt:
    """Make one spill."""
    watch, plan, name = Stopwatch(), read_plan(job.uri), spill_name(part.number)
    lessons = read_taken(job, plan, part.number)
    ids = np.unique(lessons.image_ids)
    segments = _segments(job, plan, lessons, _locate(job, ids), watch)
    receipt = write_segments(open_store(job.uri), name, segments, {NUM_IMAGES: str(len(ids))})
    watch.lap("write")
    return contract.timed(receipt, watch)


def split_by(numbers_N: npt.NDArray[np.int64]) -> Iterator[tuple[int, npt.NDArray[np.intp]]]:
    """Each number that is there, and its places."""
    order = np.argsort(numbers_N, kind="stable")
    found, firsts = np.unique(numbers_N[order], return_index=True)
    yield from zip(found.tolist(), np.split(order, firsts[1:]), strict=True)


def images_stay(places: pa.Table) -> bool:
    """Whether these images are read where they are when their parts are made.

    Those of a page never are, for the whole page would be read for each.
    """
    if has_pages(places):
        return False
    uris = places["uri"].unique().to_pylist()
    mean_bytes = places["size"].to_numpy().mean()
    return not any(Address(uri).is_s3 for uri in uris) or bool(mean_bytes >= STAYING_BYTES)


def locating_threads(images: Output) -> int:
    """How many footers are read at the same time: on S3 they wait, and on a disk they do not."""
    return LOCATING_THREADS if Address(images.uri).is_s3 else 1


def _locate(job: GatherJob, ids: npt.NDArray[np.int64]) -> pa.Table:
    """The places of these images, which are sorted."""

    def locate(shard: tuple[int, npt.NDArray[np.int64]]) -> pa.Table:
        return locate_images(job.images, *shard)

    with ThreadPoolExecutor(locating_threads(job.images)) as pool:
        found = list(pool.map(locate, tables.ids_by_shard(ids)))
    return pa.concat_tables([PLACES.empty_table(), *found]).combine_chunks()


def _segments(
    job: GatherJob, plan: Plan, lessons: LessonRows, places: pa.Table, watch: Stopwatch
) -> Iterator[tuple[int, pa.Table]]:
    buckets = plan.bucket_of(plan.part_of(lessons.order))
    table = _lessons_table(job, lessons, places)
    watch.lap("read")
    if not len(table) or images_stay(places):
        empty = pa.nulls(len(table), pa.binary())
        table = table.append_column("image", empty).select(SPILL.names).cast(SPILL)
        for bucket, rows in split_by(buckets):
            yield bucket, table.take(pa.array(rows))
        return
    for rows, images in _rounds(lessons, places, plan.round_bytes):
        watch.lap("read")
        for bucket, chosen in split_by(buckets[rows]):
            of_bucket = [images[place] for place in chosen.tolist()]
            yield bucket, _with_images(table.take(pa.array(rows[chosen])), of_bucket)
        watch.lap("write")


def _lessons_table(job: GatherJob, lessons: LessonRows, places: pa.Table) -> pa.Table:
    """What the lessons are, but for their images, with the places of these."""
    labels, weights = _targets(job, lessons)
    rows = np.searchsorted(places["image_id"].to_numpy(), lessons.image_ids)
    columns = {
        "order": pa.array(lessons.order),
        "image_id": pa.array(lessons.image_ids),
        "labels": labels,
        "weights": weights,
    }
    of_lessons = places.drop_columns(["image_id"]).take(pa.array(rows)).combine_chunks()
    return pa.table({**columns, **dict(zip(of_lessons.column_names, of_lessons.columns))})


def _rounds(
    lessons: LessonRows, places: pa.Table, round_bytes: int
) -> Iterator[tuple[npt.NDArray[np.intp], list[bytes]]]:
    """Rows of lessons and the image of each, no more at a time than have so many bytes."""
    firsts = np.searchsorted(lessons.image_ids, places["image_id"].to_numpy(), side="left")
    counts = np.diff(np.append(firsts, len(lessons)))
    images = zip(firsts.tolist(), counts.tolist(), read_places(places), strict=True)

    def num_bytes(image: tuple[int, int, tuple[int, bytes]]) -> int:
        _, count, (_, data) = image
        return len(data) * count

    for images_of_round in pieces(images, num_bytes, ROUND_IMAGES, round_bytes):
        rows = [np.arange(first, first + count) for first, count, _ in images_of_round]
        data = [data for _, count, (_, data) in images_of_round for _ in range(count)]
        yield np.concatenate(rows), data


def _with_images(table: pa.Table, images: list[bytes]) -> pa.Table:
    """The lessons with their images, which need no place any more."""
    for name in PLACE_COLUMNS:
        empty = pa.nulls(len(table), SPILL.field(name).type)
        table = table.set_column(table.schema.get_field_index(name), name, empty)
    return (
        table.append_column("image", pa.array(images, pa.binary())).select(SPILL.names).cast(SPILL)
    )


def _targets(job: GatherJob, lessons: LessonRows) -> tuple[pa.ListArray, pa.ListArray]:
    """The classes of these lessons, and their weights; soft labels take the place of classes."""
    if job.soft_labels is None:
        labels = lessons.labels
        counts = np.diff(labels.offsets.to_numpy())
        flat_weights = np.repeat(1 / np.maximum(counts, 1), counts)
        return labels, _list_of(labels.offsets, flat_weights, pa.float32())
    ids, rows = np.unique(lessons.image_ids, return_inverse=True)
    soft_labels = list(read_soft_labels(job.soft_labels, ids))
    counts = np.array([len(soft_label.labels_P) for soft_label in soft_labels])
    offsets = pa.array(np.append(0, counts.cumsum()), pa.int32())
    flat_labels = np.concatenate([soft_label.labels_P for soft_label in soft_labels])
    flat_weights = np.concatenate([soft_label.weights_P for soft_label in soft_labels])
    taken = pa.array(rows)
    return (
        _list_of(offsets, flat_labels, pa.int32()).take(taken),
        _list_of(offsets, flat_weights, pa.float32()).take(taken),
    )


def _list_of(offsets: pa.Array, values: npt.NDArray[np.generic], kind: pa.DataType) -> pa.ListArray:
    return pa.ListArray.from_arrays(offsets, pa.array(values, kind))
