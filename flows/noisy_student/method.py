"""noisy-student: a teacher labels the pile, a noised student learns it, and is the next teacher.

"Self-training with noisy student improves ImageNet classification" (Xie et al. 2020), algorithm 1:
train a teacher on the labels; let it, without noise, label the pile; train an equal or larger
student, with noise, on labelled and pseudo-labelled images together; make the student the teacher,
and do it again. Beside it, the same network learns from the labels alone, to compare with.

    protege run noisy-student --set labelled.source=... --set pile.source=... --set test.source=...
"""

from collections.abc import Mapping
from functools import partial

from flows.campaign.committee import train_committee
from flows.campaign.known import score_known
from flows.campaign.run import Run
from flows.noisy_student.generation import Generation, ask_committee, chooses_worse, is_worse
from flows.noisy_student.options import NoisyStudent
from flows.noisy_student.plan import estimate_generations
from tasks.contract import Output
from tasks.evaluate import Choice


def noisy_student(run: Run, options: NoisyStudent) -> Mapping[str, Output]:
    """Run the method; returns its models by role."""
    # Pin the images.
    labelled = run.shard(options=options.labelled, role="labelled")
    pile = run.shard(options=options.pile, role="pile")
    test = run.shard(options=options.test, role="test")
    audit = run.shard(options=options.audit, role="audit") if options.audit.source else None
    classes = run.classes(labelled, test)
    sources = {"labelled": labelled, "test": test}
    known = {
        name: run.signature(images, role=f"{name}_signatures") for name, images in sources.items()
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
    filter_scores, filter_known = None, dict[str, Output]()
    if options.generations.filter_by == "filter":
        judge = run.train(labels, options.filter, classes=classes, role="filter")
        filter_scores = run.score(pile, judge, options.score, role="filter_score")
        filter_known = score_known(run, options.topk, options.score, judge, sources, "_filter")

    members = train_committee(
        run, options.committee, options.member, labelled, classes, options.gather
    )

    def learn(teacher: Output, number: int, before: Generation | None) -> Generation | None:
        """A student of this teacher; none, where the committee says that the teacher is worse."""
        scores = run.score(pile, teacher, options.score, role=f"score_{number}")
        chosen = run.topk(
            filter_scores or scores,
            options.topk,
            exclude=known,
            known_scores=filter_known
            or score_known(run, options.topk, options.score, teacher, sources, f"_{number}"),
            role=f"topk_{number}",
        )
        choice = Choice(pile, chosen, teacher)
        agreement, dropped = ask_committee(run, options, choice, members, number)
        if options.stops_by_committee and chooses_worse(agreement, before):
            return None
        pseudo_labelled = run.gather(
            pile,
            chosen,
            options.gather.whole,
            scores=scores,
            dropped_classes=dropped,
            role=f"gather_{number}",
        )
        student = run.train(
            labels,
            options.student,
            classes=classes,
            objective=options.joint_of(number),
            objective_inputs={"unlabelled": pseudo_labelled},
            role=f"student_{number}",
        )
        models, role = {f"student_{number}": student}, f"evaluate_{number}"
        run.evaluate(test, models, options.evaluate, choice=choice, role=role)
        return Generation(number, student, choice, agreement, before)

    # Each student becomes the next teacher, unless it is worse.
    models, last = {"teacher": teacher}, None
    for number in range(1, options.generations.count + 1):
        own_teacher = last.student if last else teacher
        found = run.group(f"generation {number}", partial(learn, own_teacher, number, last))
        if found is None:
            last = last and last.before
            break
        models[f"student_{number}"] = found.student
        if audit and is_worse(run, options, audit, own_teacher, found.student, number):
            break
        last = found

    # The last one at a larger size; and the same network on the labels alone, treated alike.
    supervised = run.train(labels, options.baseline_training, classes=classes, role="supervised")
    size = options.last_size
    best, choice = (last.student, last.choice) if last else (teacher, None)
    student = run.fine_tune(best, labels, options.fix_res, size=size, role="student")
    baseline = run.fine_tune(supervised, labels, options.fix_res, size=size, role="baseline")
    models |= {"student": student, "baseline": baseline}
    compare = ("student", "baseline")
    run.evaluate(test, models, options.evaluate, compare=compare, choice=choice)
    run.report(options.report)
    return models
