"""Plan: what a campaign will take, before anything runs, and what is doubtful about it."""

from collections.abc import Iterator
from dataclasses import replace

from flows.billion_scale.plan import estimate_all
from flows.semi_weakly.options import SemiWeakly
from tasks.estimate import Estimate
from tasks.train.estimate import estimate_training

FEW_STEPS = 200  # from random weights


def plan(
    options: SemiWeakly, labelled_images: int, classes: int, pile_images: int | None
) -> Estimate:
    """Every training and the choice, in the order in which they run.

    How many images of the pile have a tag that teaches something is not known before they are
    read, so that all of them are counted; those of rare classes are repeated.
    """
    teacher = options.tag_teacher
    estimate = estimate_training("tag_teacher", teacher, pile_images)
    doubts = [*_doubts(estimate, is_counted=pile_images is not None)]
    estimate += estimate_all(options.ranking, labelled_images, classes, pile_images)
    if options.weakly.length.amount:
        labels = options.gather.count_labelled(labelled_images, classes)
        fine_tune = options.student.continued(options.teacher)
        estimate += estimate_training("tag_student", options.tag_student, pile_images)
        estimate += estimate_training("weakly", fine_tune, labels)
    return replace(estimate, doubts=(*doubts, *estimate.doubts))


def estimate_tags(options: SemiWeakly, lessons: int) -> Estimate:
    """The trainings on tags, on so many lessons."""
    estimate = estimate_training("tag_teacher", options.tag_teacher, lessons)
    if options.weakly.length.amount:
        estimate += estimate_training("tag_student", options.tag_student, lessons)
    return estimate


def _doubts(estimate: Estimate, *, is_counted: bool) -> Iterator[str]:
    for work in estimate.works:
        training = work.training
        if training is None or training.start.weights:
            continue
        if work.units < FEW_STEPS and (is_counted or training.length.unit != "epochs"):
            yield (
                f"tag_teacher: {work.units:,} steps from random weights learn next to nothing; "
                "raise tag_teacher.length, or give tag_teacher.start.weights"
            )
