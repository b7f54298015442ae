"""evaluate: every measure of some models, and of the choice of images.

In: labelled test sets and models, both by name; optionally the chosen images. Out: `metrics`, a row
for each figure.

    measured = evaluate(root, test, {"student": student, "baseline": baseline})
    figure(read_metrics(measured), "student", "top1")

The predictions of each model on each test set are outputs of their own (predictions.py), so that
another model in the comparison costs no more than its own predictions. What is measured of models
is in protocols/, one file each. Measures of the choice (choice.py): view_agreement, which needs no
labels, and precision, against an audit list.
"""

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from infra.errors import ProtegeError
from infra.executors import Executor, Inline
from infra.store import Store
from tasks import contract
from tasks.contract import (
    Made,
    OnProgress,
    Output,
    Receipt,
    RowCounts,
    Session,
    Target,
    make_output,
    output_at,
    silent,
)
from tasks.evaluate.chance import check_better_than_chance
from tasks.evaluate.choice import audit_digest, measure_choice
from tasks.evaluate.interval import wilson
from tasks.evaluate.metrics import METRICS, Row, figure, metrics_table, read_metrics
from tasks.evaluate.options import Choice, EvaluateOptions, PredictOptions
from tasks.evaluate.predictions import PREDICTIONS, predict, read_predictions
from tasks.evaluate.protocols import Predictions, accuracy
from tasks.evaluate.suspect_classes import (
    SuspectClass,
    counts_above,
    find_suspect_classes,
    median_class,
)
from tasks.images import IMAGES_VERSION

STAGE = "evaluate"
VERSION = 5
TEST = "test"  # the name of the only test set
NOT_FINITE = "not_finite"
logger = logging.getLogger(__name__)

__all__ = [
    "METRICS",
    "TEST",
    "Choice",
    "EvaluateOptions",
    "PredictOptions",
    "Row",
    "SuspectClass",
    "check_better_than_chance",
    "counts_above",
    "evaluate",
    "figure",
    "find_suspect_classes",
    "median_class",
    "predict",
    "predictions_in",
    "read_metrics",
    "read_predictions",
    "wilson",
]


@dataclass(frozen=True)
class EvaluateJob:
    """What is measured: predictions by (data set, model), and perhaps the choice."""

    options: EvaluateOptions
    predicted: Mapping[tuple[str, str], Output]
    classes: list[str]
    compare: tuple[str, str] | None
    choice: Choice | None


def evaluate(
    root: Store,
    test: Output | Mapping[str, Output],
    models: Mapping[str, Output],
    options: EvaluateOptions = EvaluateOptions(),
    *,
    compare: tuple[str, str] | None = None,
    choice: Choice | None = None,
    executor: Executor = Inline(),
    on_progress: OnProgress = silent,
) -> Output:
    """Measure, or take the output that is there.

    `test` is a labelled set of images, or several by name. `compare` names two of the models: the
    gain is that of the first over the second. Images that cannot be decoded are left out and said.
    Raises ProtegeError for models of different classes, answers that are not finite, a test set
    without a usable image, or an audit list that cannot be read; Failures for a test class that
    the models do not know.
    """
    tests = {TEST: test} if isinstance(test, Output) else test
    classes = _common_classes(models)
    audit = audit_digest(options)
    predicted = _predict_all(root, tests, models, options, executor, on_progress)
    inputs = {_role(model, dataset): output for (dataset, model), output in predicted.items()}
    if choice is not None:
        inputs |= {"images": choice.images, "chosen": choice.chosen, "judge": choice.teacher}
    content = {
        "compare": list(compare or ()),
        "images_version": IMAGES_VERSION,
        "audit": audit,
    }
    target = Target(root, STAGE, VERSION, options, inputs, content=content)
    job = EvaluateJob(options, predicted, classes, compare, choice)
    return make_output(target, functools.partial(_make, job, executor), on_progress)


def predictions_in(measured: Output, model: str, dataset: str = TEST) -> Output:
    """The predictions that the figures of a model rest on. Raises ProtegeError."""
    inputs = measured.body["inputs"]
    if _role(model, dataset) not in inputs:
        raise ProtegeError(f"{measured.uri}: {model} was not measured on {dataset}")
    manifest = inputs[_role(model, dataset)]["manifest"]
    return output_at(f"{measured.root.uri}/{manifest}", PREDICTIONS)


