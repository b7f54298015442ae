"""Errors: which classes the result of the campaign takes for which, and which images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.contract import Output
from tasks.evaluate import read_predictions
from tasks.report.pictures import Picture, pictures_of
from tasks.report.sections import ReportData, Section

MATRIX_CLASSES = 20  # a larger matrix cannot be read; its largest errors are listed instead
LISTED_ERRORS = 20
SHOWN_ERRORS = 24  # pictures


@dataclass(frozen=True)
class ClassPair:
    """Images of one class that were taken for another."""

    true: str
    predicted: str
    num_images: int


def applies(data: ReportData) -> bool:
    """The result was measured."""
    return data.is_measured(data.story.result)


def facts(data: ReportData) -> Mapping[str, Any]:
    """The matrix where it can be read, and its largest errors."""
    predictions = data.predictions(data.story.result)
    names = predictions.classes
    table = read_predictions(predictions, ["image_id", "label", "predicted", "confidence"])
    labels_N, predicted_N = table["label"].to_numpy(), table["predicted"].to_numpy()
    matrix = None
    if len(names) <= MATRIX_CLASSES:
        matrix = _matrix(labels_N, predicted_N, len(names)).tolist()
    return {
        "result": data.story.role(data.story.result).noun,
        "dataset": data.story.role(data.datasets[0]).noun,
        "names": names,
        "matrix": matrix,
        "errors": _largest_errors(labels_N, predicted_N, names),
        "pictures": _surest_errors(data, predictions, table),
    }


def _surest_errors(data: ReportData, predictions: Output, table: pa.Table) -> list[Picture]:
    """Pictures of the errors that the model was surest of: often their label is wrong."""
    wrong = table.filter(pc.field("label") != pc.field("predicted"))
    surest = wrong.sort_by([("confidence", "descending"), ("image_id", "ascending")])
    rows, names = surest.slice(0, SHOWN_ERRORS).to_pylist(), predictions.classes
    descriptions = [
        f"{names[row['label']]}, taken for {names[row['predicted']]}, p {row['confidence']:.3f}"
        for row in rows
    ]
    (images,) = data.inputs_of(predictions, "shard")
    return pictures_of(images, np.array([row["image_id"] for row in rows], np.int64), descriptions)


def _matrix(
    labels_N: npt.NDArray[np.int32], predicted_N: npt.NDArray[np.int32], num_classes: int
) -> npt.NDArray[np.int64]:
    """Images by true and predicted class, shape (C, C)."""
    counts_CC = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts_CC, (labels_N, predicted_N), 1)
    return counts_CC


def _largest_errors(
    labels_N: npt.NDArray[np.int32], predicted_N: npt.NDArray[np.int32], names: Sequence[str]
) -> list[ClassPair]:
    """The most frequent errors first."""
    wrong_N = labels_N != predicted_N
    pairs_N2 = np.stack([labels_N[wrong_N], predicted_N[wrong_N]], axis=1)
    pairs_E2, counts_E = np.unique(pairs_N2, axis=0, return_counts=True)
    order = np.argsort(-counts_E, kind="stable")[:LISTED_ERRORS]
    return [
        ClassPair(names[pairs_E2[place, 0]], names[pairs_E2[place, 1]], int(counts_E[place]))
        for place in order.tolist()
    ]


SECTION = Section("errors", "Errors", applies, facts, "errors")
