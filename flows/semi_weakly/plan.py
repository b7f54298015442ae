"""Plan: what a campaign will take, before anything runs, and what is doubtful about it."""

from dataclasses import replace

from flows.billion_scale.plan import doubts_of_steps, estimate_all
from flows.semi_weakly.options import SemiWeakly
from tasks.estimate import Estimate, Work
from tasks.train.estimate import estimate_training


def plan(
    options: SemiWeakly, labelled_images: int, classes: int, pile_images: int | None
) -> Estimate:
    """Every training and the choice, in the order in which they run.

    How many images of the pile have a tag that teaches something is not known before they are
    read, so that all of them are counted; those of rare classes are repeated.
    """
    estimate = Estimate((_tags(options, pile_images),))
    estimate += estimate_training("tag_teacher", options.tag_teacher, pile_images)
    # An epoch of images that were not counted is no step.
    known = pile_images is not None or options.tag_teacher.length.unit != "epochs"
    doubts = doubts_of_steps(estimate, "tag_teacher") if known else ()
    estimate += estimate_all(options.ranking, labelled_images, classes, pile_images)
    if options.weakly.length.amount:
        labels = options.gather.count_labelled(labelled_images, classes)
        fine_tune = options.student.continued(options.teacher)
        estimate += estimate_training("tag_student", options.tag_student, pile_images)
        estimate += estimate_training("weakly", fine_tune, labels)
    return replace(estimate, doubts=(*doubts, *estimate.doubts))


def _tags(options: SemiWeakly, pile_images: int | None) -> Work:
    times = options.tags.max_repeats if options.tags.resampling == "square_root" else 1
    repeated = f"; of rare classes each is copied up to {times} times" if times > 1 else ""
    text = f"those with a tag that means something become a training set{repeated}"
    return Work("tags", "tags", pile_images or 0, text)


def estimate_tags(options: SemiWeakly, lessons: int) -> Estimate:
    """The trainings on tags, on so many lessons."""
    estimate = estimate_training("tag_teacher", options.tag_teacher, lessons)
    if options.weakly.length.amount:
        estimate += estimate_training("tag_student", options.tag_student, lessons)
    return estimate