def _role(model: str, dataset: str) -> str:
    """What an output of evaluate calls the predictions of a model on a data set."""
    return f"{model} on {dataset}"


def _common_classes(models: Mapping[str, Output]) -> list[str]:
    """The classes that all models know, by label. Raises ProtegeError where they differ."""
    names = {model: output.classes for model, output in models.items()}
    first = next(iter(names))
    for model, classes in names.items():
        if classes != names[first]:
            raise ProtegeError(
                f"{model} and {first} know different classes: measure them one after the other"
            )
    return names[first]


def _predict_all(
    root: Store,
    tests: Mapping[str, Output],
    models: Mapping[str, Output],
    options: EvaluateOptions,
    executor: Executor,
    on_progress: OnProgress,
) -> dict[tuple[str, str], Output]:
    """The predictions of every model on every data set, in the order of their names."""
    predicted, predict_options = {}, PredictOptions(batch_size=options.batch_size)
    shards = {dataset: len(contract.part_names(images)) for dataset, images in tests.items()}
    done, total = 0, len(models) * sum(shards.values())
    for dataset, images in sorted(tests.items()):
        for model, weights in sorted(models.items()):
            output = predict(
                root,
                weights,
                images,
                predict_options,
                executor=executor,
                on_progress=functools.partial(_report, on_progress, done, total),
            )
            _check_finite(output, model, images)
            predicted[dataset, model] = output
            done += shards[dataset]
        _tell_unusable(output, images)
    return predicted


def _report(on_progress: OnProgress, before: int, total: int, done: int, _: int, note: str) -> None:
    on_progress(before + done, total, note)


def _check_finite(predicted: Output, model: str, images: Output) -> None:
    """Raise ProtegeError for a model whose answers are no numbers, wherever that may be."""
    count = contract.reject_reasons(predicted).get(NOT_FINITE) if predicted.rejected else None
    if count:
        raise ProtegeError(
            f"{model} has no prediction for {count:,} of the {predicted.rows_in:,} images of "
            f"{images.uri} ({count} {NOT_FINITE}): train {model} again with a lower learning rate"
        )


def _tell_unusable(predicted: Output, images: Output) -> None:
    """Say how many images no model is measured on. Raises ProtegeError when none is left.

    They are the same for all models: what cannot be decoded is nobody's answer.
    """
    if not predicted.rejected:
        return
    reasons = contract.reject_reasons(predicted)
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    text = (
        f"{predicted.rejected:,} of the {predicted.rows_in:,} images of {images.uri} cannot be "
        f"used ({counts})"
    )
    if not predicted.kept:
        raise ProtegeError(f"{text}, so that nothing can be measured: give other test images")
    logger.warning("%s, and no model is measured on them", text)


def _make(job: EvaluateJob, executor: Executor, session: Session) -> Made:
    rows = list(accuracy.measure(_read_all(job), len(job.classes), job.compare))
    if job.choice is not None:
        # On a worker, where the teacher and a GPU may be, and torch is loaded already.
        measure = functools.partial(measure_choice, job.options, classes=job.classes)
        rows += [row for found in executor.on_gpus().run(measure, [job.choice]) for row in found]
    table = metrics_table(rows)
    counts = RowCounts(len(table), len(table), 0)
    receipt = contract.write_part(session.store, METRICS, table, counts)
    # Predictions are no step of a recipe by themselves, so their time is counted here.
    just_made = [output for output in job.predicted.values() if not output.reused]
    datasets, models = (sorted(set(names)) for names in zip(*job.predicted))
    extra = {
        "classes": job.classes,
        "datasets": datasets,
        "models": models,
        "seed": job.options.seed,
    }
    seconds_before = sum(output.seconds for output in just_made)
    return Made([_with_work(receipt, just_made)], extra, seconds_before=seconds_before)


def _with_work(receipt: Receipt, predicted: Sequence[Output]) -> Receipt:
    """The receipt with the seconds of each kind of work that predictions took."""
    seconds: dict[str, float] = {}
    for output in predicted:
        for kind, value in output.body["work_seconds"].items():
            seconds[kind] = seconds.get(kind, 0.0) + value
    return replace(receipt, seconds=seconds)


def _read_all(job: EvaluateJob) -> Predictions:
    found: dict[str, dict[str, pa.Table]] = {}
    for (dataset, model), predicted in job.predicted.items():
        found.setdefault(dataset, {})[model] = read_predictions(predicted)
    return found
