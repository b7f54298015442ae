"""Reduction: the steps from the scores to the chosen images, each over many tasks.

In: a `ReductionJob`. Out: a `RoundResult` for each round, whose parts of `chosen` are written.
docs/topk.md explains the steps. They run where the executor decides; between them, candidates stay
on the worker that has them, and only handles come back here.

    1 estimate_floors -> 2 scan_parts -> 3 combine -> 4 drop_near_duplicates -> 5 rank_candidates
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np

from infra.executors import Executor, Handle
from tasks.contract import MAX_BATCH, OnProgress, Stopwatch, silent
from tasks.topk import crops, dedup
from tasks.topk.candidates import (
    NO_FLOOR,
    CandidateBuffer,
    PartialResult,
    combine,
    floors,
    join,
)
from tasks.topk.job import ReductionJob, RoundJob
from tasks.topk.limits import Limits
from tasks.topk.order import Values
from tasks.topk.ranking import RoundResult, rank_candidates
from tasks.topk.reader import PartName, Reader
from tasks.topk.views import merge_views, read_views

Item = TypeVar("Item")


def run_rounds(
    reduction: ReductionJob, executor: Executor, on_progress: OnProgress, watch: Stopwatch
) -> Iterator[RoundResult]:
    """Choose round by round."""
    jobs, num_parts_written = list(reduction.round_jobs()), 0
    for number, job in enumerate(jobs, 1):
        suffix = f", round {number} of {len(jobs)}" if len(jobs) > 1 else ""

        def report(done: int, total: int, step: str, suffix: str = suffix) -> None:
            on_progress(done, total, step + suffix)

        report(0, len(reduction.parts), "sample")
        floors_C = estimate_floors(reduction, reserve_for_duplicates(job), executor)
        watch.lap("sample")
        result = fill_quotas(reduction, job, floors_C, num_parts_written, executor, report)
        watch.lap("compute")
        num_parts_written += len(result.parts)
        yield result


def fill_quotas(
    reduction: ReductionJob,
    job: RoundJob,
    floors_C: Values,
    first_part: int,
    executor: Executor,
    on_progress: OnProgress,
) -> RoundResult:
    """Scan, drop near-duplicates and rank, until no class is underfilled. As a rule, once."""
    rank = partial(rank_candidates, job, reduction.uri, first_part)
    scan_job, all_parts = reserve_for_duplicates(job), range(len(reduction.parts))
    while True:
        handle = scan_parts(reduction, scan_job, floors_C, all_parts, executor, on_progress)
        if job.options.drop_near_duplicates:
            handle = executor.apply(partial(dedup.shortlist, scan_job), handle)
            handle = drop_near_duplicates(reduction, job, handle, executor, on_progress)
        result = executor.result(executor.apply(rank, handle))
        if not result.underfilled_C.any():
            return result
        # A floor was too high, or too many candidates were near-duplicates. Full classes keep
        # floors, so that another scan costs little memory.
        floors_C = result.floors_C
        if job.options.drop_near_duplicates:
            scan_job = grow_quotas(job, scan_job, result)


def reserve_for_duplicates(job: RoundJob) -> RoundJob:
    """The job with larger quotas, so that classes stay full when near-duplicates are dropped."""
    if not job.options.drop_near_duplicates:
        return job
    reserve_G = (job.limits.reserve_share * job.quota_G).astype(np.int64)
    return replace(job, quota_G=job.quota_G + reserve_G + job.limits.reserve_images)


def grow_quotas(job: RoundJob, scan_job: RoundJob, result: RoundResult) -> RoundJob:
    """The job of the next scan: larger quotas for the groups that have too few candidates left."""
    num_candidates_G, underfilled_G = result.num_candidates_C, result.underfilled_C
    if job.rules.across_classes:
        num_candidates_G, underfilled_G = num_candidates_G.sum(keepdims=True), underfilled_G[:1]
    growth_G = 1.25 * job.quota_G / np.maximum(num_candidates_G, 1)
    growth_G = np.clip(growth_G, job.limits.min_quota_growth, job.limits.max_quota_growth)
    grown_G = np.ceil(scan_job.quota_G * growth_G).astype(np.int64)
    return replace(scan_job, quota_G=np.where(underfilled_G, grown_G, scan_job.quota_G))


def estimate_floors(reduction: ReductionJob, job: RoundJob, executor: Executor) -> Values:
    """Step 1: a value that the K-th best of each class should exceed, from a sample of the parts.

    The sample is expected to have its share of the K best. The floor lies some standard deviations
    of that number deeper. There is no floor where a sample would have to be large.
    """
    limits, no_floors_C = job.limits, np.full(job.num_classes, NO_FLOOR)
    stride = reduction.options.k // limits.floor_sample_images
    sample = range(stride // 2, len(reduction.parts), max(1, stride))
    if stride < limits.min_sample_stride_parts or len(sample) < 2 or not reduction.rows:
        return no_floors_C
    sample_rows = sum(reduction.parts[number][1] for number in sample)
    expected_G = job.quota_G * (sample_rows / reduction.rows)
    quota_G = expected_G + limits.floor_deviations * (np.sqrt(expected_G) + 1)
    sample_job = replace(job, quota_G=np.ceil(quota_G).astype(np.int64))
    handle = scan_parts(reduction, sample_job, no_floors_C, sample, executor)
    return executor.result(executor.apply(partial(_floors_of_result, sample_job), handle))


def _floors_of_result(job: RoundJob, result: PartialResult) -> Values:
    return floors(job, join(result.pieces))


def scan_parts(
    reduction: ReductionJob,
    job: RoundJob,
    floors_C: Values,
    numbers: range,
    executor: Executor,
    on_progress: OnProgress = silent,
) -> Handle[PartialResult]:
    """Steps 2 and 3: the candidates of these parts, combined in a tree by the workers."""
    names = [(number, reduction.parts[number][0]) for number in numbers]
    batches = split_into_batches(names, executor, job.limits)
    batches_done = itertools.count(1)

    def report() -> None:
        done = len(names) * next(batches_done) // (len(batches) + 1)
        on_progress(done, len(names), "compute")

    scan = partial(scan_batch, reduction.reader, job, floors_C)
    return executor.reduce(scan, partial(combine, job), batches, report)


def scan_batch(
    reader: Reader, job: RoundJob, floors_C: Values, names: Sequence[PartName]
) -> PartialResult:
    """The candidates of a few parts: the work of one task."""
    buffer = CandidateBuffer(job, floors_C)
    for part in reader.parts(names, job.limits):
        buffer.add(part)
    return buffer.result()


def drop_near_duplicates(
    reduction: ReductionJob,
    job: RoundJob,
    handle: Handle[PartialResult],
    executor: Executor,
    on_progress: OnProgress,
) -> Handle[PartialResult]:
    """Step 4: drop near-duplicates. Ids come back here; the candidates stay where they are."""
    marked = executor.apply(partial(dedup.mark_possible, reduction.exclude), handle)
    possible = executor.result(executor.apply(dedup.possible_ids, marked))
    total, count = len(reduction.parts), len(possible.ids_N)
    on_progress(total, total, f"{count:,} may be near-duplicates")
    parts = dedup.parts_to_read(possible, [name for name, _ in reduction.parts])
    signatures = executor.reduce(
        partial(dedup.read_signatures, reduction.reader),
        dedup.merge_signatures,
        split_into_batches(parts, executor, job.limits),
    )
    examined = executor.apply(partial(dedup.examine, job, reduction.exclude), marked, signatures)
    if job.options.drop_crops:
        examined = find_crops(reduction, job, examined, executor, on_progress)
    return executor.apply(partial(dedup.drop, job), examined)


def find_crops(
    reduction: ReductionJob,
    job: RoundJob,
    handle: Handle[dedup.Examined],
    executor: Executor,
    on_progress: OnProgress,
) -> Handle[dedup.Examined]:
    """Find the crops among what is left, a group of classes at a time."""
    on_worker = executor.apply(crops.kept_candidates, handle)
    kept = executor.result(on_worker)
    names = [name for name, _ in reduction.parts]
    groups, results = list(crops.groups_of_classes(kept, job.limits)), []
    for number, group in enumerate(groups, 1):
        on_progress(len(names), len(names), f"crops, {number} of {len(groups)}")
        parts = dedup.parts_to_read(kept.images_of(group), names)
        batches = split_into_batches(parts, executor, job.limits)
        views = executor.reduce(partial(read_views, reduction.reader), merge_views, batches)
        own = executor.apply(partial(crops.group_at, group.pieces), on_worker)
        find = partial(crops.crop_codes, reduction.known_scores)
        results.append(executor.apply(find, own, views))
    crops.check_features([executor.result(result) for result in results])
    return executor.apply(crops.with_crops, handle, *results)


def split_into_batches(
    items: Sequence[Item], executor: Executor, limits: Limits
) -> list[list[Item]]:
    """The items in batches, one for each task; at least one batch, which can be empty."""
    num_batches = limits.batches_per_worker * executor.workers
    size = min(MAX_BATCH, -(-len(items) // num_batches) or 1)
    return [list(items[first : first + size]) for first in range(0, len(items), size)] or [[]]
