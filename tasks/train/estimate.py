"""What a training will take, before it runs: its length in steps and its learning rate."""

from tasks.estimate import Estimate, Work
from tasks.options import Length
from tasks.train.options import TrainOptions


def estimate_training(role: str, options: TrainOptions, images: int) -> Estimate:
    """The training of this role on so many images."""
    alike = {"model": options.model, "batch_size": options.batch_size}
    steps = options.total_steps(images)
    text = _describe(options, images)
    return Estimate((Work(role, "train", steps, text, alike, training=options),))


def _describe(options: TrainOptions, images: int) -> str:
    if options.is_given:
        return f"{options.model} as given by {options.start.weights}"
    start = f" from {options.start.weights}" if options.start.weights else ""
    if options.is_linear:
        return f"{options.model}{start}, a linear head on the features of {images:,} images"
    schedule, rate = options.schedule(images), options.learning_rate
    steps = schedule.total_steps
    seen = Length(amount=steps * options.batch_size, unit="images")
    length = "" if options.length.unit == "steps" else f"{options.length} = "
    decay = f"{rate.num_steps_down} steps down by {rate.gamma:g}"
    return (
        f"{options.model}{start}, {length}{steps:,} steps of {options.batch_size:,} ({seen}); "
        f"{schedule.warmup_steps:,} steps of warm-up from {rate.warmup_start:g} to "
        f"{schedule.peak_rate:g}, then {'cosine' if rate.schedule == 'cosine' else decay}"
    )
