"""Ranking: the last step, from the remaining candidates to the table `chosen`.

In: candidates, at least as many of each group as its quota, or all that there are. Out: parts of
`chosen`, each with some of the classes, and a summary of each class. If floors were too high, no
parts come out but the classes that are underfilled, and floors for another scan.
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
    Candidates,
    PartialResult,
    ScanCounts,
    class_offsets,
    floors,
    join,
    prune,
)
from tasks.topk.class_ranges import (
    best_of_classes,
    count_per_class,
    sort_by_score,
    split_classes,
)
from tasks.topk.job import RoundJob
from tasks.topk.order import Values


@dataclass(frozen=True)
class ClassSummary:
    """Chosen images of each class, log-odds of the last one, and how many have exactly these."""

    kept_C: npt.NDArray[np.int64]
    last_log_odds_C: npt.NDArray[np.float32]
    ties_C: npt.NDArray[np.int64]


@dataclass(frozen=True)
class RoundResult:
    """The parts of `chosen`. There are none if a class is underfilled.

    `underfilled_C` are the classes with fewer candidates than their quota (`num_candidates_C`)
    although candidates of them were not examined. `floors_C` are the floors for another scan.
    """

    classes: range
    parts: Sequence[Receipt]
    summaries: Sequence[ClassSummary]
    counts: ScanCounts
    num_candidates_C: npt.NDArray[np.int64]
    underfilled_C: npt.NDArray[np.bool_]
    floors_C: Values


def rank_candidates(job: RoundJob, uri: str, first_part: int, result: PartialResult) -> RoundResult:
    """Rank the candidates class by class, and write the chosen ones from this part number on."""
    pieces = result.pieces
    if job.rules.across_classes:
        pieces = (prune(job, join(pieces)),)
    num_candidates_C = count_per_class(pieces, job.num_classes)
    underfilled_C = underfilled(job, num_candidates_C, result.counts)
    floors_C = floors(job, join(pieces if underfilled_C.any() else []))
    round_result = RoundResult(
        job.classes, [], [], result.counts, num_candidates_C, underfilled_C, floors_C
    )
    if underfilled_C.any():
        return round_result
    kept_C = num_candidates_C
    if not job.rules.across_classes:
        kept_C = np.minimum(num_candidates_C, job.quota_G)
    store, ranges = open_store(uri), split_classes(kept_C, job.limits.rows_per_range)
    with ThreadPoolExecutor(core_count()) as pool:
        futures = [
            pool.submit(_write_part, job, store, number, classes, pieces)
            for number, classes in enumerate(ranges, first_part)
        ]
    parts, summaries = zip(*(future.result() for future in futures), strict=True)
    return replace(round_result, parts=parts, summaries=summaries)


def underfilled(
    job: RoundJob, num_candidates_C: npt.NDArray[np.int64], counts: ScanCounts
) -> npt.NDArray[np.bool_]:
    """Which classes have fewer candidates than their quota although some were not examined.

    They were below a floor, or so many of the examined ones were near-duplicates.
    """
    examined_C = num_candidates_C + counts.dropped_CR.sum(axis=1)
    if job.rules.across_classes:
        too_few = num_candidates_C.sum() < job.total_quota
        any_left = examined_C.sum() < counts.candidates_C.sum()
        return np.full(job.num_classes, too_few and any_left)
    too_few_C, any_left_C = num_candidates_C < job.quota_G, examined_C < counts.candidates_C
    underfilled_C: npt.NDArray[np.bool_] = too_few_C & any_left_C
    return underfilled_C


def _write_part(
    job: RoundJob, store: Store, number: int, classes: range, pieces: Sequence[Candidates]
) -> tuple[Receipt, ClassSummary]:
    chosen = best_of_classes(job, pieces, classes)
    if job.rules.random:
        chosen = sort_by_score(chosen, classes)
    kept_C = np.diff(class_offsets(chosen.labels_N, classes))
    ranks = np.arange(kept_C.max(initial=0), dtype=np.int32)
    ranks_of_classes = [ranks[:kept] for kept in kept_C]
    columns = [
        chosen.labels_N.astype(np.int32) + job.classes.start,
        np.concatenate(ranks_of_classes),
        chosen.image_ids_N,
        chosen.log_odds_N,
        np.concatenate([_repeats(job, ranks_M) for ranks_M in ranks_of_classes]),
    ]
    table = pa.Table.from_arrays([pa.array(column) for column in columns], schema=tables.CHOSEN)
    counts = contract.RowCounts(len(table), len(table), 0)
    receipt = contract.write_part(
        store, contract.part_name(number), table, counts, layout=tables.CHOSEN_LAYOUT
    )
    return receipt, _summary(chosen, kept_C)


def _summary(chosen: Candidates, kept_C: npt.NDArray[np.int64]) -> ClassSummary:
    ends = np.cumsum(kept_C)
    log_odds = np.append(chosen.log_odds_N, np.float32(np.nan))  # at -1, for classes without images
    last_log_odds_C = log_odds[np.where(kept_C, ends - 1, -1)]
    is_tie_N = chosen.log_odds_N == np.repeat(last_log_odds_C, kept_C)
    ties_C = np.diff(np.cumsum(np.append(0, is_tie_N))[np.append(0, ends)])
    return ClassSummary(kept_C, last_log_odds_C, ties_C)


def _repeats(job: RoundJob, ranks_M: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """How often each image of a class is taken: a class with too few repeats them, the best first.

    "Self-training with Noisy Student" (Xie et al. 2020), section 3.1, but exactly and not in
    expectation.
    """
    if not job.rules.repeats or not len(ranks_M):
        return np.ones(len(ranks_M), np.int32)
    quotient, remainder = divmod(job.options.k, len(ranks_M))
    return (quotient + (ranks_M < remainder)).astype(np.int32)
