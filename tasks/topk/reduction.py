"""Look: what is done over all parts of the scores, and with what is found in them.

In: the parts. Out: for each round, some classes and what was chosen of them. There is one round,
unless K times the classes is more than the worker that takes the last step should hold.

    floors -> chunk (Pile) -> combine, as a tree -> [guard] -> choose
"""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from infra.executors import Executor, Handle
from tasks.contract import MAX_BATCH, OnProgress, Output, Stopwatch
from tasks.topk import dedup
from tasks.topk.candidates import (
    NO_FLOOR,
    CandidateBuffer,
    PartialResult,
    RoundJob,
    combine,
    floors,
    join,
)
from tasks.topk.options import TopkOptions
from tasks.topk.order import Values
from tasks.topk.ranking import RoundResult, rank_candidates
from tasks.topk.reader import PartName, Reader

Item = TypeVar("Item")

HISTOGRAM_SAMPLE_IMAGES = 1_000_000  # images; of more, the histogram takes one in so many
SAMPLE_IMAGES_PER_CLASS = (
    256  # of the K of a class, so many are expected in the sample that the floors come from
)
SAMPLE_DEVIATIONS = 5
MIN_SAMPLE_STRIDE_PARTS = 4  # a sample of more than one part in so many is not worth its time
BATCHES_PER_WORKER = 8
# Candidates that are wanted at a time: 2 GB on the worker that takes the last step, and 4 GB where
# copies are to be found. It decides where parts of `chosen` end, as ranges.ROWS_AT_ONCE does, so
# raise topk's VERSION with them.
PAIRS_PER_ROUND = 32_000_000


