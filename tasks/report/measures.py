"""Measures: figures by model, measure, data set and class.

In: a `metrics` table. Out: figures, or None for what was not measured.

    measures = Measures(read_metrics(measured))
    measures.value("student", "top1", "test")
"""

from dataclasses import dataclass

import pyarrow as pa

CHOSEN = "chosen"  # what `metrics` calls the model of the measures of a choice
NO_DATASET = ""  # what it calls their data set


@dataclass(frozen=True)
class Figure:
    """A figure, and the number of images that it rests on."""

    value: float
    count: int


class Measures:
    """The figures of whole data sets; without those of its slices."""

    def __init__(self, metrics: pa.Table) -> None:
        self._figures = {
            (row["model"], row["measure"], row["dataset"], row["label"]): Figure(
                row["value"], row["count"]
            )
            for row in metrics.to_pylist()
            if not row["slice"]
        }

    def figure(
        self, model: str, measure: str, dataset: str, label: int | None = None
    ) -> Figure | None:
        """A figure over all classes, or of one class."""
        return self._figures.get((model, measure, dataset, label))

    def value(
        self, model: str, measure: str, dataset: str, label: int | None = None
    ) -> float | None:
        """The value of a figure."""
        figure = self.figure(model, measure, dataset, label)
        return None if figure is None else figure.value

    def of_choice(self, measure: str, label: int | None = None) -> float | None:
        """The value of a measure of the chosen images."""
        return self.value(CHOSEN, measure, NO_DATASET, label)
