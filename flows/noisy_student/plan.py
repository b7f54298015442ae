"""Plan: what a campaign will take, before anything runs, and what is doubtful about it."""

from collections.abc import Iterator
from dataclasses import replace

from flows.noisy_student.options import NoisyStudent
from tasks.estimate import Estimate, Work
from tasks.train.estimate import estimate_training

FEW_STEPS = 200  # from random weights


def plan(
    options: NoisyStudent, labelled_images: int, classes: int, pile_images: int | None
) -> Estimate:
    """Every training and every scoring, in the order in which they run."""
    labels = options.gather.count_labelled(labelled_images, classes)
    estimate = estimate_training("teacher", options.teacher, labels)
    if options.generations.filter_by == "filter":
        estimate += estimate_training("filter", options.filter, labels)
    for number in range(1, options.generations.count + 1):
        estimate += _scoring(options, pile_images, number)
        estimate += _choice(options, classes, pile_images, number)
        views = 1 + options.joint.ratio
        role = f"student_{number}"
        estimate += estimate_training(role, options.student, labels, num_views=views)
    fix_res = options.student.continued(options.fix_res, size=options.fix_res.size)
    if options.fix_res.length.amount:
        estimate += estimate_training("student", fix_res, labels)
    estimate += estimate_training("baseline", options.baseline_training, labels)
    return replace(estimate, doubts=tuple(_doubts(options, estimate, classes, pile_images)))


def _scoring(options: NoisyStudent, pile_images: int | None, number: int) -> Estimate:
    if not pile_images:
        return Estimate()
    network = options.teacher if number == 1 else options.student
    text = f"{pile_images:,} images, without noise"
    return Estimate((Work(f"score_{number}", "score", pile_images, text, training=network),))


def _choice(options: NoisyStudent, classes: int, pile_images: int | None, number: int) -> Estimate:
    lessons = options.topk.k * classes
    text = (
        f"{options.topk.k:,} of each of {classes:,} classes = {lessons:,} pseudo-labelled images, "
        "of short classes repeated"
    )
    return Estimate((Work(f"topk_{number}", "topk", pile_images or lessons, text),))


def _doubts(
    options: NoisyStudent, estimate: Estimate, classes: int, pile_images: int | None
) -> Iterator[str]:
    for work in estimate.works:
        is_random = work.training is not None and not work.training.start.weights
        if work.role == "teacher" and work.units < FEW_STEPS and is_random:
            yield (
                f"teacher: {work.units:,} steps from random weights learn next to nothing; raise "
                "teacher.length, or give teacher.start.weights"
            )
    if pile_images is not None and options.topk.k * classes > 10 * pile_images:
        better = max(1, pile_images // classes)
        yield (
            f"topk.k is {options.topk.k:,} for each of {classes:,} classes, and the pile has only "
            f"{pile_images:,} images, so that each is repeated many times; topk.k={better} asks "
            "for as many as there are"
        )
    if options.generations.stop == "when_worse" and not options.audit.source:
        yield (
            "audit has no images, so no generation is stopped, whether it is worse or not: hold "
            "some labelled images out (labelled.to_percent=80, audit.source as labelled.source, "
            "audit.from_percent=80), or set generations.stop=never"
        )
