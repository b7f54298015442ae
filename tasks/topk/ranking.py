"""Choose: the last step, from the candidates that are left to the table of those that are chosen.

In: candidates, at least as many of each group as are wanted, or all that there are. Out: parts of
`chosen`, each with some classes, and what is known of each class. Where floors were too high, out
comes which classes are short instead, and floors with which to look again.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.devices import core_count
from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import Receipt
from tasks.topk.candidates import (
    NONE,
    Candidates,
    Counts,
    Found,
    Job,
    Seen,
    floors,
    joined,
    places_of,
    prune,
)
from tasks.topk.class_ranges import best_first, by_score, counted, ranges
from tasks.topk.order import Values


@dataclass(frozen=True)
class PerClass:
    """What is known of the chosen of each class; `last_C` are the log-odds of the last of them."""

    kept_C: Counts
    last_C: npt.NDArray[np.float32]
    ties_C: Counts


@dataclass(frozen=True)
class Choice:
    """The parts of `chosen`; none if classes must be looked for again or one has nothing.

    In the first case, `short_C` are the classes that have too few, `held_C` is how many they have,
    and no better floors for the next look are known than `floors_C`.
    """

    classes: range
    parts: Sequence[Receipt]
    per_class: Sequence[PerClass]
    seen: Seen
    held_C: Counts
    short_C: npt.NDArray[np.bool_]
    floors_C: Values


def choose(job: Job, uri: str, first_part: int, found: Found) -> Choice:
    """Rank the candidates class by class, and write those that are chosen, from this part on."""
    pieces = list(found.pieces)
    if job.options.together and pieces:
        pieces = [prune(job, joined(pieces))]
    held_C = counted(pieces, job.num_classes)
    short_C = _short(job, held_C, found.seen)
    lacking = not job.options.together and not found.seen.candidates_C.all()
    floors_C = np.full(job.num_classes, NONE)
    if short_C.any() and pieces:
        floors_C = floors(job, joined(pieces))
    choice = Choice(job.classes, [], [], found.seen, held_C, short_C, floors_C)
    if short_C.any() or lacking:
        return choice
    kept_C = held_C if job.options.together else np.minimum(held_C, job.wanted_G)
    store = open_store(uri)
    with ThreadPoolExecutor(core_count()) as pool:
        written = [
            pool.submit(_write, job, store, number, classes, pieces)
            for number, classes in enumerate(ranges(kept_C), first_part)
        ]
    parts, per_class = zip(*(one.result() for one in written), strict=True)
    return replace(choice, parts=parts, per_class=per_class)


def _short(job: Job, held_C: Counts, seen: Seen) -> npt.NDArray[np.bool_]:
    """The classes that have too few although there are candidates that were not judged.

    A floor has kept them out, or so many of the others were copies.
    """
    judged_C, there_C = held_C + seen.dropped_CR.sum(axis=1), seen.candidates_C
    if job.options.together:
        few = held_C.sum() < job.most and judged_C.sum() < there_C.sum()
        return np.full(job.num_classes, few)
    short_C: npt.NDArray[np.bool_] = (held_C < job.wanted_G) & (judged_C < there_C)
    return short_C


def _write(
    job: Job, store: Store, number: int, classes: range, pieces: Sequence[Candidates]
) -> tuple[Receipt, PerClass]:
    chosen = best_first(job, pieces, classes)
    if job.options.random:
        chosen = by_score(chosen, classes)
    kept_C = np.diff(places_of(chosen.labels_N, classes))
    ends = np.cumsum(kept_C)
    last_C = np.append(chosen.log_odds_N, np.float32(np.nan))[np.where(kept_C, ends - 1, -1)]
    ties_N = chosen.log_odds_N == np.repeat(last_C, kept_C)
    ties_C = np.diff(np.cumsum(np.append(0, ties_N))[np.append(0, ends)])
    numbers = np.arange(kept_C.max(initial=0), dtype=np.int32)
    each = [numbers[:kept] for kept in kept_C]
    columns = [
        chosen.labels_N.astype(np.int32) + job.classes.start,
        np.concatenate(each),
        chosen.image_ids_N,
        chosen.log_odds_N,
        np.concatenate([_repeats(job, ranks_M) for ranks_M in each]),
    ]
    table = pa.Table.from_arrays([pa.array(one) for one in columns], schema=tables.CHOSEN)
    counts = contract.RowCounts(len(table), len(table), 0)
    receipt = contract.write_part(
        store, contract.part_name(number), table, counts, layout=tables.CHOSEN_LAYOUT
    )
    return receipt, PerClass(kept_C, last_C, ties_C)


def _repeats(job: Job, ranks_M: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """How often each image of a class is taken: one that is short repeats its own, the best first.

    "Self-training with Noisy Student" (Xie et al. 2020), section 3.1, but exactly and not in
    expectation.
    """
    if job.options.mode != "threshold_balance" or not len(ranks_M):
        return np.ones(len(ranks_M), np.int32)
    whole, rest = divmod(job.options.k, len(ranks_M))
    return (whole + (ranks_M < rest)).astype(np.int32)
