"""Choose: the last step, from the candidates that are left to the table of those that are chosen.

In: candidates, at least as many of each group as are wanted, or all that there are. Out: parts of
`chosen`, each with some classes, and what is known of each class. Where floors were too high, out
comes which classes are short instead, and they are looked for again.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.devices import core_count
from infra.storage import Store, open_store
from tasks import contract, tables
from tasks.contract import Receipt
from tasks.topk.candidates import Candidates, Counts, Found, Job, Seen, joined, prune
from tasks.topk.order import Positions, best, ranked

ROWS_PER_PART = 1_000_000
FEW_MORE = 2  # times as many as are wanted are sorted faster than the best are found first


@dataclass(frozen=True)
class PerClass:
    """What is known of the chosen of each class; `last_C` are the log-odds of the last of them."""

    kept_C: Counts
    last_C: npt.NDArray[np.float32]
    ties_C: Counts


@dataclass(frozen=True)
class Choice:
    """The parts of `chosen`; none if `short_C` must be looked for again or a class has nothing."""

    parts: Sequence[Receipt]
    classes: Sequence[PerClass]
    seen: Seen
    short_C: npt.NDArray[np.bool_]


def choose(job: Job, uri: str, found: Found) -> Choice:
    """Rank the candidates class by class, and write those that are chosen."""
    pieces = list(found.pieces)
    if job.options.together and pieces:
        pieces = [prune(job, joined(pieces))]
    held_C = np.zeros(job.num_classes, np.int64)
    for piece in pieces:
        held_C += np.diff(piece.bounds(job.num_classes))
    short_C = _short(job, held_C, found.seen.candidates_C)
    lacking = not job.options.together and not found.seen.candidates_C.all()
    if short_C.any() or lacking:
        return Choice([], [], found.seen, short_C)
    kept_C = held_C if job.options.together else np.minimum(held_C, job.wanted)
    ranges, store = _ranges(kept_C), open_store(uri)
    with ThreadPoolExecutor(core_count()) as pool:
        written = [
            pool.submit(_write, job, store, number, classes, pieces)
            for number, classes in enumerate(ranges)
        ]
    parts, classes = zip(*(one.result() for one in written), strict=True)
    return Choice(parts, classes, found.seen, short_C)


def _short(job: Job, held_C: Counts, candidates_C: Counts) -> npt.NDArray[np.bool_]:
    """The classes that have too few, because a floor kept some of their candidates out."""
    if job.options.together:
        few = held_C.sum() < job.wanted and held_C.sum() < candidates_C.sum()
        return np.full(job.num_classes, few)
    return (held_C < job.wanted) & (held_C < candidates_C)


def _ranges(kept_C: Counts) -> list[range]:
    """The classes of each part of `chosen`."""
    ranges, first, rows = [], 0, 0
    for label, kept in enumerate(kept_C.tolist()):
        if label > first and rows + kept > ROWS_PER_PART:
            ranges.append(range(first, label))
            first, rows = label, 0
        rows += kept
    return [*ranges, range(first, len(kept_C))]


def _write(
    job: Job, store: Store, number: int, classes: range, pieces: Sequence[Candidates]
) -> tuple[Receipt, PerClass]:
    some = joined([_of_classes(piece, classes) for piece in pieces] or [_nothing()])
    bounds = np.searchsorted(some.labels_N, np.arange(classes.start, classes.stop + 1))
    orders = [
        _best_first(job, some, slice(bounds[at], bounds[at + 1])) for at in range(len(classes))
    ]
    kept_C = np.array([len(one) for one in orders], np.int64)
    last_C = np.array([some.log_odds_N[one[-1]] if len(one) else np.nan for one in orders], "f4")
    chosen = some.take(np.concatenate(orders))
    ties_N = chosen.log_odds_N == np.repeat(last_C, kept_C)
    ends = np.cumsum(kept_C)
    ties_C = np.diff(np.cumsum(np.append(0, ties_N))[np.append(0, ends)])
    numbers = np.arange(kept_C.max(initial=0), dtype=np.int32)
    each = [numbers[:kept] for kept in kept_C]
    columns = [
        chosen.labels_N.astype(np.int32),
        np.concatenate(each),
        chosen.image_ids_N,
        chosen.log_odds_N,
        np.concatenate([_copies(job, ranks_M) for ranks_M in each]),
    ]
    table = pa.Table.from_arrays([pa.array(one) for one in columns], schema=tables.CHOSEN)
    counts = contract.Counts(len(table), len(table), 0)
    receipt = contract.write_part(
        store, contract.part_name(number), table, counts, layout=tables.CHOSEN_LAYOUT
    )
    return receipt, PerClass(kept_C, last_C, ties_C)


def _of_classes(piece: Candidates, classes: range) -> Candidates:
    first, last = np.searchsorted(piece.labels_N, [classes.start, classes.stop])
    return piece.between(first, last)


def _nothing() -> Candidates:
    return Candidates(np.zeros(0, np.uint16), np.zeros(0, np.float32), np.zeros(0, np.int64))


def _best_first(job: Job, some: Candidates, group: slice) -> Positions:
    """Those that are chosen of one class, by their score, whatever they were chosen by."""
    mine = some.between(group.start, group.stop)
    if job.options.together:
        return ranked(mine.log_odds_N, mine.image_ids_N) + int(group.start)
    if len(mine) > FEW_MORE * job.wanted or job.options.random:
        rows = best(job.values(mine), mine.labels_N, mine.image_ids_N, job.wanted)
        order = rows[ranked(mine.log_odds_N[rows], mine.image_ids_N[rows])]
    else:
        order = ranked(mine.log_odds_N, mine.image_ids_N)[: job.wanted]
    return order + int(group.start)


def _copies(job: Job, ranks_M: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """How often each image of a class is taken: one that is short repeats its own, the best first.

    "Self-training with Noisy Student" (Xie et al. 2020), section 3.1, but exactly and not in
    expectation.
    """
    if job.options.mode != "threshold_balance" or not len(ranks_M):
        return np.ones(len(ranks_M), np.int32)
    whole, rest = divmod(job.wanted, len(ranks_M))
    return (whole + (ranks_M < rest)).astype(np.int32)
