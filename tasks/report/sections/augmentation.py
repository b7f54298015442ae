"""Augmentation: images of the trainings beside what their random changes made of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.augmented_page import changes
from tasks.contract import Output, part_names
from tasks.report.pictures import Picture, picture_of
from tasks.report.sections import ReportData, Section
from tasks.train import AugmentedPicture, TrainOptions, augmented_pictures

NUM_IMAGES = 4  # of each training
NUM_VERSIONS = 6


@dataclass(frozen=True)
class Shown:
    """A training: its title, its random changes as options, and a row for each image."""

    title: str
    changes: str
    rows: list[tuple[str, list[Picture]]]


def applies(data: ReportData) -> bool:
    """The result or its teacher was trained, on lessons that are still there."""
    return any(True for _ in _trainings(data))


def facts(data: ReportData) -> Mapping[str, Any]:
    """The trainings, each with some of its images."""
    shown = []
    for name, options, lessons in _trainings(data):
        pictures = augmented_pictures(
            lessons, options, num_images=NUM_IMAGES, num_versions=NUM_VERSIONS
        )
        rows = [(", ".join(picture.classes), list(_strip(picture))) for picture in pictures]
        title = data.story.role(name).training_title
        shown.append(Shown(title, changes(options.augment), rows))
    return {"trainings": shown}


def _trainings(data: ReportData) -> Iterator[tuple[str, TrainOptions, Output]]:
    """The result and the teachers of the choice: role, options and lessons."""
    teachers = data.choice.teachers if data.choice else ()
    names = {data.story.result, *map(data.role_of, teachers)}
    for name, output in data.story.of_stage("train").items():
        options = TrainOptions.model_validate(output.options)
        if name in names and not (options.is_given or options.is_linear):
            yield from ((name, options, lessons) for lessons in _lessons_of(data, output))


def _lessons_of(data: ReportData, training: Output) -> Iterator[Output]:
    """What it learned from. It is large, so it may have been deleted before the page is made."""
    gathered = {known.link["manifest"]: known for known in data.story.of_stage("gather").values()}
    for link in training.body["inputs"].values():
        lessons = gathered.get(link["manifest"])
        if lessons is not None and lessons.store.exists(part_names(lessons)[0]):
            yield lessons


def _strip(picture: AugmentedPicture) -> Iterator[Picture]:
    classes = ", ".join(picture.classes)
    yield picture_of(picture.original, f"{classes}, not changed")
    for step, version_HWC in enumerate(picture.versions):
        yield picture_of(version_HWC, f"{classes}, as in step {step}")


SECTION = Section("augmentation", "Random changes", applies, facts, "augmentation")
