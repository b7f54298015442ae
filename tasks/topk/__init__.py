"""topk: the exact K best images of every class, and other ways to choose.

In: `scores`, and the `signatures` of images whose near-duplicates may not be chosen. Out: `chosen`,
sorted by (label, rank), and `classes`, a row for each class. The order is total, (label, -log_odds,
image_id), so the same scores give the same bytes, whatever the order and grouping of the parts and
the number of workers.

A sample of the parts gives each class a floor, a value that its K-th best almost surely exceeds.
Then every part is scanned once, and only candidates above the floors are kept. They are combined in
a tree, near-duplicates are dropped, and the rest is ranked. reduction.py has these steps in their
order, docs/topk.md the reasons.
"Billion-scale semi-supervised learning" (Yalniz et al. 2019), section 3.2.

job.py           what is reduced, in which rounds
reduction.py     the steps
reader.py        the columns of a part of the scores
candidates.py    the pairs that can still be chosen, and floors
dedup.py         near-duplicates are dropped
crops.py         crops and brighter copies are dropped
views.py         what these are compared by
ranking.py       the table `chosen`
class_ranges.py  the candidates of a few classes, sorted
order.py         the total order
limits.py        bounds of memory and time
modes.py         the ways to choose
options.py       the options

    chosen = topk(root, scores, TopkOptions(k=16_000, top_p=10), exclude={"test": signatures})
"""

import functools
import logging
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
from tasks.duplicates.views import CROPS_VERSION
from tasks.topk.candidates import DROP_REASONS, HISTOGRAM_EDGES
from tasks.topk.job import ReductionJob
from tasks.topk.limits import DEFAULT_LIMITS, Limits
from tasks.topk.options import TopkOptions
from tasks.topk.order import Values, hash_ids
from tasks.topk.ranking import RoundResult
from tasks.topk.reader import Reader, check_ids
from tasks.topk.reduction import run_rounds

STAGE = "topk"
VERSION = 5
CLASSES = "classes.parquet"
LISTED_CLASSES = 10
logger = logging.getLogger(__name__)

__all__ = [
    "CLASSES",
    "HISTOGRAM_EDGES",
    "STAGE",
    "Limits",
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
    known_scores: Mapping[str, Output] = {},
    limits: Limits = DEFAULT_LIMITS,
    executor: Executor = Inline(),
    on_progress: OnProgress = silent,
) -> Output:
    """Choose, or take the output that is there.

    `exclude` are signatures of images whose near-duplicates may not be chosen, by DROP_REASONS, and
    `known_scores` the scores of these by the same teacher, for `options.drop_crops`.
    Raises ProtegeError when no class has a candidate, more is asked of P than was scored, or a part
    of the scores is damaged or has an image of another one.
    """
    classes, extra = scores.classes, scores.body["extra"]
    scored_p = extra["top_p"]
    if options.width(len(classes)) > scored_p:
        raise ProtegeError(
            f"topk.top_p is {options.top_p}, but only {scored_p} classes of each image were "
            f"scored: lower it, or raise score.top_p"
        )
    exclude = dict(exclude or {}) if options.drop_near_duplicates else {}
    known_scores = known_scores if options.drop_crops else {}
    for role in (*exclude, *known_scores):
        if role not in DROP_REASONS[1:]:
            known = " or ".join(DROP_REASONS[1:])
            raise ProtegeError(f"images can be excluded as {known}, not as {role}")
    content = {"duplicates_version": DUPLICATES_VERSION}
    if options.drop_crops:
        _check_descriptors(scores, known_scores)
        content["crops_version"] = CROPS_VERSION
    inputs = {
        "scores": scores,
        **exclude,
        **{f"{role}_scores": output for role, output in known_scores.items()},
    }
    target = Target(root, STAGE, VERSION, options, inputs, content=content)
    parts = scores.body["parts"]
    reduction = ReductionJob(
        uri=target.uri,
        reader=Reader(
            scores,
            scored_p,
            len(classes),
            len(parts),
            options,
            tables.scores_schema(extra),
        ),
        classes=tuple(classes),
        parts=tuple((part["name"], part["kept"]) for part in parts),
        exclude=exclude,
        known_scores=known_scores,
        limits=limits,
    )
    return make_output(target, functools.partial(_make, reduction, executor), on_progress)


def _check_descriptors(scores: Output, known_scores: Mapping[str, Output]) -> None:
    """Raise ProtegeError where crops cannot be found by these scores."""
    for output in (scores, *known_scores.values()):
        if not output.body["extra"].get("descriptors"):
            raise ProtegeError(
                f"topk.drop_crops needs the descriptors of the images, which {output.uri} has not: "
                "score with score.descriptors=true"
            )
        if _teacher_of(output) != _teacher_of(scores):
            raise ProtegeError(
                f"{output.uri} has the descriptors of another teacher than {scores.uri}: score "
                "both with one"
            )


def _teacher_of(scores: Output) -> Any:
    return scores.body["inputs"].get("teacher")


def read_chosen(chosen: Output) -> pa.Table:
    """The `chosen` table."""
    return contract.read_rows(chosen, tables.CHOSEN)


