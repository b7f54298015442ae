"""billion-scale: few labels and a pile of unlabelled images in, a better small model out.

"Billion-scale semi-supervised learning for image classification" (Yalniz et al. 2019), section 3:
train a teacher on the labels; let it rank the pile, class by class; train a student on the best K
of each class, and on nothing else; fine-tune it on the labels. Beside it, the same network learns
from the labels alone, to compare with.

    protege run billion-scale --set labelled.source=... --set pile.source=... --set test.source=...
"""

from collections.abc import Mapping

from flows.billion_scale.options import BillionScale
from flows.campaign.run import Run
from tasks.contract import Output
from tasks.evaluate import Choice
from tasks.score.estimate import estimate_scoring
from tasks.train.estimate import estimate_training


def billion_scale(run: Run, options: BillionScale) -> Mapping[str, Output]:
    """Run the method; returns its models by role."""
    # Pin the images.
    labelled = run.shard(options=options.labelled, role="labelled")
    pile = run.shard(options=options.pile, role="pile")
    test = run.shard(options=options.test, role="test")
    classes = run.classes(labelled, test)
    signatures = {}
    if options.topk.drop_near_duplicates:
        signatures["labelled"] = run.signature(labelled, role="labelled_signatures")
        signatures["test"] = run.signature(test, role="test_signatures")
    run.check_copies(labelled, test, signatures, options.approval)

    # The teacher learns from the labels, scores the pile, and chooses.
    labels = run.gather(labelled, options=options.gather, classes=classes, role="labelled_lessons")
    teacher = run.train(labels, options.teacher, classes=classes, role="teacher")
    unseen = labelled if options.teacher.is_given else test
    run.check_teacher(teacher, unseen, options.approval, batch_size=options.evaluate.batch_size)
    max_lessons = options.topk.k * len(classes)
    run.approve(
        options.approval,
        "score",
        lambda: (
            estimate_scoring("score", pile)
            + estimate_training("pretrained", options.student, max_lessons)
        ),
    )
    scores = run.score(pile, teacher, options.score)
    chosen = run.topk(scores, options.topk, exclude=signatures)
    lessons = run.gather(pile, chosen, options.gather)

    # The student learns from the choice alone, then goes on with the true labels alone.
    run.approve(
        options.approval,
        "student",
        lambda: estimate_training("pretrained", options.student, lessons.kept),
    )
    pretrained = run.train(lessons, options.student, role="pretrained")
    student = run.fine_tune(pretrained, labels, options.fine_tune, role="student")

    # The same network and the same fine-tuning: true labels alone.
    supervised = run.train(labels, options.baseline_training, classes=classes, role="supervised")
    baseline = run.fine_tune(supervised, labels, options.fine_tune, role="baseline")

    models = {
        "teacher": teacher,
        "baseline": baseline,
        "pretrained": pretrained,
        "student": student,
    }
    choice = Choice(pile, chosen, teacher)
    compare = ("student", "baseline")
    run.evaluate(test, models, options.evaluate, compare=compare, choice=choice)
    run.report(options.report)
    return models
