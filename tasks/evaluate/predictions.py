"""predictions: what a model says of every image of a data set.

In: a model and `images` shards. Out: `predictions`, a part for each shard. They depend on the
weights and the images alone, so models that are compared share nothing, and none is asked twice.

    predicted = predict(root, student, test, PredictOptions(keep_logits=True))
    table = read_predictions(predicted, ["image_id", "logits"])

Images that cannot be decoded, or whose logits are not finite, become rejects.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import ProtegeError
from infra.executors import Executor, Inline
from infra.store import Store
from tasks import contract, tables
from tasks.contract import (
    OneByOne,
    OnProgress,
    Output,
    PartId,
    PartWriter,
    Receipt,
    Target,
    map_images,
    silent,
)
from tasks.evaluate.options import PredictOptions
from tasks.images import IMAGES_VERSION, Unusable
from tasks.shard import read_images, read_shard, reject_images

if TYPE_CHECKING:
    from tasks.inference.pipeline import Batch

PREDICTIONS = "predictions"
VERSION = 2
NO_LABEL = -1
VALUES_AT_ONCE = 1 << 20


def predict(
    root: Store,
    model: Output,
    images: Output,
    options: PredictOptions = PredictOptions(),
    *,
    executor: Executor = Inline(),
    on_progress: OnProgress = silent,
) -> Output:
    """Make the predictions of the shards that have none yet.

    Raises Failures when an image has a class that the model does not know.
    """
    target = Target(
        root,
        PREDICTIONS,
        VERSION,
        options,
        inputs={"images": images, "model": model},
        identities={"images": images.fingerprint, "model": model.weights},
        content={"images_version": IMAGES_VERSION},
    )
    make_part = functools.partial(predict_shard, PredictJob(target.uri, options, images, model))
    extra = {"classes": model.classes}
    make = OneByOne(make_part, f"{PREDICTIONS} shard")
    return map_images(target, images, make, executor.on_gpus(), on_progress, extra)


def read_predictions(predicted: Output, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of an output of `predict`, in the order of their ids. Raises ProtegeError."""
    options = PredictOptions.model_validate(predicted.options)
    schema = _schema(options, predicted)
    return contract.read_rows(predicted, schema, columns)


@dataclass(frozen=True)
class PredictJob:
    """What every worker of this stage is given."""

    uri: str
    options: PredictOptions
    images: Output
    model: Output


def predict_shard(job: PredictJob, part: PartId) -> Receipt:
    """Make the part of one shard: the predictions of one model for its images."""
    # Imported here: it loads torch, which a run that finds everything done does not need.
    from tasks.inference.device_facts import device_facts
    from tasks.inference.model import load_model

    writer = PartWriter(job.uri, part)
    model = load_model(job.model)
    writer.lap("load model")
    rows = read_shard(job.images, part.number, ["key", "label"])
    writer.lap("read")
    ids_N = rows["image_id"].to_numpy()
    labels_N = _label_indices(rows["label"].to_pylist(), job.model.classes, job.images)
    schema = _schema(job.options, job.model)
    parts, problems = [schema.empty_table()], dict[int, Unusable]()
    images = (data for _, data in read_images(job.images, part.number))
    batch_size = job.options.batch_size
    for batch in model.run(images, model.decode, batch_size=batch_size):
        for kind, seconds in batch.seconds.items():
            writer.book(kind, seconds)
        parts.append(_predictions(batch, ids_N[batch.rows], labels_N[batch.rows], schema))
        problems |= batch.problems
    writer.forget_time()
    reject_images(writer, rows, problems)
    return writer.write(pa.concat_tables(parts), facts=device_facts(model.device))


def _schema(options: PredictOptions, with_classes: Output) -> pa.Schema:
    """The schema of the predictions, by an output that names the classes."""
    if options.keep_logits:
        return tables.predictions_with_logits(len(with_classes.classes))
    return tables.PREDICTIONS


def _label_indices(
    labels: Sequence[str | None], classes: Sequence[str], images: Output
) -> npt.NDArray[np.int32]:
    """The labels as indices into the classes of the model; NO_LABEL for images without one."""
    index = {name: label for label, name in enumerate(classes)}
    unknown = sorted({label for label in labels if label is not None and label not in index})
    if unknown:
        raise ProtegeError(
            f"{images.uri}: the test images have classes that no labelled image has: "
            f"{', '.join(unknown[:5])}. Label some, or take them out of the test set"
        )
    found = [NO_LABEL if label is None else index[label] for label in labels]
    return np.array(found, np.int32)


def _predictions(
    batch: "Batch", ids_B: npt.NDArray[np.int64], labels_B: npt.NDArray[np.int32], schema: pa.Schema
) -> pa.Table:
    """The rows of the images of a batch that have no problem."""
    usable_B = batch.usable
    ids_B, labels_B = ids_B[usable_B], labels_B[usable_B]
    logits_BC = batch.outputs_BC.cpu().numpy()[usable_B]
    highest_B, log_sum_B = logits_BC.max(axis=1).astype(np.float64), _log_sum_exp(logits_BC)
    unlabelled_B = labels_B == NO_LABEL
    true_B = np.where(unlabelled_B, 0, labels_B)[:, None]
    true_logits_B1 = np.take_along_axis(logits_BC, true_B, axis=1)
    rank_B = (logits_BC > true_logits_B1).sum(axis=1)
    loss_B = log_sum_B - true_logits_B1[:, 0].astype(np.float64)
    columns = [
        pa.array(ids_B),
        pa.array(labels_B, mask=unlabelled_B),
        pa.array(logits_BC.argmax(axis=1).astype(np.int32)),
        pa.array(rank_B.astype(np.int32), mask=unlabelled_B),
        pa.array(np.exp(highest_B - log_sum_B).astype(np.float32)),
        pa.array(loss_B.astype(np.float32), mask=unlabelled_B),
    ]
    if "logits" in schema.names:
        rows = [row.tobytes() for row in logits_BC.astype("<f4")]
        columns.append(pa.array(rows, schema.field("logits").type))
    return pa.Table.from_arrays(columns, schema=schema)


def _log_sum_exp(logits_BC: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """In float64, a few rows at a time: of 60,000 classes, a batch of that would be large."""
    rows = max(1, VALUES_AT_ONCE // max(1, logits_BC.shape[1]))
    sums_B = np.empty(len(logits_BC))
    for first in range(0, len(logits_BC), rows):
        part_BC = logits_BC[first : first + rows].astype(np.float64)
        highest_B1 = part_BC.max(axis=1, keepdims=True)
        log_sums_B = np.log(np.exp(part_BC - highest_B1).sum(axis=1))
        sums_B[first : first + rows] = highest_B1[:, 0] + log_sums_B
    return sums_B
