"""Ranges: candidates in their order, a few classes at a time, so that threads can share them out.

In: pieces of candidates. Out: ranges of classes, and of each range the best candidates, sorted.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tasks.topk.candidates import Candidates, RoundJob, class_offsets, join, no_candidates
from tasks.topk.order import rank_positions, select_best

ROWS_PER_RANGE = 1_000_000
PRESELECT_FACTOR = 2  # times as many as are wanted are sorted faster than the best are found first


def count_per_class(pieces: Sequence[Candidates], num_classes: int) -> npt.NDArray[np.int64]:
    """How many candidates there are of each class."""
    counts_C = np.zeros(num_classes, np.int64)
    for piece in pieces:
        counts_C += np.diff(piece.class_offsets(num_classes))
    return counts_C


def class_ranges(counts_C: npt.NDArray[np.int64]) -> list[range]:
    """The classes in groups of so many rows, or of one class that has more."""
    found, first, rows = [], 0, 0
    for label, count in enumerate(counts_C.tolist()):
        if label > first and rows + count > ROWS_PER_RANGE:
            found.append(range(first, label))
            first, rows = label, 0
        rows += count
    return [*found, range(first, len(counts_C))]


def best_of_classes(job: RoundJob, pieces: Sequence[Candidates], classes: range) -> Candidates:
    """As many of each class as are wanted, or all where classes compete; the best first."""
    some = join([_of_classes(piece, classes) for piece in pieces] or [no_candidates()])
    values_N, orders = job.values(some), [np.zeros(0, np.intp)]
    for label, (first, last) in zip(classes, _bounds(some, classes), strict=True):
        values, ids = values_N[first:last], some.image_ids_N[first:last]
        wanted = len(values) if job.options.across_classes else int(job.quota_G[label])
        if len(values) > PRESELECT_FACTOR * wanted:
            rows = select_best(values, some.labels_N[first:last], ids, wanted)
            order = rows[rank_positions(values[rows], ids[rows])]
        else:
            order = rank_positions(values, ids)[:wanted]
        orders.append(order + first)
    return some.take(np.concatenate(orders))


def sort_by_score(some: Candidates, classes: range) -> Candidates:
    """The same, each class by its log-odds."""
    orders = [
        rank_positions(some.log_odds_N[first:last], some.image_ids_N[first:last]) + first
        for first, last in _bounds(some, classes)
    ]
    return some.take(np.concatenate([np.zeros(0, np.intp), *orders]))


def _of_classes(piece: Candidates, classes: range) -> Candidates:
    first, last = class_offsets(piece.labels_N, classes)[[0, -1]]
    return piece.between(first, last)


def _bounds(some: Candidates, classes: range) -> Iterator[tuple[int, int]]:
    return itertools.pairwise(class_offsets(some.labels_N, classes).tolist())