def read_classes(chosen: Output) -> pa.Table:
    """The `classes` table: a row for each class."""
    return contract.read_part(chosen.store, CLASSES, tables.CLASSES)


def count_dropped(row: Mapping[str, Any]) -> dict[str, int]:
    """Number of candidates dropped by reason, from a row of `classes`."""
    return {name: row[f"dropped_{name}"] for name in DROP_REASONS}


def describe_dropped(classes: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each reason for which candidates were dropped, from the rows of `classes`."""
    image = {
        "near_duplicates": "a better one",
        "labelled": "a labelled image",
        "test": "a test image",
    }
    dropped = [count_dropped(row) for row in classes]
    totals = {reason: sum(counts[reason] for counts in dropped) for reason in DROP_REASONS}
    return [
        f"{total:,} candidates dropped as near-duplicates of {image[reason]}"
        for reason, total in totals.items()
        if total
    ]


def _make(reduction: ReductionJob, executor: Executor, session: Session) -> Made:
    total, stopwatch = len(reduction.parts), Stopwatch()
    results: list[RoundResult] = []
    for result in run_rounds(reduction, executor, session.on_progress, stopwatch):
        if not results:
            names = [name for name, _ in reduction.parts]
            check_ids(reduction.reader, names, result.counts.spans_S3)
        results.append(result)
    _tell_empty_classes(reduction, results)
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
    detail = "its log-odds are not a number"
    rows = [
        {"image_id": image_id, "key": "", "reason": "not_finite", "detail": detail}
        for image_id in rejected.tolist()
    ]
    contract.write_rejects(store, 0, rows)
    reasons = contract.count_reasons((row["key"], row["reason"]) for row in rows)
    counted = replace(first, rows_in=first.kept + len(rows), rejected=len(rows), reasons=reasons)
    return [counted, *others]


def _write_classes(
    reduction: ReductionJob, store: Store, results: Sequence[RoundResult]
) -> Receipt:
    summaries = [summary for result in results for summary in result.summaries]
    counts = [result.counts for result in results]
    kept_C = np.concatenate([summary.kept_C for summary in summaries])
    last_log_odds_C = np.concatenate([summary.last_log_odds_C for summary in summaries])
    dropped_CR = np.concatenate([count.dropped_CR for count in counts])
    histogram_CB = np.concatenate([count.histogram_CB for count in counts])
    columns = [
        np.arange(len(reduction.classes), dtype=np.int32),
        list(reduction.classes),
        np.concatenate([count.candidates_C for count in counts]),
        kept_C.astype(np.int32),
        pa.array(last_log_odds_C, mask=kept_C == 0),
        pa.array(_probability(last_log_odds_C), mask=kept_C == 0),
        np.concatenate([summary.ties_C for summary in summaries]),
        *(dropped_CR[:, reason] for reason in range(len(DROP_REASONS))),
        _certified(reduction, kept_C, last_log_odds_C),
        list(histogram_CB * reduction.histogram_stride),
    ]
    fields = zip(columns, tables.CLASSES, strict=True)
    arrays = [pa.array(column, field.type) for column, field in fields]
    table = pa.Table.from_arrays(arrays, schema=tables.CLASSES)
    return contract.write_part(store, CLASSES, table, contract.RowCounts(0, 0, 0))


def _certified(
    reduction: ReductionJob, kept_C: npt.NDArray[np.int64], last_log_odds_C: Values
) -> npt.NDArray[np.bool_]:
    """Whether no class that was cut off from an image's P best could have ranked (docs/topk.md)."""
    options, count = reduction.options, len(reduction.classes)
    width = options.width(reduction.reader.scored_p)
    if options.rules.certification == "never":
        return np.zeros(count, bool)
    if options.rules.certification == "always" or width >= count:
        return np.ones(count, bool)
    full = kept_C == options.k
    if options.rules.across_classes:
        full = kept_C.sum() == options.k * count
    certified_C: npt.NDArray[np.bool_] = full & (_probability(last_log_odds_C) > 1 / (width + 1))
    return certified_C


def _probability(log_odds_C: Values) -> npt.NDArray[np.float64]:
    probability_C: npt.NDArray[np.float64] = 1 / (1 + np.exp(-log_odds_C.astype(np.float64)))
    return probability_C


def _tell_empty_classes(reduction: ReductionJob, results: Sequence[RoundResult]) -> None:
    """Warn of classes without a candidate, of which a long tail always has some.

    Raises ProtegeError when no class has any.
    """
    if reduction.options.rules.across_classes:
        return
    names = [
        reduction.classes[result.classes[label]]
        for result in results
        for label in np.flatnonzero(result.counts.candidates_C == 0).tolist()
    ]
    if not names:
        return
    others = " and others" if len(names) > LISTED_CLASSES else ""
    remedy = reduction.options.rules.remedy.format(options=reduction.options)
    text = (
        f"no image of the pile is a candidate for {', '.join(names[:LISTED_CLASSES])}{others} "
        f"({len(names):,} of {len(reduction.classes):,} classes): {remedy}, or label more images "
        "of them"
    )
    if len(names) == len(reduction.classes):
        raise ProtegeError(text)
    logger.warning("%s", text)
