"""Measures: figures of models from their predictions; plain arithmetic.

In: `predictions`. Out: rows of `metrics`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

CALIBRATION_BINS = 15
TOP = 5


def measure_models(predictions: pa.Table, num_classes: int) -> list[dict[str, Any]]:
    """Rows of `metrics` for every model in the predictions."""
    rows: list[dict[str, Any]] = []
    correct: dict[str, npt.NDArray[np.float64]] = {}
    for model in dict.fromkeys(predictions["model"].to_pylist()):
        mine = predictions.filter(pc.equal(predictions["model"], model))
        mine = mine.sort_by("image_id")
        right = (mine["predicted"].to_numpy() == mine["label"].to_numpy()).astype(float)
        correct[model] = right
        rows += _measure_model(model, mine, right, num_classes)
    if {"student", "baseline"} <= set(correct):
        gain = correct["student"] - correct["baseline"]
        error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else 0.0
        rows.append(row("student", "gain", None, float(gain.mean()), len(gain)))
        rows.append(row("student", "gain_standard_error", None, error, len(gain)))
    return rows


def _measure_model(
    model: str, mine: pa.Table, right: npt.NDArray[np.float64], num_classes: int
) -> list[dict[str, Any]]:
    labels, confidence = mine["label"].to_numpy(), mine["confidence"].to_numpy()
    count = len(mine)
    rows = [
        row(model, "top1", None, float(right.mean()), count),
        row(model, "loss", None, float(mine["loss"].to_numpy().mean()), count),
        row(model, "calibration_error", None, calibration_error(right, confidence), count),
    ]
    if num_classes > TOP:
        top = float((mine["rank"].to_numpy() < TOP).mean())
        rows.append(row(model, "top5", None, top, count))
    for label in np.unique(labels).tolist():
        inside = labels == label
        value = float(right[inside].mean())
        rows.append(row(model, "top1", label, value, int(inside.sum())))
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


def row(model: str, measure: str, label: int | None, value: float, count: int) -> dict[str, Any]:
    """A row of `metrics`; without a label it is a figure over all classes."""
    return {"model": model, "measure": measure, "label": label, "value": value, "count": count}
