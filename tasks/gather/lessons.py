"""Lessons: one part of the shuffled training set.

In: a job and the id of a part. Out: the part, sorted by the hashes of its lessons.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from infra.prefetch import prefetch
from tasks.contract import PartId, PartWriter, Receipt
from tasks.gather.job import GatherJob
from tasks.gather.merges import read_part_segments
from tasks.gather.plan import read_plan
from tasks.gather.spills import SPILL
from tasks.pieces import PIECE_BYTES, pieces
from tasks.shard import IMAGE_BYTES, PLACES, read_located
from tasks.tables import LESSONS, LESSONS_LAYOUT

PIECE_LESSONS = 100_000

# The images of lessons that came through the exchange; None for those that stayed where they were.
Images = Sequence[bytes | None]


def collect_lessons(job: GatherJob, part: PartId) -> Receipt:
    """Make one part."""
    writer, plan = PartWriter(job.uri, part), read_plan(job.uri)
    images: list[bytes | None] = []
    others = [SPILL.empty_table().drop_columns(["image"])]
    for table in read_part_segments(writer.store, plan, part.number):
        images += table["image"].to_pylist()
        # More than 2 GiB of images do not fit into one column, and are not sorted as one.
        others.append(table.drop_columns(["image"]))
    rows = pa.concat_tables(others).combine_chunks()
    writer.lap("read")
    order = np.lexsort((rows["image_id"].to_numpy(), rows["order"].to_numpy()))
    sizes = rows["size"].to_numpy()
    found = (
        _lessons(rows.take(pa.array(piece)), [images[row] for row in piece])
        for piece in pieces(order.tolist(), sizes.__getitem__, PIECE_LESSONS, PIECE_BYTES)
    )
    with writer.draft(LESSONS, LESSONS_LAYOUT) as draft:
        for table in prefetch(found, ahead=1):
            draft.add(table)
        return writer.publish(draft, {IMAGE_BYTES: str(sizes.sum())})


def _lessons(rows: pa.Table, images: Images) -> pa.Table:
    """These lessons with their images."""
    stayed = rows["uri"].is_valid()
    found = iter(read_located(rows.select(PLACES.names).filter(stayed)))
    whole = [next(found) if image is None else image for image in images]
    encoded = pa.array(whole, pa.binary())
    return rows.append_column("image", encoded).select(LESSONS.names).cast(LESSONS)
