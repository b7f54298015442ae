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
    NO_FLOOR,
    Candidates,
    PartialResult,
    RoundJob,
    ScanCounts,
    class_offsets,
    floors,
    join,
    prune,
)
from tasks.topk.class_ranges import best_of_classes, class_ranges, count_per_class, sort_by_score
from tasks.topk.order import Values


@dataclass(frozen=True)
class ClassSummary:
    """What is known of the chosen of each class; `last_C` are the log-odds of the last of them."""

    kept_C: npt.NDArray[np.int64]
    last_log_odds_C: npt.NDArray[np.float32]
    ties_C: npt.NDArray[np.int64]


@dataclass(frozen=True)
class RoundResult:
    """The parts of `chosen`; none if classes must be looked for again or one has nothing.

    In the first case, `short_C` are the classes that have too few, `held_C` is how many they have,
    and no better floors for the next look are known than `floors_C`.
    """

    classes: range
    parts: Sequence[Receipt]
    per_class: Sequence[ClassSummary]
    counts: ScanCounts
    num_candidates_C: npt.NDArray[np.int64]
    underfilled_C: npt.NDArray[np.bool_]
    floors_C: Values


def rank_candidates(job: RoundJob, uri: str, first_part: int, found: PartialResult) -> RoundResult:
    """Rank the candidates class by class, and write those that are chosen, from this part on."""
    pieces = list(found.pieces)
    if job.options.across_classes and pieces:
        pieces = [prune(job, join(pieces))]
    num_candidates_C = count_per_class(pieces, job.num_classes)
    underfilled_C = _underfilled(job, num_candidates_C, found.counts)
    lacking = not job.options.across_classes and not found.counts.candidates_C.all()
    floors_C = np.full(job.num_classes, NO_FLOOR)
    if underfilled_C.any() and pieces:
        floors_C = floors(job, join(pieces))
    result = RoundResult(
        job.classes, [], [], found.counts, num_candidates_C, underfilled_C, floors_C
    )
    if underfilled_C.any() or lacking:
        return result
    kept_C = (
        num_candidates_C
        if job.options.across_classes
        else np.minimum(num_candidates_C, job.quota_G)
    )
    store = open_store(uri)
    with ThreadPoolExecutor(core_count()) as pool:
        written = [
            pool.submit(_write_chosen, job, store, number, classes, pieces)
            for number, classes in enumerate(class_ranges(kept_C), first_part)
        ]
    parts, per_class = zip(*(one.result() for one in written), strict=True)
    return replace(result, parts=parts, per_class=per_class)


def _underfilled(
    job: RoundJob, num_candidates_C: npt.NDArray[np.int64], counts: ScanCounts
) -> npt.NDArray[np.bool_]:
    """The classes that have too few although there are candidates that were not judged.

    A floor has kept them out, or so many of the others were copies.
    """
    judged_C, there_C = num_candidates_C + counts.dropped_CR.sum(axis=1), counts.candidates_C
    if job.options.across_classes:
        few = num_candidates_C.sum() < job.total_quota and judged_C.sum() < there_C.sum()
        return np.full(job.num_classes, few)
    underfilled_C: npt.NDArray[np.bool_] = (num_candidates_C < job.quota_G) & (judged_C < there_C)
    return underfilled_C


def _write_chosen(
    job: RoundJob, store: Store, number: int, classes: range, pieces: Sequence[Candidates]
) -> tuple[Receipt, ClassSummary]:
    chosen = best_of_classes(job, pieces, classes)
    if job.options.random:
        chosen = sort_by_score(chosen, classes)
    kept_C = np.diff(class_offsets(chosen.labels_N, classes))
    ends = np.cumsum(kept_C)
    last_log_odds_C = np.append(chosen.log_odds_N, np.float32(np.nan))[
        np.where(kept_C, ends - 1, -1)
    ]
    ties_N = chosen.log_odds_N == np.repeat(last_log_odds_C, kept_C)
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
    return receipt, ClassSummary(kept_C, last_log_odds_C, ties_C)


def _repeats(job: RoundJob, ranks_M: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """How often each image of a class is taken: one that is short repeats its own, the best first.

    "Self-training with Noisy Student" (Xie et al. 2020), section 3.1, but exactly and not in
    expectation.
    """
    if job.options.mode != "threshold_balance" or not len(ranks_M):
        return np.ones(len(ranks_M), np.int32)
    whole, rest = divmod(job.options.k, len(ranks_M))
    return (whole + (ranks_M < rest)).astype(np.int32)
