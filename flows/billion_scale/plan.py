"""Plan: what a campaign will amount to, before anything runs.

In: options, the number of labelled images and of classes. Out: lines of text, with every length in
steps and every learning rate scaled to its batch.
"""

from flows.billion_scale.options import BillionScale
from flows.billion_scale.presets import IMAGENET_CLASSES, IMAGENET_IMAGES
from tasks.options import Length
from tasks.shard.sources import list_source
from tasks.train import TrainOptions


def plan(options: BillionScale, labelled_images: int, classes: int) -> list[str]:
    """One line for each training, and one for the choice."""
    lessons = options.topk.k * classes
    student = options.student
    finish = student.continued(options.fine_tune)
    alone = options.baseline_training(student.total_steps(lessons))
    return [
        f"choice: {options.topk.k:,} of each of {classes:,} classes = at most {lessons:,} lessons "
        f"(P {options.topk.top_p})",
        _line("teacher", options.teacher, labelled_images),
        _line("student", student, lessons),
        _line("fine-tune", finish, labelled_images),
        _line("baseline", alone, labelled_images),
    ]


def _line(role: str, training: TrainOptions, images: int) -> str:
    if training.checkpoint:
        return f"{role}: {training.model} as given by {training.checkpoint}"
    schedule = training.schedule(images)
    steps = schedule.total_steps
    rate = training.learning_rate
    decay = (
        "cosine"
        if rate.schedule == "cosine"
        else f"{rate.num_steps_down} steps down by {rate.gamma:g}"
    )
    seen = Length(amount=steps * training.batch_size, unit="images")
    return (
        f"{role}: {training.model}, {training.length} = {steps:,} steps of "
        f"{training.batch_size:,} ({seen}); {schedule.warmup_steps:,} steps of warm-up from "
        f"{rate.warmup_start:g} to {schedule.peak_rate:g}, then {decay}"
    )


def sizes(options: BillionScale, images: int, classes: int) -> tuple[int, int]:
    """Labelled images and classes: as given, as the source has them, or as ImageNet has them."""
    source = options.labelled.source
    if source and not (images and classes):
        entries = list_source(source, labelled=True, within=options.labelled.slice)
        names = {entry.label for entry in entries}
        return images or len(entries), classes or len(names)
    return images or IMAGENET_IMAGES, classes or IMAGENET_CLASSES
