"""billion-scale: few labels and a pile of unlabelled images in, a better small model out.

"Billion-scale semi-supervised learning for image classification" (Yalniz et al. 2019), section 3:
train a teacher on the labels; let it rank the pile, class by class; train a student on the best K
of each class, and on nothing else; fine-tune it on the labels. Beside it, the same network learns
from the labels alone, to compare with.

    protege run billion-scale --set labelled.source=... --set pile.source=... --set test.source=...
"""

import time
from typing import Any

from prefect import flow

from flows.billion_scale.options import BaselineOptions, BillionScale
from flows.campaign import costs, summary
from flows.campaign.options import ApprovalOptions
from flows.campaign.run import STARTED, gathered, open_run
from flows.engine import stages
from flows.engine.approval import approve
from tasks.evaluate import Choice, EvaluateOptions
from tasks.gather import GatherOptions
from tasks.report import ReportOptions, Story
from tasks.score import ScoreOptions
from tasks.shard import ShardOptions, class_names
from tasks.topk import TopkOptions
from tasks.train import Training, TrainOptions

NAME = "billion-scale"
_DEFAULT = BillionScale()


@flow(name=NAME, persist_result=False)
@stages.readable
def billion_scale(
    labelled: ShardOptions = _DEFAULT.labelled,
    pile: ShardOptions = _DEFAULT.pile,
    test: ShardOptions = _DEFAULT.test,
    teacher: TrainOptions = _DEFAULT.teacher,
    score: ScoreOptions = _DEFAULT.score,
    topk: TopkOptions = _DEFAULT.topk,
    gather: GatherOptions = _DEFAULT.gather,
    student: TrainOptions = _DEFAULT.student,
    fine_tune: Training = _DEFAULT.fine_tune,
    baseline: BaselineOptions = _DEFAULT.baseline,
    evaluate: EvaluateOptions = _DEFAULT.evaluate,
    report: ReportOptions = _DEFAULT.report,
    approval: ApprovalOptions = _DEFAULT.approval,
    root: str = "",
) -> dict[str, Any]:
    """Few labels and a pile of unlabelled images in, a better small model out.

    Args:
        labelled: Images with true classes: one folder for each class.
        pile: The unlabelled images.
        test: Images with true classes that nothing is trained or chosen on.
        teacher: The large network that learns from the labels and looks at the pile.
        score: How the teacher scores the pile.
        topk: Which images are chosen to teach the student.
        gather: How the chosen images become a training set.
        student: The small network, trained on the chosen images only.
        fine_tune: The student goes on, on the true labels only.
        baseline: The student's network on the true labels alone, to compare with.
        evaluate: What is measured.
        report: How the report looks.
        approval: Whether somebody is asked before the expensive part.
        root: Folder or s3:// prefix of all outputs; empty takes PROTEGE_ROOT.
    """
    started = STARTED.get(time.perf_counter())
    options = gathered(BillionScale, locals())
    sources = {"labelled": labelled, "pile": pile, "test": test}
    with open_run(NAME, options, sources, root) as run:
        # Pin the images.
        labelled_set = stages.shard(run, "labelled", labelled)
        pile_set = stages.shard(run, "pile", pile)
        test_set = stages.shard(run, "test", test)
        classes = class_names(labelled_set, test_set)
        run.pin()

        # The teacher learns from the labels, looks at the pile, and chooses.
        teacher_model = stages.train(run, "teacher", teacher, labelled_set, classes)
        most = topk.k * len(classes)
        approve(
            approval,
            "score",
            lambda: [costs.scoring(run, pile_set), costs.training(run, "student", student, most)],
        )
        scores = stages.score(run, "score", score, pile_set, teacher_model)
        sets = {"labelled": labelled_set, "test": test_set} if topk.drop_near_duplicates else {}
        known = {role: stages.signature(run, role, images) for role, images in sets.items()}
        chosen = stages.topk(run, "topk", topk, scores, known)
        lessons = stages.gather(run, "gather", gather, pile_set, chosen)

        # The student learns from the choice alone, then goes on with the true labels alone.
        approve(
            approval, "student", lambda: [costs.training(run, "student", student, lessons.kept)]
        )
        pretrained = stages.train(run, "pretrained", student, lessons, classes)
        finish = student.continued(fine_tune)
        student_model = stages.train(run, "student", finish, labelled_set, classes, pretrained)

        # The same network, the same number of steps, the same fine-tuning: true labels alone.
        alone = options.baseline_training(student.total_steps(lessons.kept))
        supervised = stages.train(run, "supervised", alone, labelled_set, classes)
        baseline_model = stages.train(run, "baseline", finish, labelled_set, classes, supervised)

        models = {
            "teacher": teacher_model,
            "baseline": baseline_model,
            "pretrained": pretrained,
            "student": student_model,
        }
        choice = Choice(pile_set, chosen, teacher_model)
        compare = ("student", "baseline")
        measured = stages.evaluate(run, "evaluate", evaluate, test_set, models, compare, choice)
        figures = summary.figures(run, measured, student.seed)
        story = Story(
            recipe=NAME,
            campaign=run.campaign.id,
            command=summary.rerun_command(run),
            outputs=run.outputs(),
            spread=summary.spread(run, figures),
        )
        page = stages.report(run, "report", report, story)
        result = summary.complete(figures, run, page, time.perf_counter() - started)
        run.finish(result)
        summary.publish(result, run, stages.link(page))
        return result
