"""topk: the exact K best images of every class, and other ways to choose.

In: `scores`. Out: `chosen`, sorted by (label, rank), and `classes`, a row for each class. The order
is total, (label, -log_odds, image_id), so the same scores give the same bytes, whatever the order
and grouping of the parts and the number of workers.

A sample of the parts tells of each class a floor, a value that the K-th best surely exceeds. Then
every part is looked at once, and only what is above the floors goes on (`Pile`); few candidates
are left of many, and they are brought together (`combine`) and ranked (`choose`). Were a floor
too high after all, which the counts tell, those classes are looked for again without one.
"Billion-scale semi-supervised learning" (Yalniz et al. 2019), section 3.2; docs/topk.md.

    chosen = topk(root, TopkOptions(k=16_000, top_p=10), scores, executor)
"""

import functools
import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.cluster import Executor
from infra.errors import ProtegeError
from infra.lease import Lease
from infra.storage import Store, open_store
from tasks import contract, tables
from tasks.contract import Manifest, OnProgress, Output, Receipt, Stopwatch, silent
from tasks.once import once
from tasks.topk.candidates import (
    HISTOGRAM_EDGES,
    NONE,
    Counts,
    Found,
    Job,
    Pile,
    combine,
    floors,
    joined,
)
from tasks.topk.choose import Choice, choose
from tasks.topk.options import TopkOptions
from tasks.topk.order import Values, hash_ids
from tasks.topk.parts import Name, Reader, check_ids
from tasks.work import MAX_BATCH

STAGE = "topk"
VERSION = 2
CLASSES = "classes.parquet"
FEW = 1_000_000  # images; of more, the histogram takes one in so many
SAMPLED = 256  # of the K of a class, so many are expected in the sample that the floors come from
SIGMAS = 5
FEWEST = 4  # a sample of more than one part in so many is not worth its time
BATCHES_PER_WORKER = 8

__all__ = [
    "CLASSES",
    "HISTOGRAM_EDGES",
    "STAGE",
    "TopkOptions",
    "hash_ids",
    "read_chosen",
    "read_classes",
    "topk",
]


def topk(
    root: Store,
    options: TopkOptions,
    scores: Output,
    executor: Executor,
    on_progress: OnProgress = silent,
) -> Output:
    """Choose, or take the output that is there.

    Raises ProtegeError when a class has no candidate, more is asked of P than was scored, or a
    part of the scores is damaged or has an image of another one.
    """
    manifest = contract.load_manifest(scores)
    classes, scored_p = manifest["extra"]["classes"], manifest["extra"]["top_p"]
    if options.width(len(classes)) > scored_p:
        raise ProtegeError(
            f"topk.top_p is {options.top_p}, but only {scored_p} classes of each image were "
            f"scored: lower it, or raise score.top_p"
        )
    fingerprint = contract.fingerprint_of(STAGE, VERSION, options.content(), [scores.digest])
    store = open_store(f"{root.uri}/{STAGE}/{fingerprint}")
    work = _Work(
        uri=store.uri,
        reader=Reader(scores, scored_p, len(classes), options),
        classes=tuple(classes),
        parts=tuple((part["name"], part["kept"]) for part in manifest["parts"]),
    )
    make = functools.partial(_make, work, executor)
    return once(store, make, on_progress, inputs={"scores": scores})


def read_chosen(chosen: Output) -> pa.Table:
    """The `chosen` table."""
    return contract.read_rows(chosen, tables.CHOSEN)


def read_classes(chosen: Output) -> pa.Table:
    """The `classes` table: a row for each class."""
    return contract.read_part(chosen.store, CLASSES, tables.CLASSES)


