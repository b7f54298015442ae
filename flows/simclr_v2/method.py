"""simclr-v2: a network learns without labels first, then from few, then teaches a smaller one.

"Big self-supervised models are strong semi-supervised learners" (Chen et al. 2020), section 2:
pre-train a big network contrastively on the pile; fine-tune it on the labels, from the first layer
of its projection head; distil it on the pile, to itself and to a smaller network. Beside it, the
smaller network learns from the labels alone, to compare with.

    protege run simclr-v2 --set labelled.source=... --set pile.source=... --set test.source=...
"""

from collections.abc import Mapping

from flows.campaign.run import Run
from flows.simclr_v2.options import SimclrV2
from flows.simclr_v2.plan import estimate_distillation
from tasks.contract import Output
from tasks.train import DistillationOptions, TrainOptions
from tasks.train.estimate import estimate_training


def simclr_v2(run: Run, options: SimclrV2) -> Mapping[str, Output]:
    """Run the method; returns its models by role."""
    # Pin the images. Without a pile, the network learns from the labelled ones, without labels.
    labelled = run.shard(options=options.labelled, role="labelled")
    pile = run.shard(options=options.pile, role="pile") if options.pile.source else labelled
    test = run.shard(options=options.test, role="test")
    classes = run.classes(labelled, test)
    signatures = {
        "labelled": run.signature(labelled, role="labelled_signatures"),
        "test": run.signature(test, role="test_signatures"),
    }
    run.check_copies(labelled, test, signatures, options.approval)
    labels = run.gather(labelled, options=options.gather, classes=classes, role="labelled_lessons")
    unlabelled = run.gather(pile, options=options.gather.whole, classes=[], role="pile_lessons")

    # 1. Contrastive pre-training, without labels; and what a linear head makes of its features.
    run.approve(
        options.approval,
        "pretrain",
        lambda: estimate_training("pretrained", options.pretrain, unlabelled.kept, num_views=2),
    )
    pretrained = run.train(
        unlabelled,
        options.pretrain,
        classes=classes,
        objective=options.contrast,
        role="pretrained",
    )
    linear = run.fit_head(pretrained, labels, classes=classes, role="linear")

    # 2. Fine-tuning on the labels, from inside the projection head.
    teacher = run.fine_tune(
        pretrained,
        labels,
        options.fine_tune,
        classes=classes,
        head="new",
        from_projection=options.fine_tune.start_at == "projection",
        role="teacher",
    )
    batch_size = options.evaluate.batch_size
    run.check_teacher(teacher, test, options.approval, batch_size=batch_size)

    # 3. Distillation on the pile: to the same network, then to a smaller one.
    run.approve(
        options.approval,
        "distill",
        lambda: estimate_distillation(options, unlabelled.kept),
    )
    models = {"linear": linear, "teacher": teacher}
    if options.self_distillation.length.amount:
        teacher = _distill(
            run,
            teacher,
            unlabelled,
            options.self_distilled,
            DistillationOptions(temperature=options.self_distillation.temperature),
            role="self_distilled",
        )
        models["self_distilled"] = teacher
    student = _distill(
        run, teacher, unlabelled, options.student, options.distillation.objective, role="student"
    )

    # The small network on the labels alone.
    baseline = run.train(labels, options.baseline_training, classes=classes, role="baseline")

    models |= {"student": student, "baseline": baseline}
    run.evaluate(test, models, options.evaluate, compare=("student", "baseline"))
    run.report(options.report)
    return models


def _distill(
    run: Run,
    teacher: Output,
    unlabelled: Output,
    options: TrainOptions,
    objective: DistillationOptions,
    *,
    role: str,
) -> Output:
    """A network that learns what the teacher says of the pile (section 2, equation 2)."""
    return run.train(
        unlabelled,
        options,
        classes=teacher.classes,
        objective=objective,
        objective_inputs={"teacher": teacher},
        role=role,
    )
