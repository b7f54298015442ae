"""toy: train, go on, and score what was learned from."""

from collections.abc import Mapping

from flows.campaign.run import Run
from tasks.contract import Output
from tests.builders.toy.options import Toy


def toy(run: Run, options: Toy) -> Mapping[str, Output]:
    """Run the method; returns its models by role."""
    images = run.shard(options=options.images, role="images")
    lessons = run.gather(images, role="images_lessons")
    teacher = run.train(lessons, options.teacher, role="teacher")
    student = run.fine_tune(teacher, lessons, options.fine_tune, role="student")
    run.score(images, student, options.score)
    return {"teacher": teacher, "student": student}
