"""topk: the exact K best images of every class, and other ways to choose.

In: `scores`, and the `signatures` of images that may not be chosen. Out: `chosen`, sorted by
(label, rank), and `classes`, a row for each class. The order is total, (label, -log_odds,
image_id), so the same scores give the same bytes, whatever the order and grouping of the parts and
the number of workers.

A sample of the parts tells of each class a floor, a value that the K-th best surely exceeds. Then
every part is looked at once, and only what is above the floors goes on (`Pile`); few candidates
are left of many, and they are brought together (`combine`), freed of copies (`guard`) and ranked
(`choose`). `look` has these steps, docs/topk.md the reasons.
"Billion-scale semi-supervised learning" (Yalniz et al. 2019), section 3.2.

    chosen = topk(root, scores, TopkOptions(k=16_000, top_p=10), exclude={"test": signatures})
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import ProtegeError
from infra.executors import Executor, Inline
from infra.store import Store
from tasks import contract, tables
from tasks.contract import (
    Made,
    OnProgress,
    Output,
    Receipt,
    Session,
    Stopwatch,
    Target,
    make_output,
    silent,
)
from tasks.duplicates.matching import DUPLICATES_VERSION
from tasks.topk.candidates import DROP_REASONS, HISTOGRAM_EDGES
from tasks.topk.options import TopkOptions
from tasks.topk.order import Values, hash_ids
from tasks.topk.ranking import RoundResult
from tasks.topk.reader import Reader, check_ids
from tasks.topk.reduction import ReductionJob, run_rounds

STAGE = "topk"
VERSION = 4
CLASSES = "classes.parquet"

__all__ = [
    "CLASSES",
    "HISTOGRAM_EDGES",
    "STAGE",
    "TopkOptions",
    "count_dropped",
    "describe_dropped",
    "hash_ids",
    "read_chosen",
    "read_classes",
    "topk",
]


def topk(
    root: Store,
    scores: Output,
    options: TopkOptions = TopkOptions(),
    *,
    exclude: Mapping[str, Output] | None = None,
    executor: Executor = Inline(),
    on_progress: OnProgress = silent,
) -> Output:
    """Choose, or take the output that is there.

    `exclude` are signatures of images whose near-duplicates may not be chosen, by DROP_REASONS.
    Raises ProtegeError when a class has no candidate, more is asked of P than was scored, or a part
    of the scores is damaged or has an image of another one.
    """
    classes, scored_p = scores.classes, scores.body["extra"]["top_p"]
    if options.width(len(classes)) > scored_p:
        raise ProtegeError(
            f"topk.top_p is {options.top_p}, but only {scored_p} classes of each image were "
            f"scored: lower it, or raise score.top_p"
        )
    exclude = dict(exclude or {}) if options.drop_near_duplicates else {}
    if not exclude.keys() <= set(DROP_REASONS[1:]):
        known = " or ".join(DROP_REASONS[1:])
        raise ProtegeError(f"signatures can be excluded as {known}, not as {', '.join(exclude)}")
    inputs = {"scores": scores, **exclude}
    content = {"duplicates_version": DUPLICATES_VERSION}
    target = Target(root, STAGE, VERSION, options, inputs, content=content)
    parts = scores.body["parts"]
    reduction = ReductionJob(
        uri=target.uri,
        reader=Reader(scores, scored_p, len(classes), len(parts), options),
        classes=tuple(classes),
        parts=tuple((part["name"], part["kept"]) for part in parts),
        exclude=exclude,
    )
    return make_output(target, functools.partial(_make, reduction, executor), on_progress)


def read_chosen(chosen: Output) -> pa.Table:
    """The `chosen` table."""
    return contract.read_rows(chosen, tables.CHOSEN)


def read_classes(chosen: Output) -> pa.Table:
    """The `classes` table: a row for each class."""
    return contract.read_part(chosen.store, CLASSES, tables.CLASSES)


def count_dropped(row: Mapping[str, Any]) -> dict[str, int]:
    """How many candidates of a class, a row of `classes`, were left out, by reason."""
    return {name: row[f"dropped_{name}"] for name in DROP_REASONS}


def describe_dropped(classes: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each reason for which candidates were dropped, from the rows of `classes`."""
    what = {
        "near_duplicates": "a better one",
        "labelled": "a labelled image",
        "test": "a test image",
    }
    each = [count_dropped(row) for row in classes]
    counts = {name: sum(one[name] for one in each) for name in DROP_REASONS}
    return [
        f"{count:,} candidates dropped as near-duplicates of {what[name]}"
        for name, count in counts.items()
        if count
    ]


