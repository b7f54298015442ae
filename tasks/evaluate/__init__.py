"""evaluate: every measure of the models of a campaign.

In: a labelled test set and the models by role; optionally the chosen images, for measures of the
choice. Out: `predictions`, a row for each model and test image, and `metrics`.

    measured = evaluate(root, EvaluateOptions(), test, {"student": student}, executor)

Measures of a model: top1, top5, loss (nats), calibration_error (15 bins, Guo et al. 2017), top1 of
each class, and for `student` the difference to `baseline`, image by image, with its standard error.
Measures of the choice: view_agreement (no labels needed) and precision (against an audit list).
"""

import functools
import time
from collections.abc import Mapping, Sequence

import pyarrow as pa

from infra.executors import Executor
from infra.lease import Lease
from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import (
    Manifest,
    OnProgress,
    Output,
    Receipt,
    RowCounts,
    once,
    run_shards,
    silent,
)
from tasks.evaluate.choice import audit_digest, measure_choice
from tasks.evaluate.measures import measure_models
from tasks.evaluate.options import Choice, EvaluateOptions
from tasks.evaluate.predictions import PredictJob, predict
from tasks.images import IMAGES_VERSION

STAGE = "evaluate"
VERSION = 1
METRICS = "metrics.parquet"

__all__ = ["METRICS", "Choice", "EvaluateOptions", "evaluate", "figure", "read_metrics"]


def evaluate(
    root: Store,
    options: EvaluateOptions,
    test: Output,
    models: Mapping[str, Output],
    executor: Executor,
    on_progress: OnProgress = silent,
    *,
    choice: Choice | None = None,
) -> Output:
    """Measure, or take the output that is there.

    Raises ProtegeError for a test class that the models do not know, or an audit list that cannot
    be read.
    """
    inputs = {"test": test, **models}
    if choice is not None:
        inputs |= {"images": choice.images, "chosen": choice.chosen, "judge": choice.teacher}
    content = [options.content(), sorted(models), IMAGES_VERSION, audit_digest(options)]
    digests = [inputs[name].digest for name in sorted(inputs)]
    fingerprint = contract.fingerprint_of(STAGE, VERSION, {"evaluate": content}, digests)
    store = open_store(f"{root.uri}/{STAGE}/{fingerprint}")
    classes = contract.load_manifest(next(iter(models.values())))["extra"]["classes"]
    job = PredictJob(store.uri, options, test, dict(sorted(models.items())), classes)
    make = functools.partial(_make, job, inputs, choice, executor)
    return once(store, make, on_progress, inputs=inputs)


def _make(
    job: PredictJob,
    inputs: Mapping[str, Output],
    choice: Choice | None,
    executor: Executor,
    lease: Lease,
    on_progress: OnProgress,
) -> Output:
    started = time.perf_counter()
    store = open_store(job.uri)
    count = len(job.models) * len(contract.part_names(job.test))
    make = functools.partial(predict, job)
    receipts = run_shards(store, range(count), make, executor, on_progress)
    table = _metrics(job, receipts, choice, executor)
    metrics = contract.write_part(store, METRICS, table, RowCounts(len(table), len(table), 0))
    models = [name for name in inputs if name in job.models]
    manifest = Manifest(
        stage=STAGE,
        fingerprint=store.uri.rsplit("/", 1)[1],
        options=job.options.model_dump(),
        inputs={name: contract.link(output) for name, output in inputs.items()},
        parts=[*receipts, Receipt(METRICS, 0, 0, 0, metrics.digest)],
        seconds=time.perf_counter() - started,
        extra={"classes": job.classes, "models": models, "seed": job.options.seed},
    )
    lease.check()
    return contract.publish(store, manifest)


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
