"""Accuracy: how often models are right, how sure they are, and how much better one is.

In: predictions on labelled images. Out: rows of `metrics`: top1, top5, loss (nats),
calibration_error (15 bins, Guo et al. 2017) and top1 of each class; and when two models are
compared, `gain`, the difference in top1, image by image, with its standard error.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import ProtegeError
from tasks.evaluate.metrics import Row
from tasks.evaluate.protocols import Predictions

CALIBRATION_BINS = 15
TOP = 5


def measure(
    predictions: Predictions, num_classes: int, compare: tuple[str, str] | None = None
) -> Iterator[Row]:
    """The figures of every model on every data set.

    `compare` names two models: the gain is that of the first over the second. Raises ProtegeError
    for an image without a class.
    """
    for dataset, tables in predictions.items():
        correct = {}
        for model, table in tables.items():
            if table["label"].null_count:
                raise ProtegeError(
                    f"{table['label'].null_count} images of {dataset} have no class: put every "
                    "image into a folder named after its class"
                )
            correct[model] = _correct(table)
            yield from _measure_model(model, dataset, table, num_classes)
        if compare is not None:
            yield from _measure_gain(compare[0], dataset, correct[compare[0]], correct[compare[1]])


def _correct(table: pa.Table) -> npt.NDArray[np.float64]:
    """1 for each image that was predicted right, in the order of the ids; 0 for the others."""
    table = table.sort_by("image_id")
    correct_N: npt.NDArray[np.bool_] = table["predicted"].to_numpy() == table["label"].to_numpy()
    return correct_N.astype(np.float64)


def _measure_model(model: str, dataset: str, table: pa.Table, num_classes: int) -> Iterator[Row]:
    table, correct_N = table.sort_by("image_id"), _correct(table)
    labels_N, count = table["label"].to_numpy(), len(table)
    error = calibration_error(correct_N, table["confidence"].to_numpy())
    yield Row(model, dataset, "top1", float(correct_N.mean()), count)
    yield Row(model, dataset, "loss", float(table["loss"].to_numpy().mean()), count)
    yield Row(model, dataset, "calibration_error", error, count)
    if num_classes > TOP:
        top = float((table["rank"].to_numpy() < TOP).mean())
        yield Row(model, dataset, "top5", top, count)
    for label in np.unique(labels_N).tolist():
        inside_N = labels_N == label
        value, images = float(correct_N[inside_N].mean()), int(inside_N.sum())
        yield Row(model, dataset, "top1", value, images, label)


def _measure_gain(
    model: str,
    dataset: str,
    correct_N: npt.NDArray[np.float64],
    reference_N: npt.NDArray[np.float64],
) -> Iterator[Row]:
    gain_N, count = correct_N - reference_N, len(correct_N)
    error = float(gain_N.std(ddof=1) / np.sqrt(count)) if count > 1 else 0.0
    yield Row(model, dataset, "gain", float(gain_N.mean()), count)
    yield Row(model, dataset, "gain_standard_error", error, count)


def calibration_error(
    correct_N: npt.NDArray[np.float64], confidence_N: npt.NDArray[np.float32]
) -> float:
    """Expected calibration error over 15 equal bins (Guo et al. 2017, equation 3)."""
    bins_N = np.minimum((confidence_N * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    total = 0.0
    for number in range(CALIBRATION_BINS):
        inside_N = bins_N == number
        if inside_N.any():
            gap = abs(correct_N[inside_N].mean() - confidence_N[inside_N].mean())
            total += gap * inside_N.mean()
    return float(total)
