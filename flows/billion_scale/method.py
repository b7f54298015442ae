"""billion-scale: few labels and a pile of unlabelled images in, a better small model out.

"Billion-scale semi-supervised learning for image classification" (Yalniz et al. 2019), section 3:
train a teacher on the labels; let it rank the pile, class by class; train a student on the best K
of each class, and on nothing else; fine-tune it on the labels. Beside it, the same network learns
from the labels alone, to compare with.

    protege run billion-scale --set labelled.source=... --set pile.source=... --set test.source=...
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flows.billion_scale.options import BillionScale
from flows.campaign.committee import classes_below, train_committee
from flows.campaign.known import score_known
from flows.campaign.run import Run
from tasks.contract import Output
from tasks.evaluate import Choice
from tasks.score.estimate import estimate_scoring
from tasks.train.estimate import estimate_training


def billion_scale(run: Run, options: BillionScale) -> Mapping[str, Output]:
    """Run the method; returns its models by role."""
    images = pin(run, options)
    teacher = run.train(images.labels, options.teacher, classes=images.classes, role="teacher")
    chosen = choose(run, options, images, teacher)
    models = {"teacher": teacher, **learn(run, options, images, chosen)}
    compare = ("student", "baseline")
    run.evaluate(images.test, models, options.evaluate, compare=compare, choice=chosen.choice)
    run.report(options.report)
    return models


@dataclass(frozen=True)
class Images:
    """The images of a campaign; `signatures` are of those that may not be chosen, and `labels` is
    the training set of the labelled ones.
    """

    labelled: Output
    pile: Output
    test: Output
    classes: list[str]
    signatures: Mapping[str, Output]
    labels: Output


@dataclass(frozen=True)
class Chosen:
    """A choice by its scores, and the classes to drop of it, as a committee says."""

    choice: Choice
    scores: Output
    dropped: Sequence[str]


def pin(run: Run, options: BillionScale) -> Images:
    """Pin the images, and check them."""
    labelled = run.shard(options=options.labelled, role="labelled")
    pile = run.shard(options=options.pile, role="pile")
    test = run.shard(options=options.test, role="test")
    classes = run.classes(labelled, test)
    signatures = {}
    if options.topk.drop_near_duplicates:
        signatures["labelled"] = run.signature(labelled, role="labelled_signatures")
        signatures["test"] = run.signature(test, role="test_signatures")
    run.check_copies(labelled, test, signatures, options.approval)
    labels = run.gather(labelled, options=options.gather, classes=classes, role="labelled_lessons")
    return Images(labelled, pile, test, classes, signatures, labels)


def choose(run: Run, options: BillionScale, images: Images, teacher: Output) -> Chosen:
    """Let the teacher score the pile, and choose the best images of every class."""
    unseen = images.labelled if options.teacher.is_given else images.test
    run.check_teacher(teacher, unseen, options.approval, batch_size=options.evaluate.batch_size)
    max_lessons = options.topk.k * len(images.classes)
    run.approve(
        options.approval,
        "score",
        lambda: (
            estimate_scoring("score", images.pile)
            + estimate_training("pretrained", options.student, max_lessons)
        ),
    )
    scores = run.score(images.pile, teacher, options.score)
    known = {"labelled": images.labelled, "test": images.test}
    known_scores = score_known(run, options.topk, options.score, teacher, known)
    exclude = images.signatures
    chosen = run.topk(scores, options.topk, exclude=exclude, known_scores=known_scores)
    members = train_committee(
        run, options.committee, options.member, images.labelled, images.classes, options.gather
    )
    dropped: list[str] = []
    if members:
        agreement = run.agreement(images.pile, chosen, members, options.committee)
        dropped = classes_below(agreement, options.committee.min_precision)
    return Chosen(Choice(images.pile, chosen, teacher), scores, dropped)


def learn(run: Run, options: BillionScale, images: Images, chosen: Chosen) -> Mapping[str, Output]:
    """Train the student on the choice, and the same network on the labels alone."""
    pairs, scores, dropped = chosen.choice.chosen, chosen.scores, chosen.dropped
    lessons = run.gather(images.pile, pairs, options.gather, scores=scores, dropped_classes=dropped)
    run.approve(
        options.approval,
        "student",
        lambda: estimate_training("pretrained", options.student, lessons.kept),
    )
    # The student learns from the choice alone, then goes on with the true labels alone.
    objective = options.pretrain_objective
    pretrained = run.train(lessons, options.student, objective=objective, role="pretrained")
    student = run.fine_tune(pretrained, images.labels, options.fine_tune, role="student")

    # The same network and the same fine-tuning: true labels alone.
    training, classes = options.baseline_training, images.classes
    supervised = run.train(images.labels, training, classes=classes, role="supervised")
    baseline = run.fine_tune(supervised, images.labels, options.fine_tune, role="baseline")
    return {"baseline": baseline, "pretrained": pretrained, "student": student}
