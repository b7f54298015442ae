"""Plan: what a campaign will take, before anything runs, and what is doubtful about it."""

from collections.abc import Iterator
from dataclasses import replace

from flows.campaign.committee import estimate_committee
from flows.noisy_student.options import NoisyStudent
from tasks.estimate import Estimate, Work
from tasks.train import TrainOptions
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
        estimate += _scoring("filter_score", options.filter, pile_images)
    estimate += estimate_committee(options.committee, options.member, labels)
    estimate += estimate_generations(options, labels, pile_images, classes)
    estimate += estimate_training("supervised", options.baseline_training, labels)
    if options.fix_res.length.amount:
        fix_res = options.student.continued(options.fix_res, size=options.last_size)
        estimate += estimate_training("student", fix_res, labels)
        estimate += estimate_training("baseline", fix_res, labels)
    return replace(estimate, doubts=tuple(_doubts(options, estimate, classes, pile_images)))


def estimate_generations(
    options: NoisyStudent, labels: int, pile_images: int | None, classes: int = 0
) -> Estimate:
    """Scoring, choice and student of each generation; the choice where classes are known."""
    estimate = Estimate()
    for number in range(1, options.generations.count + 1):
        network = options.teacher if number == 1 else options.student
        estimate += _scoring(f"score_{number}", network, pile_images)
        if classes:
            estimate += _choice(options, classes, pile_images, number)
        views, role = 1 + options.joint_of(number).ratio, f"student_{number}"
        estimate += estimate_training(role, options.student, labels, num_views=views)
    return estimate


def _scoring(role: str, network: TrainOptions, pile_images: int | None) -> Estimate:
    if not pile_images:
        return Estimate()
    text = f"{pile_images:,} images, without noise"
    return Estimate((Work(role, "score", pile_images, text, training=network),))


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
    if options.stops_by_committee and options.generations.filter_by == "filter":
        yield (
            "the filter chooses the same images in every generation, so that a committee finds "
            "none worse: hold some labelled images out for audit, or set generations.stop=never"
        )
    elif options.stops_by_committee and not options.committee.members:
        yield (
            "there are neither images of audit nor a committee, so no generation is stopped, "
            "whether it is worse or not: hold some labelled images out (labelled.to_percent=80, "
            "audit.source as labelled.source, audit.from_percent=80), or set committee.members=5 "
            "or generations.stop=never"
        )
