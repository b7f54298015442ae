"""topk: the exact K best images of every class.

In: `scores`. Out: `chosen`, sorted by (label, rank), and `classes`, a row for each class. The order
is total, (label, -log_odds, image_id), so the same scores give the same bytes, whatever the order
and grouping of the parts and the number of workers.

The reduction is chunk / combine / aggregate: `_chunk` keeps the K best of each class among a few
parts, `_combine` among a few chunks, `_aggregate` ranks what is left. Nothing grows beyond K rows a
class. "Billion-scale semi-supervised learning" (Yalniz et al. 2019), section 3.2.

    chosen = topk(root, TopkOptions(k=16_000, top_p=10), scores, executor)
"""

import functools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from infra.cluster import Executor
from infra.errors import ProtegeError
from infra.lease import Lease
from infra.storage import Store, open_store
from tasks import contract, tables
from tasks.contract import Counts, Manifest, OnProgress, Output, Stopwatch, silent
from tasks.once import once
from tasks.options import Options
from tasks.work import MAX_BATCH

STAGE = "topk"
VERSION = 1
CHOSEN = contract.part_name(0)
CLASSES = "classes.parquet"

# Bins of the histogram of log-odds: a half each, the first and last one open.
HISTOGRAM_EDGES = np.arange(-24, 40.5, 0.5)


class TopkOptions(Options):
    """Options of the stage `topk`."""

    k: int = Field(16_000, ge=1, le=100_000_000)
    """Images chosen for each class (the paper's K)."""
    top_p: int = Field(10, ge=1, le=1000)
    """An image is a candidate for its P best classes; at most the P that was scored."""
    mode: Literal["per_class", "random_per_class"] = "per_class"
    """The K best of each class, or K at random among the images whose best class it is."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Decides the random choice."""

    def content(self) -> dict[str, Any]:
        """Without the seed, where nothing is random."""
        return {**super().content(), "seed": self.seed if self.mode == "random_per_class" else 0}


@dataclass(frozen=True)
class Candidates:
    """The best candidates of each class so far, and counts over all that were seen."""

    labels: npt.NDArray[np.int32]
    image_ids: npt.NDArray[np.int64]
    log_odds: npt.NDArray[np.float32]
    counts_C: npt.NDArray[np.int64]
    histogram_CB: npt.NDArray[np.int64]


def topk(
    root: Store,
    options: TopkOptions,
    scores: Output,
    executor: Executor,
    on_progress: OnProgress = silent,
) -> Output:
    """Choose, or take the output that is there.

    Raises ProtegeError when a class has no candidate, more is asked of P than was scored, or a
    part of the scores is damaged.
    """
    manifest = contract.load_manifest(scores)
    classes, scored_p = manifest["extra"]["classes"], manifest["extra"]["top_p"]
    if options.top_p > scored_p and scored_p < len(classes):
        raise ProtegeError(
            f"topk.top_p is {options.top_p}, but only {scored_p} classes of each image were "
            f"scored: lower it, or raise score.top_p"
        )
    fingerprint = contract.fingerprint_of(STAGE, VERSION, options.content(), [scores.digest])
    store = open_store(f"{root.uri}/{STAGE}/{fingerprint}")
    job = _Job(store.uri, scores, scored_p, options, tuple(classes))
    make = functools.partial(_make, job, executor)
    return once(store, make, on_progress, inputs={"scores": scores})


def read_chosen(chosen: Output) -> pa.Table:
    """The `chosen` table."""
    return contract.read_part(chosen.store, CHOSEN, tables.CHOSEN)


def read_classes(chosen: Output) -> pa.Table:
    """The `classes` table: a row for each class."""
    return contract.read_part(chosen.store, CLASSES, tables.CLASSES)


@dataclass(frozen=True)
class _Job:
    uri: str
    scores: Output
    scored_p: int
    options: TopkOptions
    classes: tuple[str, ...]


def _make(job: _Job, executor: Executor, lease: Lease, on_progress: OnProgress) -> Output:
    started = time.perf_counter()
    store = open_store(job.uri)
    names = contract.part_names(job.scores)
    on_progress(0, len(names), "")
    watch = Stopwatch()
    best = executor.reduce(
        functools.partial(_chunk, job), functools.partial(_combine, job), _grouped(names, executor)
    )
    watch.lap("compute")
    chosen, stats = _aggregate(job, best)
    rows = contract.write_part(store, CHOSEN, chosen, _all_kept(len(chosen)))
    table = contract.write_part(store, CLASSES, stats, _all_kept(0))
    watch.lap("write")
    on_progress(len(names), len(names), "")
    manifest = Manifest(
        stage=STAGE,
        fingerprint=store.uri.rsplit("/", 1)[1],
        options=job.options.model_dump(),
        inputs={"scores": contract.link(job.scores)},
        parts=[contract.timed(rows, watch), table],
        seconds=time.perf_counter() - started,
        extra={"classes": list(job.classes), "seed": job.options.seed},
    )
    lease.check()
    return contract.publish(store, manifest)