@dataclass(frozen=True)
class _Work:
    uri: str
    reader: Reader
    classes: tuple[str, ...]
    parts: tuple[tuple[str, int], ...]  # names and rows

    @property
    def options(self) -> TopkOptions:
        """How they are chosen."""
        return self.reader.options

    @property
    def rows(self) -> int:
        """Images with scores."""
        return self.reader.scores.kept

    @property
    def job(self) -> Job:
        """What is wanted of each group."""
        groups = len(self.classes) if self.options.together else 1
        one_in = -(-self.rows // FEW) or 1
        return Job(self.options, len(self.classes), self.options.k * groups, one_in)


def _make(work: _Work, executor: Executor, lease: Lease, on_progress: OnProgress) -> Output:
    started = time.perf_counter()
    store, total = open_store(work.uri), len(work.parts)
    watch = Stopwatch()
    on_progress(0, total, "sample")
    floors_C = _floors(work, executor)
    watch.lap("sample")
    choice = _look(work, executor, floors_C, on_progress)
    if choice.short_C.any():
        again_C = np.where(choice.short_C, NONE, floors_C)
        choice = _look(work, executor, again_C, on_progress)
    watch.lap("compute")
    check_ids(work.reader, [name for name, _ in work.parts], choice.seen.spans_S3)
    _check_every_class(work, choice)
    receipts = [*_with_rejects(store, choice), _write_classes(work, store, choice)]
    watch.lap("write")
    on_progress(total, total, "")
    manifest = Manifest(
        stage=STAGE,
        fingerprint=store.uri.rsplit("/", 1)[1],
        options=work.options.model_dump(),
        inputs={"scores": contract.link(work.reader.scores)},
        parts=[contract.timed(receipts[0], watch), *receipts[1:]],
        seconds=time.perf_counter() - started,
        extra={"classes": list(work.classes), "seed": work.options.seed},
    )
    lease.check()
    return contract.publish(store, manifest)


def _floors(work: _Work, executor: Executor) -> Values:
    """What the K-th best of each class surely exceeds, as far as a sample of the parts can tell.

    In the sample, as many are expected among the K best as the parts have a share of the images;
    the floor is lower by some standard deviations of that.
    """
    every = work.options.k // SAMPLED
    numbers = range(every // 2, len(work.parts), max(1, every))
    floors_C = np.full(len(work.classes), NONE)
    if every < FEWEST or len(numbers) < 2:
        return floors_C
    expected = work.job.wanted * sum(work.parts[at][1] for at in numbers) / work.rows
    wanted = math.ceil(expected + SIGMAS * math.sqrt(expected) + SIGMAS)
    job = replace(work.job, wanted=wanted)
    return executor.reduce(
        functools.partial(_chunk, work.reader, job, floors_C),
        functools.partial(combine, job),
        functools.partial(_floors_of, job),
        _grouped(work, numbers, executor),
    )


def _floors_of(job: Job, found: Found) -> Values:
    return floors(job, joined(found.pieces)) if found.pieces else np.full(job.num_classes, NONE)


def _look(work: _Work, executor: Executor, floors_C: Values, on_progress: OnProgress) -> Choice:
    """Look at every part, and choose."""
    total = len(work.parts)
    groups = _grouped(work, range(total), executor)
    done = itertools.count(1)

    def watch() -> None:
        on_progress(total * next(done) // (len(groups) + 1), total, "compute")

    return executor.reduce(
        functools.partial(_chunk, work.reader, work.job, floors_C),
        functools.partial(combine, work.job),
        functools.partial(choose, work.job, work.uri),
        groups,
        watch,
    )


def _grouped(work: _Work, numbers: range, executor: Executor) -> list[list[Name]]:
    names = [(number, work.parts[number][0]) for number in numbers]
    batches = BATCHES_PER_WORKER * executor.workers
    size = min(MAX_BATCH, -(-len(names) // batches) or 1)
    return [names[at : at + size] for at in range(0, len(names), size)] or [names]


def _chunk(reader: Reader, job: Job, floors_C: Values, names: Sequence[Name]) -> Found:
    """The candidates of a few parts."""
    pile = Pile(job, floors_C)
    for part in reader.parts(names):
        pile.add(part)
    return pile.found()


def _with_rejects(store: Store, choice: Choice) -> list[Receipt]:
    """The receipts of the parts; the first one counts the images that could not be ranked."""
    first, *others = choice.parts
    rejected = np.sort(choice.seen.not_finite)
    detail = {"key": "", "reason": "not_finite", "detail": "its log-odds are not a number"}
    rows = [{"image_id": image_id, **detail} for image_id in rejected.tolist()]
    contract.write_rejects(store, 0, rows, tables.REJECTS)
    return [replace(first, rows_in=first.kept + len(rows), rejected=len(rows)), *others]


def _write_classes(work: _Work, store: Store, choice: Choice) -> Receipt:
    kept_C = np.concatenate([one.kept_C for one in choice.classes])
    last_C = np.concatenate([one.last_C for one in choice.classes])
    columns = [
        np.arange(len(work.classes), dtype=np.int32),
        list(work.classes),
        choice.seen.candidates_C,
        kept_C.astype(np.int32),
        pa.array(last_C, mask=kept_C == 0),
        np.concatenate([one.ties_C for one in choice.classes]),
        _certified(work, kept_C, last_C),
        list(choice.seen.histogram_CB * work.job.one_in),
    ]
    arrays = [pa.array(one, kind.type) for one, kind in zip(columns, tables.CLASSES, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=tables.CLASSES)
    return contract.write_part(store, CLASSES, table, contract.Counts(0, 0, 0))


def _certified(work: _Work, kept_C: Counts, last_C: Values) -> npt.NDArray[np.bool_]:
    """Whether no class that was cut off from an image's P best could have ranked (docs/topk.md)."""
    width, options = work.options.width(work.reader.scored_p), work.options
    if options.random or options.best_only:
        return np.zeros(len(kept_C), bool)
    if options.by_tag or width >= len(work.classes):
        return np.ones(len(kept_C), bool)
    probability_C = 1 / (1 + np.exp(-last_C.astype(np.float64)))
    full = kept_C.sum() == work.job.wanted if options.together else kept_C == work.job.wanted
    certified_C: npt.NDArray[np.bool_] = full & (probability_C > 1 / (width + 1))
    return certified_C


def _check_every_class(work: _Work, choice: Choice) -> None:
    if work.options.together:
        return
    empty = [work.classes[label] for label in np.flatnonzero(choice.seen.candidates_C == 0)]
    if empty:
        others = " and others" if len(empty) > 10 else ""
        raise ProtegeError(
            f"no image of the pile is a candidate for {', '.join(empty[:10])}{others} "
            f"({len(empty)} classes): {_remedy(work.options)}, or label more images of them"
        )


def _remedy(options: TopkOptions) -> str:
    if options.by_tag:
        return "the images need tags that are called like the classes"
    if options.mode == "threshold_balance":
        return f"lower topk.threshold (now {options.threshold:g})"
    return f"raise topk.top_p (now {options.top_p})"
