"""Contrastive: trainings without labels: how often they find the other view of an image, and views.

Each view of a batch is compared with all others; the training learns to find the one that is of the
same image ("Big self-supervised models", Chen et al. 2020, section 2).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tasks import tables
from tasks.contract import Output, part_names, read_part
from tasks.report import plots
from tasks.report.pictures import Picture, picture_of
from tasks.report.sections import ReportData, Section
from tasks.train import HISTORY, ContrastiveOptions, TrainOptions, augmented_pictures

NUM_IMAGES = 12
MEASURE = "nearest"  # as the objective calls it in the history


@dataclass(frozen=True)
class ContrastiveTraining:
    """A training without labels; `found` is the share of views whose other one was found."""

    title: str
    plot: Markup
    found: float
    chance: float
    num_views: int
    pairs: list[list[Picture]]


def applies(data: ReportData) -> bool:
    """A network was trained without labels."""
    return bool(_trainings(data))


def facts(data: ReportData) -> Mapping[str, Any]:
    """Each such training."""
    return {"trainings": [_facts(data, *named) for named in _trainings(data).items()]}


def _trainings(data: ReportData) -> dict[str, Output]:
    return {
        name: output
        for name, output in data.story.of_stage("train").items()
        if output.body["extra"].get("objective") == ContrastiveOptions.NAME
    }


def _facts(data: ReportData, name: str, output: Output) -> ContrastiveTraining:
    role, history = data.story.role(name), read_part(output.store, HISTORY, tables.HISTORY)
    options = TrainOptions.model_validate(output.options)
    found = [dict(row)[MEASURE] for row in history["measurements"].to_pylist()]
    num_views = 2 * options.batch_size
    chance = 1 / (num_views - 1)
    plot = plots.share_curve(
        f"contrastive-{name}", role.noun, history["step"].to_numpy(), found, chance
    )
    pairs = list(_pairs(data, output, options))
    return ContrastiveTraining(role.training_title, plot, found[-1], chance, num_views, pairs)


def _pairs(data: ReportData, output: Output, options: TrainOptions) -> Iterator[list[Picture]]:
    """Two views of each of some images. The training set may have been deleted."""
    for lessons in data.inputs_of(output, "gather"):
        if not lessons.store.exists(part_names(lessons)[0]):
            continue
        for picture in augmented_pictures(lessons, options, num_images=NUM_IMAGES, num_versions=2):
            views = zip(picture.versions, ("one view", "another view"), strict=True)
            yield [picture_of(view_HWC, text) for view_HWC, text in views]


SECTION = Section("contrastive", "Without labels", applies, facts, "contrastive")
