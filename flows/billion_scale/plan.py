"""Plan: what a campaign will take, before anything runs, and what is doubtful about it."""

from collections.abc import Iterator
from dataclasses import replace

from flows.billion_scale.options import BillionScale
from flows.campaign.committee import estimate_committee
from tasks.estimate import Estimate, Work
from tasks.train.estimate import estimate_training

FEW_STEPS = 200  # from random weights
FEW_LABELS = 100  # of a class, for photographs and random weights
PHOTOGRAPH = 48  # pixels: smaller ones are digits and the like, which a few labels teach
MANY_PASSES = 1_000


def plan(
    options: BillionScale, labelled_images: int, classes: int, pile_images: int | None
) -> Estimate:
    """The choice and every training, in the order in which they run.

    The images of a pile that was not counted are None.
    """
    estimate = estimate_all(options, labelled_images, classes, pile_images)
    labels = options.gather.count_labelled(labelled_images, classes)
    doubts = [*estimate.doubts, *doubts_of_steps(estimate, "teacher")]
    doubts += _doubts_of_labels(options, labels, classes)
    return replace(estimate, doubts=tuple(doubts))


def estimate_all(
    options: BillionScale, labelled_images: int, classes: int, pile_images: int | None
) -> Estimate:
    """The choice and every training, with the doubts that have nothing to do with the teacher."""
    lessons = _max_lessons(options, classes, pile_images)
    labels = options.gather.count_labelled(labelled_images, classes)
    student = options.student
    fine_tune = student.continued(options.fine_tune)
    estimate = (
        estimate_training("teacher", options.teacher, labels)
        + _scoring(options, pile_images)
        + Estimate((_choice(options, classes, lessons),))
        + estimate_committee(options.committee, options.member, labels)
        + estimate_training("pretrained", student, lessons)
        + estimate_training("student", fine_tune, labels)
        + estimate_training("supervised", options.baseline_training, labels)
        + estimate_training("baseline", fine_tune, labels)
    )
    doubts = [*_doubts_of_choice(options, classes, pile_images)]
    doubts += doubts_of_steps(estimate, "member_1", "member")
    doubts += _doubts_of_student(estimate, lessons)
    return replace(estimate, doubts=tuple(doubts))


def _max_lessons(options: BillionScale, classes: int, pile_images: int | None) -> int:
    """K of each class, but no class gets more than the pile holds, and no image more than P."""
    wanted = options.topk.k * classes
    if pile_images is None:
        return wanted
    return min(wanted, pile_images * min(classes, options.topk.top_p))


def _scoring(options: BillionScale, pile_images: int | None) -> Estimate:
    if not pile_images:
        return Estimate()
    text = f"{pile_images:,} images, but for those scored before"
    return Estimate((Work("score", "score", pile_images, text, training=options.teacher),))


def _choice(options: BillionScale, classes: int, lessons: int) -> Work:
    text = (
        f"{options.topk.k:,} of each of {classes:,} classes = at most {lessons:,} lessons "
        f"(P {options.topk.top_p})"
    )
    return Work("topk", "topk", lessons, text)


def _doubts_of_choice(
    options: BillionScale, classes: int, pile_images: int | None
) -> Iterator[str]:
    k = options.topk.k
    if pile_images is not None and k * classes > pile_images:
        better = max(1, pile_images // (2 * classes))
        yield (
            f"topk.k is {k:,} for each of {classes:,} classes, and the pile has only "
            f"{pile_images:,} images: bad ones are chosen, too; topk.k={better} is half of it"
        )


def doubts_of_steps(estimate: Estimate, role: str, section: str = "") -> Iterator[str]:
    """Whether a network learns for too few steps; its options are in a section of its name."""
    section = section or role
    for work in estimate.works:
        is_random = work.training is not None and not work.training.start.weights
        if work.role == role and work.units < FEW_STEPS and is_random:
            yield (
                f"{section}: {work.units:,} steps from random weights learn next to nothing; raise "
                f"{section}.length, or give {section}.start.weights"
            )


def _doubts_of_student(estimate: Estimate, lessons: int) -> Iterator[str]:
    for work in estimate.works:
        if work.role != "pretrained" or work.training is None:
            continue
        passes = work.units * work.training.batch_size / max(1, lessons)
        if passes > MANY_PASSES:
            yield f"student: it sees each lesson {passes:,.0f} times; lower student.length"


def _doubts_of_labels(options: BillionScale, labelled_images: int, classes: int) -> Iterator[str]:
    teacher, student = options.teacher, options.student
    if labelled_images >= FEW_LABELS * classes or teacher.inputs.size < PHOTOGRAPH:
        return
    if not teacher.start.weights:
        yield (
            f"teacher: {labelled_images:,} labelled images of {classes:,} classes teach a network "
            "from random weights hardly anything, and it chooses by what it knows: start from "
            "weights that know photographs (teacher.start.weights, teacher.start.head=linear; "
            "`protege models` lists networks), or take the preset photos"
        )
    elif teacher.start.weights == student.start.weights and not teacher.is_given:
        yield (
            f"teacher and student start from the same weights ({teacher.start.weights}), and "
            f"{labelled_images:,} labelled images of {classes:,} classes teach the teacher hardly "
            "more than the baseline: expect no gain over it (docs/photos.md has what was "
            "measured). More labels help, or a teacher that knows more (`protege models`)"
        )