@dataclass(frozen=True)
class ReductionJob:
    """What is looked at, and for what."""

    uri: str
    reader: Reader
    classes: tuple[str, ...]
    parts: tuple[tuple[str, int], ...]  # names and rows
    exclude: Mapping[str, Output]

    @property
    def inputs(self) -> dict[str, Output]:
        """What is chosen from, and what may not be chosen, by role."""
        return {"scores": self.reader.scores, **self.exclude}

    @property
    def options(self) -> TopkOptions:
        """How they are chosen."""
        return self.reader.options

    @property
    def rows(self) -> int:
        """Images with scores."""
        return self.reader.scores.kept

    @property
    def histogram_stride(self) -> int:
        """The histogram is made of one image in so many."""
        return -(-self.rows // HISTOGRAM_SAMPLE_IMAGES) or 1

    def round_jobs(self) -> Iterator[RoundJob]:
        """What is wanted, round by round."""
        count, options = len(self.classes), self.options
        if options.across_classes:
            quota_G = np.array([options.k * count])
            yield RoundJob(options, range(count), count, quota_G, self.histogram_stride)
            return
        at_once = max(1, PAIRS_PER_ROUND // options.k)
        for first in range(0, count, at_once):
            classes = range(first, min(first + at_once, count))
            yield RoundJob(
                options, classes, count, np.full(len(classes), options.k), self.histogram_stride
            )


def run_rounds(
    reduction: ReductionJob, executor: Executor, on_progress: OnProgress, watch: Stopwatch
) -> Iterator[RoundResult]:
    """What is chosen, in the order of the classes; a round ends early where a class has nothing."""
    written, round_jobs = 0, list(reduction.round_jobs())
    for number, job in enumerate(round_jobs, 1):
        note = f"round {number} of {len(round_jobs)}" if len(round_jobs) > 1 else ""
        result = _run_round(reduction, job, written, executor, _noted(on_progress, note), watch)
        written += len(result.parts)
        yield result


def _noted(on_progress: OnProgress, note: str) -> OnProgress:
    def tell(done: int, total: int, step: str) -> None:
        on_progress(done, total, f"{step}, {note}" if note else step)

    return tell


def _run_round(
    reduction: ReductionJob,
    job: RoundJob,
    first_part: int,
    executor: Executor,
    on_progress: OnProgress,
    watch: Stopwatch,
) -> RoundResult:
    drops_duplicates, scan_job = job.options.drop_near_duplicates, job
    if drops_duplicates:
        scan_job = replace(job, quota_G=dedup.quota_with_reserve(job.quota_G))
    on_progress(0, len(reduction.parts), "sample")
    floors_C = estimate_floors(reduction, scan_job, executor)
    watch.lap("sample")
    while True:
        handle = scan_parts(reduction, scan_job, executor, floors_C, on_progress)
        if drops_duplicates:
            handle = executor.apply(functools.partial(dedup.shortlist, scan_job), handle)
            handle = drop_near_duplicates(reduction, job, executor, handle, on_progress)
        last = functools.partial(rank_candidates, job, reduction.uri, first_part)
        result = executor.result(executor.apply(last, handle))
        watch.lap("compute")
        if not result.underfilled_C.any():
            return result
        # A floor was too high after all, or so many were copies: look deeper for these classes.
        floors_C = result.floors_C
        if drops_duplicates:
            scan_job = replace(scan_job, quota_G=_deeper(job, scan_job, result))


def _deeper(job: RoundJob, scan_job: RoundJob, result: RoundResult) -> npt.NDArray[np.int64]:
    num_candidates_G, underfilled_G = result.num_candidates_C, result.underfilled_C
    if job.options.across_classes:
        num_candidates_G, underfilled_G = num_candidates_G.sum(keepdims=True), underfilled_G[:1]
    return dedup.grown_quota(job, scan_job.quota_G, num_candidates_G, underfilled_G)


def estimate_floors(reduction: ReductionJob, job: RoundJob, executor: Executor) -> Values:
    """What the K-th best of each class surely exceeds, as far as a sample of the parts can tell.

    In the sample, as many are expected among the K best as the parts have a share of the images;
    the floor is lower by some standard deviations of that.
    """
    every = reduction.options.k // SAMPLE_IMAGES_PER_CLASS
    numbers = range(every // 2, len(reduction.parts), max(1, every))
    floors_C = np.full(job.num_classes, NO_FLOOR)
    if every < MIN_SAMPLE_STRIDE_PARTS or len(numbers) < 2 or not reduction.rows:
        return floors_C
    expected_G = job.quota_G * (sum(reduction.parts[at][1] for at in numbers) / reduction.rows)
    quota_G = np.ceil(
        expected_G + SAMPLE_DEVIATIONS * np.sqrt(expected_G) + SAMPLE_DEVIATIONS
    ).astype(np.int64)
    sample = replace(job, quota_G=quota_G)
    handle = executor.reduce(
        functools.partial(_scan_batch, reduction.reader, sample, floors_C),
        functools.partial(combine, sample),
        _grouped(reduction, numbers, executor),
    )
    return executor.result(executor.apply(functools.partial(_floors_of, sample), handle))


def _floors_of(job: RoundJob, found: PartialResult) -> Values:
    return floors(job, join(found.pieces)) if found.pieces else np.full(job.num_classes, NO_FLOOR)


def scan_parts(
    reduction: ReductionJob,
    job: RoundJob,
    executor: Executor,
    floors_C: Values,
    on_progress: OnProgress,
) -> Handle[PartialResult]:
    """What is found in all parts."""
    total = len(reduction.parts)
    groups = _grouped(reduction, range(total), executor)
    done = itertools.count(1)

    def tell() -> None:
        on_progress(total * next(done) // (len(groups) + 1), total, "compute")

    return executor.reduce(
        functools.partial(_scan_batch, reduction.reader, job, floors_C),
        functools.partial(combine, job),
        groups,
        tell,
    )


def _grouped(reduction: ReductionJob, numbers: range, executor: Executor) -> list[list[PartName]]:
    names = [(number, reduction.parts[number][0]) for number in numbers]
    return _batches(names, executor) or [names]


def _batches(items: Sequence[Item], executor: Executor) -> list[list[Item]]:
    size = min(MAX_BATCH, -(-len(items) // (BATCHES_PER_WORKER * executor.workers)) or 1)
    return [list(items[at : at + size]) for at in range(0, len(items), size)]


def _scan_batch(
    reader: Reader, job: RoundJob, floors_C: Values, names: Sequence[PartName]
) -> PartialResult:
    """The candidates of a few parts."""
    buffer = CandidateBuffer(job, floors_C)
    for part in reader.parts(names):
        buffer.add(part)
    return buffer.found()


def drop_near_duplicates(
    reduction: ReductionJob,
    job: RoundJob,
    executor: Executor,
    handle: Handle[PartialResult],
    on_progress: OnProgress,
) -> Handle[PartialResult]:
    """The same without copies. What was found stays where it is; only ids travel."""
    asked = functools.partial(dedup.possible_duplicates, reduction.exclude)
    possible = executor.result(executor.apply(asked, handle))
    on_progress(
        len(reduction.parts), len(reduction.parts), f"{len(possible.ids_N):,} may be copies"
    )
    wanted = dedup.parts_with(possible, [name for name, _ in reduction.parts])
    signatures = executor.reduce(
        functools.partial(dedup.read_signatures, reduction.reader),
        dedup.merge_signatures,
        _batches(wanted, executor) or [[]],
    )
    return executor.apply(
        functools.partial(dedup.drop_duplicates, job, reduction.exclude), handle, signatures
    )
