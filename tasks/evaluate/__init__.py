"""evaluate: every measure of the models of a campaign.

In: a labelled test set and the models by role; optionally the chosen images, for measures of the
choice. Out: `predictions`, a row for each model and test image, and `metrics`.

    measured = evaluate(root, test, {"student": student}, EvaluateOptions())

Measures of a model: top1, top5, loss (nats), calibration_error (15 bins, Guo et al. 2017), top1 of
each class, and for `student` the difference to `baseline`, image by image, with its standard error.
Measures of the choice: view_agreement (no labels needed) and precision (against an audit list).
"""

import functools
from collections.abc import Mapping, Sequence

import pyarrow as pa

from infra.executors import Executor, Inline
from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import (
    Made,
    OnProgress,
    Output,
    Receipt,
    RowCounts,
    Session,
    Target,
    make_output,
    run_shards,
    silent,
)
from tasks.evaluate.choice import audit_digest, measure_choice
from tasks.evaluate.measures import measure_models
from tasks.evaluate.options import Choice, EvaluateOptions
from tasks.evaluate.predictions import PredictJob, predict
from tasks.images import IMAGES_VERSION

STAGE = "evaluate"
VERSION = 3
METRICS = "metrics.parquet"

__all__ = ["METRICS", "Choice", "EvaluateOptions", "evaluate", "figure", "read_metrics"]


def evaluate(
    root: Store,
    test: Output,
    models: Mapping[str, Output],
    options: EvaluateOptions = EvaluateOptions(),
    *,
    choice: Choice | None = None,
    executor: Executor = Inline(),
    on_progress: OnProgress = silent,
) -> Output:
    """Measure, or take the output that is there.

    Raises ProtegeError for a test class that the models do not know, or an audit list that cannot
    be read.
    """
    inputs = {"test": test, **models}
    if choice is not None:
        inputs |= {"images": choice.images, "chosen": choice.chosen, "judge": choice.teacher}
    content = {
        "models": sorted(models),
        "images_version": IMAGES_VERSION,
        "audit": audit_digest(options),
    }
    target = Target(root, STAGE, VERSION, options, inputs, content=content)
    classes = next(iter(models.values())).classes
    job = PredictJob(target.uri, options, test, dict(sorted(models.items())), classes)
    make = functools.partial(_make, job, choice, executor)
    return make_output(target, make, on_progress)


def _make(job: PredictJob, choice: Choice | None, executor: Executor, session: Session) -> Made:
    count = len(job.models) * len(contract.part_names(job.test))
    make_part = functools.partial(predict, job)
    receipts = run_shards(session.store, range(count), make_part, executor, session.on_progress)
    table = _metrics(job, receipts, choice, executor)
    counts = RowCounts(len(table), len(table), 0)
    metrics = contract.write_part(session.store, METRICS, table, counts)
    extra = {"classes": job.classes, "models": list(job.models), "seed": job.options.seed}
    return Made([*receipts, Receipt(METRICS, 0, 0, 0, metrics.digest)], extra)


def _metrics(
    job: PredictJob, receipts: Sequence[Receipt], choice: Choice | None, executor: Executor
) -> pa.Table:
    store = open_store(job.uri)
    predictions = pa.concat_tables(
        contract.read_part(store, receipt.name, tables.PREDICTIONS) for receipt in receipts
    )
    rows = measure_models(predictions, len(job.classes))
    if choice is not None:
        # On a worker, where the teacher and a GPU may be, and torch is loaded already.
        measure = functools.partial(measure_choice, job.options, classes=job.classes)
        rows += [row for found in executor.run(measure, [choice]) for row in found]
    return pa.Table.from_pylist(rows, schema=tables.METRICS)


def read_metrics(measured: Output) -> pa.Table:
    """The `metrics` table."""
    return contract.read_part(measured.store, METRICS, tables.METRICS)


def figure(metrics: pa.Table, model: str, measure: str) -> float | None:
    """One figure over all classes, or None when it was not measured."""
    for row in metrics.to_pylist():
        if (row["model"], row["measure"], row["label"]) == (model, measure, None):
            return float(row["value"])
    return None
