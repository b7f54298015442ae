"""Ranges: candidates in their order, a few classes at a time, so that threads can share them out.

In: pieces of candidates. Out: ranges of classes, and of each range the best candidates, sorted.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from tasks.topk.candidates import Candidates, Counts, Job, joined, nothing, places_of
from tasks.topk.order import best, ranked

ROWS_AT_ONCE = 1_000_000
FEW_MORE = 2  # times as many as are wanted are sorted faster than the best are found first


def counted(pieces: Sequence[Candidates], num_classes: int) -> Counts:
    """How many candidates there are of each class."""
    counts_C = np.zeros(num_classes, np.int64)
    for piece in pieces:
        counts_C += np.diff(piece.bounds(num_classes))
    return counts_C


def ranges(counts_C: Counts) -> list[range]:
    """The classes in groups of so many rows, or of one class that has more."""
    found, first, rows = [], 0, 0
    for label, count in enumerate(counts_C.tolist()):
        if label > first and rows + count > ROWS_AT_ONCE:
            found.append(range(first, label))
            first, rows = label, 0
        rows += count
    return [*found, range(first, len(counts_C))]


def best_first(job: Job, pieces: Sequence[Candidates], classes: range) -> Candidates:
    """As many of each class as are wanted, or all where classes compete; the best first."""
    some = joined([_of_classes(piece, classes) for piece in pieces] or [nothing()])
    values_N, orders = job.values(some), [np.zeros(0, np.intp)]
    for label, (first, last) in zip(classes, _bounds(some, classes), strict=True):
        values, ids = values_N[first:last], some.image_ids_N[first:last]
        wanted = len(values) if job.options.together else int(job.wanted_G[label])
        if len(values) > FEW_MORE * wanted:
            rows = best(values, some.labels_N[first:last], ids, wanted)
            order = rows[ranked(values[rows], ids[rows])]
        else:
            order = ranked(values, ids)[:wanted]
        orders.append(order + first)
    return some.take(np.concatenate(orders))


def by_score(some: Candidates, classes: range) -> Candidates:
    """The same, each class by its log-odds."""
    orders = [
        ranked(some.log_odds_N[first:last], some.image_ids_N[first:last]) + first
        for first, last in _bounds(some, classes)
    ]
    return some.take(np.concatenate([np.zeros(0, np.intp), *orders]))


def _of_classes(piece: Candidates, classes: range) -> Candidates:
    first, last = places_of(piece.labels_N, classes)[[0, -1]]
    return piece.between(first, last)


def _bounds(some: Candidates, classes: range) -> Iterator[tuple[int, int]]:
    return itertools.pairwise(places_of(some.labels_N, classes).tolist())
