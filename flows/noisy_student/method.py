"""noisy-student: a teacher labels the pile, a noised student learns it, and is the next teacher.

"Self-training with noisy student improves ImageNet classification" (Xie et al. 2020), algorithm 1:
train a teacher on the labels; let it, without noise, label the pile; train an equal or larger
student, with noise, on labelled and pseudo-labelled images together; make the student the teacher,
and do it again. Beside it, the same network learns from the labels alone, to compare with.

    protege run noisy-student --set labelled.source=... --set pile.source=... --set test.source=...
"""

import logging
from collections.abc import Mapping
from functools import partial

from flows.campaign.run import Run
from flows.noisy_student.options import NoisyStudent
from flows.noisy_student.plan import estimate_generations
from tasks.contract import Output
from tasks.evaluate import Choice, figure, read_metrics

logger = logging.getLogger(__name__)


def noisy_student(run: Run, options: NoisyStudent) -> Mapping[str, Output]:
    """Run the method; returns its models by role."""
    # Pin the images.
    labelled = run.shard(options=options.labelled, role="labelled")
    pile = run.shard(options=options.pile, role="pile")
    test = run.shard(options=options.test, role="test")
    audit = run.shard(options=options.audit, role="audit") if options.audit.source else None
    classes = run.classes(labelled, test)
    known = {
        "labelled": run.signature(labelled, role="labelled_signatures"),
        "test": run.signature(test, role="test_signatures"),
    }
    run.check_copies(labelled, test, known, options.approval)

    # The first teacher learns from the labels.
    labels = run.gather(labelled, options=options.gather, classes=classes, role="labelled_lessons")
    teacher = run.train(labels, options.teacher, classes=classes, role="teacher")
    batch_size = options.evaluate.batch_size
    run.check_teacher(teacher, audit or test, options.approval, batch_size=batch_size)
    run.approve(
        options.approval, "score", lambda: estimate_generations(options, labels.kept, pile.kept)
    )
    filter_scores = None
    if options.generations.filter_by == "filter":
        judge = run.train(labels, options.filter, classes=classes, role="filter")
        filter_scores = run.score(pile, judge, options.score, role="filter_score")

    def learn(teacher: Output, number: int) -> tuple[Output, Choice]:
        """A student of this teacher, and what it learned from."""
        scores = run.score(pile, teacher, options.score, role=f"score_{number}")
        sure_of = filter_scores or scores
        chosen = run.topk(sure_of, options.topk, exclude=known, role=f"topk_{number}")
        soft_labels = scores if options.generations.pseudo_labels == "soft" else None
        gather, role = options.gather.whole, f"gather_{number}"
        pseudo_labelled = run.gather(pile, chosen, gather, soft_labels=soft_labels, role=role)
        student = run.train(
            labels,
            options.student,
            classes=classes,
            objective=options.joint_of(number),
            objective_inputs={"unlabelled": pseudo_labelled},
            role=f"student_{number}",
        )
        models, choice = {f"student_{number}": student}, Choice(pile, chosen, teacher)
        run.evaluate(test, models, options.evaluate, choice=choice, role=f"evaluate_{number}")
        return student, choice

    # Each student becomes the next teacher, unless it is worse.
    models, choice = {"teacher": teacher}, None
    for number in range(1, options.generations.count + 1):
        group = partial(learn, teacher, number)
        student, students_choice = run.group(f"generation {number}", group)
        models[f"student_{number}"] = student
        if audit is not None and _is_worse(run, options, audit, teacher, student, number):
            break
        teacher, choice = student, students_choice

    # The last one at a larger size; and the same network on the labels alone, treated alike.
    supervised = run.train(labels, options.baseline_training, classes=classes, role="supervised")
    size = options.last_size
    student = run.fine_tune(teacher, labels, options.fix_res, size=size, role="student")
    baseline = run.fine_tune(supervised, labels, options.fix_res, size=size, role="baseline")
    models |= {"student": student, "baseline": baseline}
    compare = ("student", "baseline")
    run.evaluate(test, models, options.evaluate, compare=compare, choice=choice)
    run.report(options.report)
    return models


def _is_worse(
    run: Run, options: NoisyStudent, audit: Output, teacher: Output, student: Output, number: int
) -> bool:
    """Whether held-out images say that a student is worse than its teacher, beyond their error."""
    role, before = f"student_{number}", f"student_{number - 1}" if number > 1 else "teacher"
    models, tests = {before: teacher, role: student}, {"audit": audit}
    measured = run.evaluate(
        tests, models, options.evaluate, compare=(role, before), role=f"audit_{number}"
    )
    metrics = read_metrics(measured)
    gain, error = (figure(metrics, role, name) for name in ("gain", "gain_standard_error"))
    if options.generations.stop == "never" or gain is None or error is None or gain + error >= 0:
        return False
    logger.warning(
        "generation %s is worse than the one before on the held-out images (%+.1f points, standard "
        "error %.1f): it is the last, and the result is the one before",
        number,
        100 * gain,
        100 * error,
    )
    return True
