"""Lessons: one part of the shuffled training set, out of all spills.

In: a job and the id of a part. Out: the part, sorted by the hashes of its lessons.
"""

import numpy as np
import pyarrow as pa

from tasks.contract import PartId, PartWriter, Receipt
from tasks.gather.job import GatherJob
from tasks.gather.spills import count_spills, read_spill
from tasks.pieces import PIECE_BYTES, pieces
from tasks.shard import IMAGE_BYTES
from tasks.tables import LESSONS, LESSONS_LAYOUT

PIECE_LESSONS = 100_000


def collect_lessons(job: GatherJob, part: PartId) -> Receipt:
    """Make one part."""
    writer, num_parts = PartWriter(job.uri, part), job.plan.num_parts
    images: list[bytes] = []
    others: list[pa.Table] = []
    for number in range(count_spills(job)):
        for table in read_spill(writer.store, number, part.number, num_parts):
            images += table["image"].to_pylist()
            # More than 2 GiB of images do not fit into one column, and are not sorted as one.
            others.append(table.drop_columns(["image"]))
    writer.lap("read")
    rows = pa.concat_tables(others)
    order = np.lexsort((rows["image_id"].to_numpy(), rows["order"].to_numpy()))
    with writer.draft(LESSONS, LESSONS_LAYOUT) as draft:
        for piece in pieces(
            order.tolist(), lambda row: len(images[row]), PIECE_LESSONS, PIECE_BYTES
        ):
            table = rows.take(pa.array(piece))
            encoded = pa.array([images[row] for row in piece], pa.binary())
            table = table.append_column("image", encoded).select(LESSONS.names)
            draft.add(table.cast(LESSONS))
        num_bytes = sum(map(len, images))
        return writer.publish(draft, {IMAGE_BYTES: str(num_bytes)})
