"""Predictions: what a model says of every test image.

In: a model and a shard of the test set. Out: a part of the table `predictions`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import ProtegeError
from infra.store import open_store
from tasks import contract, tables
from tasks.contract import Output, Receipt, RowCounts, Stopwatch
from tasks.evaluate.options import EvaluateOptions
from tasks.images import Limits, Unusable, decode, square
from tasks.shard import read_images


@dataclass(frozen=True)
class PredictJob:
    """What a worker is told: parts are numbered by shard within model."""

    uri: str
    options: EvaluateOptions
    test: Output
    models: dict[str, Output]
    classes: list[str]


def predict(job: PredictJob, number: int) -> Receipt:
    """Predictions of one model on one shard; the number counts shards within models."""
    shards = contract.part_names(job.test)
    role = list(job.models)[number // len(shards)]
    shard = contract.part_number(shards[number % len(shards)])
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
    receipt = contract.write_part(store, name, predictions, RowCounts(rows, rows, 0))
    return contract.timed(receipt, watch)


def _logits(model: Output, images: list[bytes], batch_size: int) -> npt.NDArray[np.float32]:
    from tasks.inference.model import load_model

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
