"""Training: the course of the loss in every training of the campaign."""

from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from tasks import tables
from tasks.contract import read_part
from tasks.report import plots
from tasks.report.sections import ReportData, Section
from tasks.train import HISTORY


def applies(data: ReportData) -> bool:
    """There are models."""
    return bool(data.story.of_stage("train"))


def facts(data: ReportData) -> Mapping[str, Any]:
    """(title, plot) of each training with a course: given weights have none, nor has a fit."""
    return {"trainings": list(_trainings(data))}


def _trainings(data: ReportData) -> Iterator[tuple[str, Markup]]:
    for name, output in data.story.of_stage("train").items():
        history = read_part(output.store, HISTORY, tables.HISTORY)
        if len(history) > 1:
            role = data.story.role(name)
            yield role.training_title, plots.training_curve(name, role.noun, history)


SECTION = Section("training", "Training", applies, facts, "training")
