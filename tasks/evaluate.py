"""evaluate: every measure of the models of a campaign.

In: a labelled test set and the models by role; optionally the chosen images, for measures of the
choice. Out: `predictions`, a row for each model and test image, and `metrics`.

    measured = evaluate(root, EvaluateOptions(), test, {"student": student}, executor)

Measures of a model: top1, top5, loss (nats), calibration_error (15 bins, Guo et al. 2017), top1 of
each class, and for `student` the difference to `baseline`, image by image, with its standard error.
Measures of the choice: view_agreement (no labels needed) and precision (against an audit list).
"""

import csv
import functools
import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from infra.cluster import Executor
from infra.errors import ProtegeError
from infra.storage import Store, open_store, split_uri
from tasks import contract, tables
from tasks.contract import Counts, Manifest, OnProgress, Output, Receipt, Stopwatch, silent
from tasks.images import IMAGES_VERSION, Limits, Unusable, decode, square
from tasks.options import Options
from tasks.shard import read_images
from tasks.topk import read_chosen
from tasks.work import run_shards

STAGE = "evaluate"
VERSION = 1
PREDICTIONS = "predictions.parquet"
METRICS = "metrics.parquet"
CALIBRATION_BINS = 15
TOP = 5


class EvaluateOptions(Options):
    """What is measured, and on how many images at a time."""

    batch_size: int = Field(256, ge=1, le=65_536)
    """Images in a forward pass."""
    views: int = Field(8, ge=0, le=64)
    """Changed views of each sampled image on which the teacher is asked again; 0 skips this."""
    view_images: int = Field(50, ge=1, le=10_000)
    """Chosen images of each class that are sampled for that."""
    audit: str = ""
    """A list (.csv: key, label) of true classes in the pile, only to report the precision."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Decides the views."""


@dataclass(frozen=True)
class Choice:
    """The chosen images and what they were chosen from, by whom."""

    images: Output
    chosen: Output
    teacher: Output


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
    started = time.perf_counter()
    inputs = {"test": test, **models}
    if choice is not None:
        inputs |= {"images": choice.images, "chosen": choice.chosen, "judge": choice.teacher}
    content = [options.content(), sorted(models), IMAGES_VERSION, _audit_digest(options)]
    digests = [inputs[name].digest for name in sorted(inputs)]
    fingerprint = contract.fingerprint_of(STAGE, VERSION, {"evaluate": content}, digests)
    store = open_store(f"{root.uri}/{STAGE}/{fingerprint}")
    output = contract.find_output(store)
    if output is not None:
        return output
    classes = contract.load_manifest(next(iter(models.values())))["extra"]["classes"]
    predict = functools.partial(
        _predict, _Job(store.uri, options, test, dict(sorted(models.items())), classes)
    )
    count = len(models) * len(contract.part_names(test))
    receipts = run_shards(store, range(count), predict, executor, on_progress)
    predictions = pa.concat_tables(
        contract.read_part(store, receipt.name, tables.PREDICTIONS) for receipt in receipts
    )
    rows = measure_models(predictions, len(classes))
    if choice is not None:
        # On a worker, where the teacher and a GPU may be, and torch is loaded already.
        measure = functools.partial(_measure_choice, options, classes=classes)
        rows += [row for found in executor.run(measure, [choice]) for row in found]
    table = pa.Table.from_pylist(rows, schema=tables.METRICS)
    metrics = contract.write_part(store, METRICS, table, Counts(len(table), len(table), 0))
    manifest = Manifest(
        stage=STAGE,
        fingerprint=fingerprint,
        options=options.model_dump(),
        inputs={name: contract.link(output) for name, output in inputs.items()},
        parts=[*receipts, Receipt(METRICS, 0, 0, 0, metrics.digest)],
        seconds=time.perf_counter() - started,
        extra={"classes": classes, "models": list(models), "seed": options.seed},
    )
    return contract.publish(store, manifest)