def _make(reduction: ReductionJob, executor: Executor, session: Session) -> Made:
    total, stopwatch = len(reduction.parts), Stopwatch()
    results: list[RoundResult] = []
    for result in run_rounds(reduction, executor, session.on_progress, stopwatch):
        if not results:
            names = [name for name, _ in reduction.parts]
            check_ids(reduction.reader, names, result.counts.spans_S3)
        _check_every_class(reduction, result)
        results.append(result)
    first, *others = _with_rejects(session.store, results)
    classes = _write_classes(reduction, session.store, results)
    stopwatch.lap("write")
    session.on_progress(total, total, "")
    extra = {"classes": list(reduction.classes), "seed": reduction.options.seed}
    return Made([contract.timed(first, stopwatch), *others, classes], extra)


def _with_rejects(store: Store, results: Sequence[RoundResult]) -> list[Receipt]:
    """The receipts of the parts; the first one counts the images that could not be ranked."""
    first, *others = [part for result in results for part in result.parts]
    rejected = np.sort(results[0].counts.not_finite)
    detail = {"key": "", "reason": "not_finite", "detail": "its log-odds are not a number"}
    rows = [{"image_id": image_id, **detail} for image_id in rejected.tolist()]
    contract.write_rejects(store, 0, rows)
    return [replace(first, rows_in=first.kept + len(rows), rejected=len(rows)), *others]


def _write_classes(
    reduction: ReductionJob, store: Store, results: Sequence[RoundResult]
) -> Receipt:
    per_class = [one for result in results for one in result.per_class]
    counts = [result.counts for result in results]
    kept_C = np.concatenate([one.kept_C for one in per_class])
    last_log_odds_C = np.concatenate([one.last_log_odds_C for one in per_class])
    dropped_CR = np.concatenate([one.dropped_CR for one in counts])
    columns = [
        np.arange(len(reduction.classes), dtype=np.int32),
        list(reduction.classes),
        np.concatenate([one.candidates_C for one in counts]),
        kept_C.astype(np.int32),
        pa.array(last_log_odds_C, mask=kept_C == 0),
        pa.array(_probability(last_log_odds_C), mask=kept_C == 0),
        np.concatenate([one.ties_C for one in per_class]),
        *(dropped_CR[:, reason] for reason in range(len(DROP_REASONS))),
        _certified(reduction, kept_C, last_log_odds_C),
        list(np.concatenate([one.histogram_CB for one in counts]) * reduction.histogram_stride),
    ]
    arrays = [pa.array(one, kind.type) for one, kind in zip(columns, tables.CLASSES, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=tables.CLASSES)
    return contract.write_part(store, CLASSES, table, contract.RowCounts(0, 0, 0))


def _certified(
    reduction: ReductionJob, kept_C: npt.NDArray[np.int64], last_log_odds_C: Values
) -> npt.NDArray[np.bool_]:
    """Whether no class that was cut off from an image's P best could have ranked (docs/topk.md)."""
    width, options = reduction.options.width(reduction.reader.scored_p), reduction.options
    if options.random or options.best_class_only:
        return np.zeros(len(kept_C), bool)
    if options.by_tag or width >= len(reduction.classes):
        return np.ones(len(kept_C), bool)
    whole = options.across_classes
    full = kept_C.sum() == options.k * len(kept_C) if whole else kept_C == options.k
    certified_C: npt.NDArray[np.bool_] = full & (_probability(last_log_odds_C) > 1 / (width + 1))
    return certified_C


def _probability(log_odds_C: Values) -> npt.NDArray[np.float64]:
    probability_C: npt.NDArray[np.float64] = 1 / (1 + np.exp(-log_odds_C.astype(np.float64)))
    return probability_C


def _check_every_class(reduction: ReductionJob, result: RoundResult) -> None:
    if reduction.options.across_classes:
        return
    lacking = np.flatnonzero(result.counts.candidates_C == 0)
    empty = [reduction.classes[result.classes[label]] for label in lacking.tolist()]
    if empty:
        others = " and others" if len(empty) > 10 else ""
        raise ProtegeError(
            f"no image of the pile is a candidate for {', '.join(empty[:10])}{others} "
            f"({len(empty)} classes): {_remedy(reduction.options)}, or label more images of them"
        )


def _remedy(options: TopkOptions) -> str:
    if options.by_tag:
        return "the images need tags that are called like the classes"
    if options.mode == "threshold_balance":
        return f"lower topk.threshold (now {options.threshold:g})"
    return f"raise topk.top_p (now {options.top_p})"
