"""Checks: whether the options, the lessons and the model to start from fit each other.

In: what a training is given. Out: nothing, or an error that says what to change, before any work.
"""

from collections.abc import Sequence

from infra.errors import ProtegeError
from tasks.contract import Output
from tasks.images import Inputs
from tasks.train.job import PROJECTION, InitHead
from tasks.train.options import TrainOptions
from tasks.train.start.given import list_classes
from tasks.train.start.projected import goes_on_from, no_projection


def check_lessons(data: Output) -> None:
    """Raise ProtegeError for images that were not shuffled over everything."""
    if data.stage != "gather":
        raise ProtegeError(
            f"{data.uri} is an output of {data.stage}, and a training learns from an output of "
            "gather, which shuffles images over everything: gather it first"
        )


def check_classes(data: Output, classes: Sequence[str]) -> None:
    """Raise ProtegeError for a network without outputs."""
    if not classes:
        raise ProtegeError(
            f"{data.uri} was gathered without classes: say which the network has (classes=...), "
            "even if it is trained without them"
        )


def check_length(options: TrainOptions, init: Output | None) -> None:
    """Raise ProtegeError for a training that would publish random weights."""
    if not (options.length.amount or options.start.weights or init):
        raise ProtegeError(
            "options.length is 0, which leaves random weights: give options.start.weights, or a "
            "length"
        )


def check_warmup(options: TrainOptions, images: int) -> None:
    """Raise ProtegeError for a warm-up that is longer than the training."""
    steps, warmup_steps = options.total_steps(images), options.warmup_steps(images)
    if steps and warmup_steps > steps:
        raise ProtegeError(
            f"options.learning_rate.warmup ({options.learning_rate.warmup}) is "
            f"{warmup_steps:,} steps of {images:,} images, and options.length "
            f"({options.length}) only {steps:,}, so that the peak of the rate is "
            "never reached: shorten the warm-up"
        )


def check_augment(options: TrainOptions, images: int) -> None:
    """Raise ProtegeError for an end without augmentation that is as long as the training."""
    steps, end = options.total_steps(images), options.augment.off_at_end
    end_steps = end.steps(images_per_epoch=images, batch_size=options.batch_size)
    if steps and end_steps >= steps:
        raise ProtegeError(
            f"options.augment.off_at_end ({end}) is {end_steps:,} steps of {images:,} images, and "
            f"options.length ({options.length}) only {steps:,}, so that no image is changed at "
            "all: shorten the end"
        )


def check_init(
    init: Output, init_head: InitHead, options: TrainOptions, classes: Sequence[str]
) -> None:
    """Raise ProtegeError when this training cannot start from that model."""
    model = init.options["model"]
    if init_head == "linear" and options.length.amount:
        raise ProtegeError(
            f"init_head='linear' fits the head and trains nothing, and options.length is "
            f"{options.length}: set it to 0"
        )
    if init_head != "keep" and goes_on_from(options.model, model):
        if PROJECTION not in {part["name"] for part in init.body["parts"]}:
            raise no_projection(init.uri)
    elif model != options.model:
        raise ProtegeError(
            f"{init.uri} is a {model}, and the model of the options is {options.model}: set model "
            f"to {model}"
        )
    inputs = Inputs.model_validate(init.options["inputs"])
    # Convolutions take pictures of any size; colours that they have never seen are a mistake.
    same_size = options.inputs.model_copy(update={"size": inputs.size, "resize": inputs.resize})
    if inputs != same_size:
        raise ProtegeError(
            f"{init.uri} was trained with other inputs ({inputs}) than those of the options "
            f"({options.inputs}): set the same, but for their size"
        )
    if init_head == "keep" and init.classes != list(classes):
        raise ProtegeError(
            f"{init.uri} was trained for other classes ({list_classes(init.classes)}) than these "
            f"({list_classes(classes)}): pass init_head='new' to keep its features and train a new "
            "head, or 'linear' to fit one, or train on images of its classes"
        )