def read_metrics(measured: Output) -> pa.Table:
    """The `metrics` table."""
    return contract.read_part(measured.store, METRICS, tables.METRICS)


def figure(metrics: pa.Table, model: str, measure: str) -> float | None:
    """One figure over all classes, or None when it was not measured."""
    for row in metrics.to_pylist():
        if (row["model"], row["measure"], row["label"]) == (model, measure, None):
            return float(row["value"])
    return None


# ---------------------------------------------------------------------------------- predictions


@dataclass(frozen=True)
class _Job:
    uri: str
    options: EvaluateOptions
    test: Output
    models: dict[str, Output]
    classes: list[str]


def _predict(job: _Job, number: int) -> Receipt:
    """Predictions of one model on one shard; the number counts shards within models."""
    shards = contract.part_names(job.test)
    role = list(job.models)[number // len(shards)]
    shard = int(shards[number % len(shards)].removeprefix("part-").split(".")[0])
    watch = Stopwatch()
    table = read_images(job.test, shard, ["label"])
    watch.lap("read")
    logits_NC = _logits(job.models[role], table["image"].to_pylist(), job.options.batch_size)
    watch.lap("compute")
    labels_N = _label_indices(table["label"].to_pylist(), job.classes, job.test)
    predictions = _predictions(role, table["image_id"].to_numpy(), labels_N, logits_NC)
    rows = len(predictions)
    store = open_store(job.uri)
    name = contract.part_name(number)
    receipt = contract.write_part(store, name, predictions, Counts(rows, rows, 0))
    return contract.timed(receipt, watch)


def _logits(model: Output, images: list[bytes], batch_size: int) -> npt.NDArray[np.float32]:
    from tasks.predict import load_model

    loaded = load_model(model)
    inputs = loaded.description.inputs
    pieces = [np.zeros((0, len(loaded.description.classes)), np.float32)]
    for at in range(0, len(images), batch_size):
        try:
            batch = [
                square(decode(data, Limits()), inputs.size, inputs.resize)
                for data in images[at : at + batch_size]
            ]
        except Unusable as unusable:
            raise ProtegeError(
                f"a test image cannot be decoded ({unusable}): shard the test set with "
                "verify=decode, which rejects such images"
            ) from unusable
        pieces.append(loaded.logits(np.stack(batch)).cpu().numpy())
    return np.concatenate(pieces)


def _label_indices(
    labels: list[str | None], classes: list[str], test: Output
) -> npt.NDArray[np.int32]:
    index = {name: place for place, name in enumerate(classes)}
    unknown = sorted({str(label) for label in labels if label not in index})
    if unknown:
        raise ProtegeError(
            f"{test.uri}: the test images have classes that no labelled image has: "
            f"{', '.join(unknown[:5])}. Label some, or take them out of the test set"
        )
    return np.array([index[str(label)] for label in labels], np.int32)


def _predictions(
    role: str,
    ids: npt.NDArray[np.int64],
    labels_N: npt.NDArray[np.int32],
    logits_NC: npt.NDArray[np.float32],
) -> pa.Table:
    logits_NC = logits_NC.astype(np.float64)
    shifted_NC = logits_NC - logits_NC.max(axis=1, keepdims=True)
    log_p_NC = shifted_NC - np.log(np.exp(shifted_NC).sum(axis=1, keepdims=True))
    true_N = logits_NC[np.arange(len(ids)), labels_N]
    columns = [
        pa.array([role] * len(ids), pa.string()),
        pa.array(ids),
        pa.array(labels_N),
        pa.array(logits_NC.argmax(axis=1).astype(np.int32)),
        pa.array((logits_NC > true_N[:, None]).sum(axis=1).astype(np.int32)),
        pa.array(np.exp(log_p_NC.max(axis=1)).astype(np.float32)),
        pa.array((-log_p_NC[np.arange(len(ids)), labels_N]).astype(np.float32)),
    ]
    return pa.Table.from_arrays(columns, schema=tables.PREDICTIONS)


# ------------------------------------------------------------------------------------- measures


def measure_models(predictions: pa.Table, num_classes: int) -> list[dict[str, Any]]:
    """Rows of `metrics` for every model in the predictions."""
    rows: list[dict[str, Any]] = []
    correct: dict[str, npt.NDArray[np.float64]] = {}
    for model in dict.fromkeys(predictions["model"].to_pylist()):
        mine = predictions.filter(pa.compute.equal(predictions["model"], model))
        mine = mine.sort_by("image_id")
        right = (mine["predicted"].to_numpy() == mine["label"].to_numpy()).astype(float)
        correct[model] = right
        rows += _measure_model(model, mine, right, num_classes)
    if {"student", "baseline"} <= set(correct):
        gain = correct["student"] - correct["baseline"]
        error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else 0.0
        rows.append(_row("student", "gain", None, float(gain.mean()), len(gain)))
        rows.append(_row("student", "gain_standard_error", None, error, len(gain)))
    return rows


def _measure_model(
    model: str, mine: pa.Table, right: npt.NDArray[np.float64], num_classes: int
) -> list[dict[str, Any]]:
    labels, confidence = mine["label"].to_numpy(), mine["confidence"].to_numpy()
    count = len(mine)
    rows = [
        _row(model, "top1", None, float(right.mean()), count),
        _row(model, "loss", None, float(mine["loss"].to_numpy().mean()), count),
        _row(model, "calibration_error", None, calibration_error(right, confidence), count),
    ]
    if num_classes > TOP:
        top = float((mine["rank"].to_numpy() < TOP).mean())
        rows.append(_row(model, "top5", None, top, count))
    for label in np.unique(labels).tolist():
        inside = labels == label
        value = float(right[inside].mean())
        rows.append(_row(model, "top1", label, value, int(inside.sum())))
    return rows


def calibration_error(right: npt.NDArray[np.float64], confidence: npt.NDArray[np.float32]) -> float:
    """Expected calibration error over 15 equal bins (Guo et al. 2017, equation 3)."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    total = 0.0
    for number in range(CALIBRATION_BINS):
        inside = bins == number
        if inside.any():
            total += abs(right[inside].mean() - confidence[inside].mean()) * inside.mean()
    return float(total)


def _row(model: str, measure: str, label: int | None, value: float, count: int) -> dict[str, Any]:
    return {"model": model, "measure": measure, "label": label, "value": value, "count": count}


# --------------------------------------------------------------------------------------- choice


def _measure_choice(
    options: EvaluateOptions, choice: Choice, classes: list[str]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    table = read_chosen(choice.chosen)
    if options.views:
        rows += _view_agreement(options, choice, table, len(classes))
    if options.audit:
        rows += _precision(options, choice, table, classes)
    return rows


def _view_agreement(
    options: EvaluateOptions, choice: Choice, chosen: pa.Table, num_classes: int
) -> list[dict[str, Any]]:
    """How often the teacher stays with the class when it sees a chosen image changed a little.

    A class that fills with what is none of its kind is recognised by a shortcut, and falls apart
    here; no label is needed to see it.
    """
    import torch

    labels = chosen["label"].to_numpy()
    sampled = np.concatenate(
        [
            _spread(np.flatnonzero(labels == label), options.view_images)
            for label in range(num_classes)
        ]
    )
    ids, asked = chosen["image_id"].to_numpy()[sampled], labels[sampled]
    torch.manual_seed(options.seed)
    answers = [
        # A batch at a time: all decoded images of a thousand classes would not fit in memory.
        _ask_again(options, choice, ids[at : at + options.batch_size])
        for at in range(0, len(ids), options.batch_size)
    ]
    agree_NV = np.concatenate(answers) == asked[:, None]
    rows = []
    for label in range(num_classes):
        mine = agree_NV[asked == label]
        rows.append(_row("chosen", "view_agreement", label, float(mine.mean()), len(mine)))
    rows.append(_row("chosen", "view_agreement", None, float(agree_NV.mean()), len(agree_NV)))
    return rows


def _ask_again(
    options: EvaluateOptions, choice: Choice, ids: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The teacher's best class for each changed view of these images, (N, views)."""
    import torch

    from models.augment import Strengths, augment
    from models.pixels import standardise, to_unit
    from tasks.predict import load_model

    loaded = load_model(choice.teacher)
    inputs = loaded.description.inputs
    images = read_many(choice.images, ids)
    pixels = [square(decode(data, Limits()), inputs.size, inputs.resize) for data in images]
    images_BCHW = to_unit(torch.from_numpy(np.stack(pixels)).to(loaded.device))
    mild = Strengths(
        flip=False, rotate_degrees=15, translate=0.08, scale=0.1, shear=0.1, elastic=0.02, erase=0
    )
    answers = []
    for _ in range(options.views):
        views_BCHW = standardise(augment(images_BCHW, mild), inputs.mean, inputs.std)
        with torch.inference_mode():
            answers.append(loaded.network(views_BCHW).argmax(dim=1).cpu().numpy())
    return np.stack(answers, axis=1)


def _precision(
    options: EvaluateOptions, choice: Choice, chosen: pa.Table, classes: list[str]
) -> list[dict[str, Any]]:
    truth = _read_audit(options.audit)
    keys = read_keys(choice.images, chosen["image_id"].to_numpy())
    labels = chosen["label"].to_numpy()
    known = np.array([key in truth for key in keys])
    if not known.any():
        raise ProtegeError(f"{options.audit}: none of its keys is among the chosen images")
    right = np.array([truth.get(key) == classes[label] for key, label in zip(keys, labels)])
    rows = [_row("chosen", "precision", None, float(right[known].mean()), int(known.sum()))]
    for label in range(len(classes)):
        mine = known & (labels == label)
        if mine.any():
            value = float(right[mine].mean())
            rows.append(_row("chosen", "precision", label, value, int(mine.sum())))
    return rows


def _spread(places: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
    """At most `count` of the places, evenly spread from the first to the last."""
    if len(places) <= count:
        return places
    evenly: npt.NDArray[np.intp] = places[np.linspace(0, len(places) - 1, count).astype(int)]
    return evenly


def read_many(images: Output, ids: npt.NDArray[np.int64]) -> list[bytes]:
    """The encoded images of these ids, in their order."""
    found: dict[int, bytes] = {}
    for shard in np.unique(ids >> tables.ROW_BITS).tolist():
        table = read_images(images, shard, only=np.unique(ids))
        found.update(zip(table["image_id"].to_pylist(), table["image"].to_pylist(), strict=True))
    return [found[image_id] for image_id in ids.tolist()]


def read_keys(images: Output, ids: npt.NDArray[np.int64]) -> list[str]:
    """The keys of these ids, in their order."""
    found: dict[int, str] = {}
    for shard in np.unique(ids >> tables.ROW_BITS).tolist():
        name = contract.part_name(shard)
        table = contract.read_part(images.store, name, tables.IMAGES, ["image_id", "key"])
        found.update(zip(table["image_id"].to_pylist(), table["key"].to_pylist(), strict=True))
    return [found[image_id] for image_id in ids.tolist()]


def _audit_digest(options: EvaluateOptions) -> str:
    return contract.digest_of(sorted(_read_audit(options.audit).items())) if options.audit else ""


def _read_audit(uri: str) -> dict[str, str]:
    store, name = split_uri(uri)
    try:
        rows = list(csv.DictReader(io.StringIO(store.read(name).decode("utf-8-sig"))))
    except (OSError, UnicodeDecodeError) as error:
        raise ProtegeError(f"{uri}: the audit list cannot be read: {error}") from error
    if rows and not {"key", "label"} <= set(rows[0]):
        raise ProtegeError(f"{uri}: the first line must name the columns key and label")
    return {row["key"]: row["label"] for row in rows}
