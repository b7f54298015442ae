"""Models: the figures of every model that was measured, side by side."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.report.sections import ReportData, Section


@dataclass(frozen=True)
class ModelRow:
    """A model on a data set; None for what was not measured."""

    title: str
    network: str
    is_result: bool
    top1: float | None
    top5: float | None
    loss: float | None
    calibration_error: float | None


@dataclass(frozen=True)
class DatasetTable:
    """All models that were measured on a data set, and the number of its images."""

    noun: str
    num_images: int
    rows: tuple[ModelRow, ...]


def applies(data: ReportData) -> bool:
    """Something was measured."""
    return bool(data.measured)


def facts(data: ReportData) -> Mapping[str, Any]:
    """A table for each data set."""
    return {"tables": [_table(data, dataset) for dataset in data.datasets]}


def _table(data: ReportData, dataset: str) -> DatasetTable:
    measured = {model for model, measured_on in data.measured if measured_on == dataset}
    models = data.story.sorted_by_role(measured)
    figures = (data.measures.figure(model, "top1", dataset) for model in models)
    num_images = max((figure.count for figure in figures if figure), default=0)
    rows = tuple(_row(data, model, dataset) for model in models)
    return DatasetTable(data.story.role(dataset).noun, num_images, rows)


def _row(data: ReportData, model: str, dataset: str) -> ModelRow:
    output, measures = data.story.outputs.get(model), data.measures
    return ModelRow(
        title=data.story.role(model).title,
        network=str(output.options.get("model", "")) if output else "",
        is_result=model == data.story.result,
        top1=measures.value(model, "top1", dataset),
        top5=measures.value(model, "top5", dataset),
        loss=measures.value(model, "loss", dataset),
        calibration_error=measures.value(model, "calibration_error", dataset),
    )


SECTION = Section("models", "Models", applies, facts, "models")
