"""Generations: several choices of one campaign side by side, and what was learned from each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.contract import Output
from tasks.evaluate import figure, read_metrics
from tasks.report.sections import ReportData, Section


@dataclass(frozen=True)
class Generation:
    """A choice, who made it, and who learned it; None for what was not measured.

    `unique` are the chosen images without their repeats.
    """

    title: str
    teachers: str
    kept: int
    unique: int | None
    precision: float | None
    student: str
    top1: Mapping[str, float | None]


def applies(data: ReportData) -> bool:
    """Images were chosen more than once."""
    return len(data.story.of_stage("topk")) > 1


def facts(data: ReportData) -> Mapping[str, Any]:
    """A row for each choice, with the accuracies of its student on each data set."""
    nouns = {dataset: data.story.role(dataset).noun for dataset in data.datasets}
    return {"generations": list(_generations(data)), "datasets": nouns}


def _generations(data: ReportData) -> Iterator[Generation]:
    for role, chosen in data.story.of_stage("topk").items():
        lessons = _made_of(data, "gather", chosen)
        student = next((name for name in _made_of(data, "train", *lessons.values())), "")
        teachers = [
            data.story.role(data.role_of(teacher)).noun
            for scores in data.inputs_of(chosen, "score")
            for teacher in data.inputs_of(scores, "train")
        ]
        yield Generation(
            title=data.story.role(role).title,
            teachers=" and ".join(teachers),
            kept=sum(output.kept for output in lessons.values()),
            unique=next((_unique(output) for output in lessons.values()), None),
            precision=_precision(data, chosen),
            student=data.story.role(student).title if student else "",
            top1={
                dataset: data.measures.value(student, "top1", dataset) if student else None
                for dataset in data.datasets
            },
        )


def _made_of(data: ReportData, stage: str, *inputs: Output) -> dict[str, Output]:
    """The outputs of a stage that were made of one of these, by role."""
    links = {output.link["manifest"] for output in inputs}
    return {
        role: output
        for role, output in data.story.of_stage(stage).items()
        if links & {link["manifest"] for link in output.body["inputs"].values()}
    }


def _unique(lessons: Output) -> int | None:
    count: int | None = lessons.body["extra"].get("unique_images")
    return count


def _precision(data: ReportData, chosen: Output) -> float | None:
    """The share of the chosen images that are what they were chosen for, by the audit list."""
    for measured in _made_of(data, "evaluate", chosen).values():
        found = figure(read_metrics(measured), "chosen", "precision")
        if found is not None:
            return found
    return None


SECTION = Section("generations", "Generations", applies, facts, "generations")
