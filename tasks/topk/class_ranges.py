"""Class ranges: candidates in their order, a few classes at a time, so that threads share the work.

In: pieces of candidates. Out: ranges of classes, and for each range its best candidates, sorted.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tasks.topk.candidates import Candidates, class_offsets, join, values_of
from tasks.topk.job import RoundJob
from tasks.topk.order import rank_positions, select_best

ROWS_PER_RANGE = 1_000_000
# Where there are at most so many times the quota, to sort all is faster than to select the best.
SORT_ALL_QUOTAS = 2


def count_per_class(pieces: Sequence[Candidates], num_classes: int) -> npt.NDArray[np.int64]:
    """Number of candidates of each class, shape (C,)."""
    counts_C = np.zeros(num_classes, np.int64)
    for piece in pieces:
        counts_C += np.diff(class_offsets(piece.labels_N, range(num_classes)))
    return counts_C


def split_classes(counts_C: npt.NDArray[np.int64]) -> list[range]:
    """Ranges of classes with at most ROWS_PER_RANGE rows each, or of one class that has more."""
    ranges, first, rows = [], 0, 0
    for label, count in enumerate(counts_C.tolist()):
        if label > first and rows + count > ROWS_PER_RANGE:
            ranges.append(range(first, label))
            first, rows = label, 0
        rows += count
    return [*ranges, range(first, len(counts_C))]


def best_of_classes(job: RoundJob, pieces: Sequence[Candidates], classes: range) -> Candidates:
    """The candidates of these classes, the best first, as many of each class as its quota.

    Where all classes compete with one another, no class has a quota, and all are kept.
    """
    views = []
    for piece in pieces:
        first, last = class_offsets(piece.labels_N, classes)[[0, -1]]
        views.append(piece.view(first, last))
    candidates = join(views)
    values_N, orders = values_of(job, candidates), [np.zeros(0, np.intp)]
    bounds = itertools.pairwise(class_offsets(candidates.labels_N, classes).tolist())
    for label, (first, last) in zip(classes, bounds, strict=True):
        values, ids = values_N[first:last], candidates.image_ids_N[first:last]
        quota = len(values) if job.options.across_classes else int(job.quota_G[label])
        if len(values) > SORT_ALL_QUOTAS * quota:
            best = select_best(values, candidates.labels_N[first:last], ids, quota)
            order = best[rank_positions(values[best], ids[best])]
        else:
            order = rank_positions(values, ids)[:quota]
        orders.append(order + first)
    return candidates.take(np.concatenate(orders))


def sort_by_score(candidates: Candidates, classes: range) -> Candidates:
    """The same candidates, those of each class by their log-odds."""
    orders = [np.zeros(0, np.intp)]
    for first, last in itertools.pairwise(class_offsets(candidates.labels_N, classes).tolist()):
        log_odds, ids = candidates.log_odds_N[first:last], candidates.image_ids_N[first:last]
        orders.append(rank_positions(log_odds, ids) + first)
    return candidates.take(np.concatenate(orders))
