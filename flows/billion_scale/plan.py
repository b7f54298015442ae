"""Plan: what a campaign will take, before anything runs."""

from flows.billion_scale.options import BillionScale
from tasks.estimate import Estimate, Work
from tasks.train.estimate import estimate_training


def plan(options: BillionScale, labelled_images: int, classes: int) -> Estimate:
    """The choice and every training, in the order in which they run."""
    lessons = options.topk.k * classes
    student = options.student
    fine_tune = student.continued(options.fine_tune)
    alone = options.baseline_training(student.total_steps(lessons))
    choice = (
        f"{options.topk.k:,} of each of {classes:,} classes = at most {lessons:,} lessons "
        f"(P {options.topk.top_p})"
    )
    return (
        estimate_training("teacher", options.teacher, labelled_images)
        + Estimate((Work("topk", "topk", lessons, choice),))
        + estimate_training("pretrained", student, lessons)
        + estimate_training("student", fine_tune, labelled_images)
        + estimate_training("supervised", alone, labelled_images)
        + estimate_training("baseline", fine_tune, labelled_images)
    )
