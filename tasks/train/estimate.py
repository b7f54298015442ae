"""What a training will take, before it runs: its length in steps and its learning rate."""

from tasks.estimate import Estimate, Work
from tasks.options import Length
from tasks.train.options import TrainOptions


def estimate_training(
    role: str, options: TrainOptions, images: int | None, *, num_views: float = 1
) -> Estimate:
    """The training of this role on so many images; None where they were not counted.

    A step looks at `num_views` images for each of its batch size: views of one, or others beside.
    """
    alike = {"model": options.model, "batch_size": options.batch_size}
    steps = options.total_steps(images or 0)
    text = _describe(options, images or 0)
    if images is None and options.length.unit == "epochs" and steps:
        text = f"{options.model}, {options.length} of images that were not counted"
    # A virtual rank has more images, and there are no more of them.
    more = {
        "batch_size": round(options.batch_size * num_views),
        "virtual_ranks": options.num_virtual_ranks,
    }
    seen = options.model_copy(update=more)
    return Estimate((Work(role, "train", steps, text, alike, training=seen),))


def _describe(options: TrainOptions, images: int) -> str:
    if options.is_given:
        return f"{options.model} as given by {options.start.weights}"
    start = f" from {options.start.weights}" if options.start.weights else ""
    if options.is_linear:
        return f"{options.model}{start}, a linear head on the features of {images:,} images"
    rate, steps = options.learning_rate, options.total_steps(images)
    peak = options.schedule(images).peak_rate
    seen = Length(amount=steps * options.batch_size, unit="images")
    length = "" if options.length.unit == "steps" else f"{options.length} = "
    every = f"{rate.gamma_every.amount:g} {rate.gamma_every.unit}"
    decays = {
        "cosine": "cosine",
        "step": f"{rate.num_steps_down} steps down by {rate.gamma:g}",
        "exponential": f"times {rate.gamma:g} every {every}",
    }
    return (
        f"{options.model}{start}, {length}{steps:,} steps of {options.batch_size:,} ({seen}); "
        f"{options.warmup_steps(images):,} steps of warm-up from {rate.warmup_start:g} to "
        f"{peak:g}, then {decays[rate.schedule]}"
    )