def _grouped(names: Sequence[str], executor: Executor) -> list[tuple[str, ...]]:
    size = min(MAX_BATCH, -(-len(names) // (2 * executor.workers)) or 1)
    return [tuple(names[at : at + size]) for at in range(0, len(names), size)]


def _all_kept(rows: int) -> Counts:
    return Counts(rows, rows, 0)


def _chunk(job: _Job, names: Sequence[str]) -> Candidates:
    """The best candidates among a few parts."""
    return _combine(job, [_read_candidates(job, name) for name in names])


def _read_candidates(job: _Job, name: str) -> Candidates:
    schema = tables.scores(job.scored_p)
    table = contract.read_part(job.scores.store, name, schema)
    width = 1 if job.options.mode == "random_per_class" else min(job.options.top_p, job.scored_p)
    shape = (len(table), job.scored_p)
    labels_NP = _flat(table["labels"]).reshape(shape)[:, :width].astype(np.int32)
    log_odds_NP = _flat(table["log_odds"]).reshape(shape)[:, :width]
    ids_NP = np.repeat(table["image_id"].to_numpy(), width)
    everything = Candidates(
        labels=labels_NP.ravel(),
        image_ids=ids_NP,
        # Zero has two signs that compare as equal; one of them must win everywhere.
        log_odds=log_odds_NP.ravel() + np.float32(0),
        counts_C=np.bincount(labels_NP.ravel(), minlength=len(job.classes)),
        histogram_CB=_histogram(labels_NP.ravel(), log_odds_NP.ravel(), len(job.classes)),
    )
    return _keep_best(job, everything)


def _combine(job: _Job, several: list[Candidates]) -> Candidates:
    """The best candidates among those of several groups of parts."""
    merged = Candidates(
        labels=np.concatenate([one.labels for one in several]),
        image_ids=np.concatenate([one.image_ids for one in several]),
        log_odds=np.concatenate([one.log_odds for one in several]),
        counts_C=np.sum([one.counts_C for one in several], axis=0),
        histogram_CB=np.sum([one.histogram_CB for one in several], axis=0),
    )
    return _keep_best(job, merged)


def _keep_best(job: _Job, some: Candidates) -> Candidates:
    """The first K of each class in the total order; the counts stay as they are."""
    order = _total_order(job.options, some)
    labels = some.labels[order]
    starts = np.searchsorted(labels, labels, side="left")
    order = order[np.arange(len(labels)) - starts < job.options.k]
    return Candidates(
        labels=some.labels[order],
        image_ids=some.image_ids[order],
        log_odds=some.log_odds[order],
        counts_C=some.counts_C,
        histogram_CB=some.histogram_CB,
    )


def _total_order(options: TopkOptions, some: Candidates) -> npt.NDArray[np.intp]:
    """Positions sorted by (label, -log_odds, image_id), or by a hash instead of the log-odds."""
    if options.mode == "random_per_class":
        keys = hash_ids(some.image_ids, options.seed)
        return np.lexsort((some.image_ids, keys, some.labels))
    return np.lexsort((some.image_ids, -some.log_odds, some.labels))


def hash_ids(image_ids: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.uint64]:
    """A seeded 64-bit hash of each id (the finaliser of SplitMix64, a bijection for each seed)."""
    mixed = image_ids.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _aggregate(job: _Job, best: Candidates) -> tuple[pa.Table, pa.Table]:
    """The `chosen` and the `classes` table."""
    _check_every_class(job, best)
    # Random choices are ranked by score too: what is random is who they are.
    order = np.lexsort((best.image_ids, -best.log_odds, best.labels))
    labels = best.labels[order]
    ranks = np.arange(len(labels)) - np.searchsorted(labels, labels, side="left")
    log_odds = best.log_odds[order]
    columns = [labels, ranks.astype(np.int32), best.image_ids[order], log_odds]
    chosen = pa.Table.from_arrays([pa.array(column) for column in columns], schema=tables.CHOSEN)
    starts = np.searchsorted(labels, np.arange(len(job.classes) + 1))
    rows = [
        _class_row(job, best, label, log_odds[starts[label] : starts[label + 1]])
        for label in range(len(job.classes))
    ]
    return chosen, pa.Table.from_pylist(rows, schema=tables.CLASSES)


def _class_row(
    job: _Job, best: Candidates, label: int, log_odds: npt.NDArray[np.float32]
) -> dict[str, Any]:
    kept = len(log_odds)
    last = float(log_odds[-1])
    width = min(job.options.top_p, job.scored_p)
    probability = 1 / (1 + math.exp(-max(-700.0, last)))
    complete = width >= len(job.classes)
    certain = complete or (kept == job.options.k and probability > 1 / (width + 1))
    return {
        "label": label,
        "name": job.classes[label],
        "candidates": int(best.counts_C[label]),
        "kept": kept,
        "kth_log_odds": last,
        "ties_at_edge": int(np.count_nonzero(log_odds == log_odds[-1])),
        "certified": certain and job.options.mode == "per_class",
        "histogram": best.histogram_CB[label].tolist(),
    }


def _check_every_class(job: _Job, best: Candidates) -> None:
    empty = [name for name, count in zip(job.classes, best.counts_C, strict=True) if not count]
    if empty:
        raise ProtegeError(
            f"no image of the pile is a candidate for {', '.join(empty[:10])}"
            f"{' and others' if len(empty) > 10 else ''} ({len(empty)} classes): raise topk.top_p "
            f"(now {job.options.top_p}), or label more images of them"
        )


def _histogram(
    labels: npt.NDArray[np.int32], log_odds: npt.NDArray[np.float32], num_classes: int
) -> npt.NDArray[np.int64]:
    """Candidates per class and bin of log-odds, shape (C, bins)."""
    bins = len(HISTOGRAM_EDGES) - 1
    places = np.searchsorted(HISTOGRAM_EDGES, log_odds, side="right") - 1
    cells = labels.astype(np.int64) * bins + np.clip(places, 0, bins - 1)
    return np.bincount(cells, minlength=num_classes * bins).reshape(num_classes, bins)


def _flat(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = column.combine_chunks().flatten().to_numpy()
    return values
