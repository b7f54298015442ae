"""Views of candidates and of known images, as crops.py compares them.

In: `scores` with descriptors. Out: the views of these images, or the known ones of each class.

    identified = read_views(reader, [(name, image_ids), ...])
    known = KnownViews.read(scores, classes)
    views = known.of_class(label)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks import contract, tables
from tasks.contract import Output
from tasks.duplicates.views import DESCRIPTOR_NUMBERS, LUMA_PIXELS, Views
from tasks.topk.candidates import class_offsets
from tasks.topk.order import Ids, Labels, Positions
from tasks.topk.reader import Reader, bytes_of

DESCRIPTOR, LUMA = tables.VIEW


@dataclass(frozen=True)
class IdentifiedViews:
    """Views of images, sorted by image_id."""

    image_ids_N: Ids
    views: Views

    def take(self, rows: Positions) -> "IdentifiedViews":
        """The views at these positions."""
        return IdentifiedViews(self.image_ids_N[rows], self.views.take(rows))


def read_views(reader: Reader, parts: Sequence[tuple[str, Ids]]) -> IdentifiedViews:
    """The views of these images of these parts."""
    store, columns = reader.scores.store, ["image_id", *tables.VIEW]
    pieces = [
        contract.read_part(store, name, reader.schema, columns, only=ids) for name, ids in parts
    ]
    return merge_views(
        [IdentifiedViews(table["image_id"].to_numpy(), views_of(table)) for table in pieces]
    )


def merge_views(pieces: Sequence[IdentifiedViews]) -> IdentifiedViews:
    """All of these views, sorted by image_id."""
    ids_N = np.concatenate([np.zeros(0, np.int64), *(piece.image_ids_N for piece in pieces)])
    views = join_views([piece.views for piece in pieces])
    return IdentifiedViews(ids_N, views).take(np.argsort(ids_N, kind="stable"))


@dataclass(frozen=True)
class KnownViews:
    """Views of known images, and the pairs of these with their P best classes, sorted by class."""

    views: Views
    labels_M: Labels
    rows_M: Positions

    @staticmethod
    def read(scores: Output, labels: Labels) -> "KnownViews":
        """Those that have one of these classes among their P best."""
        extra = scores.body["extra"]
        ranks = [tables.score_columns(rank)[0] for rank in range(extra["top_p"])]
        columns, schema = [*ranks, *tables.VIEW], tables.scores_schema(extra)
        views, labels_of_parts, rows_of_parts, count = [], [], [], 0
        for name in contract.part_names(scores):
            table = contract.read_part(scores.store, name, schema, columns)
            labels_NP = np.stack([table[rank].to_numpy() for rank in ranks], axis=1)
            wanted = np.flatnonzero(np.isin(labels_NP, labels).any(axis=1))
            views.append(views_of(table).take(wanted))
            labels_of_parts.append(labels_NP[wanted].ravel())
            rows_of_parts.append(np.repeat(np.arange(count, count + len(wanted)), len(ranks)))
            count += len(wanted)
        labels_M = np.concatenate([np.zeros(0, np.uint16), *labels_of_parts])
        rows_M = np.concatenate([np.zeros(0, np.intp), *rows_of_parts])
        order = np.argsort(labels_M, kind="stable")
        return KnownViews(join_views(views), labels_M[order], rows_M[order])

    def of_class(self, label: int) -> Views:
        """The views of the images that have this class among their P best."""
        first, last = class_offsets(self.labels_M, range(label, label + 1))
        return self.views.take(self.rows_M[first:last])


def views_of(table: pa.Table) -> Views:
    """The columns of the views."""
    numbers_NF = bytes_of(table, DESCRIPTOR, DESCRIPTOR_NUMBERS).view(np.int8)
    return Views.of(numbers_NF, bytes_of(table, LUMA, LUMA_PIXELS**2))


def join_views(pieces: Sequence[Views]) -> Views:
    """All of these views in one."""
    no_numbers: npt.NDArray[np.int8] = np.zeros((0, DESCRIPTOR_NUMBERS), np.int8)
    empty = Views.of(no_numbers, np.zeros((0, LUMA_PIXELS**2), np.uint8))
    all_pieces = [empty, *pieces]
    return Views(
        np.concatenate([piece.descriptors_NF for piece in all_pieces]),
        np.concatenate([piece.lengths_N for piece in all_pieces]),
        np.concatenate([piece.lumas_NLL for piece in all_pieces]),
    )
