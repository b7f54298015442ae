"""Digits: how networks learn the digits of the demo, whichever the recipe."""

from typing import Any

from tasks.images import Inputs
from tasks.options import Length
from tasks.train import TrainOptions
from tasks.train.options import Augment, LearningRate, TrainSpeed

INPUTS = Inputs(size=28, resize=28, pixels="unit")
SHAPES = Augment(
    crop_min_area=1,
    flip=False,
    rotate_degrees=15,
    translate=0.1,
    scale=0.22,
    shear=0.27,
    elastic=0.06,
)
DIGITS_SPEED = TrainSpeed(checkpoint_seconds=10, threads=1, decode_threads=1)
SUPERVISED: dict[str, Any] = {
    "batch_size": 64,
    "virtual_ranks": 1,
    "nesterov": True,
    "label_smoothing": 0.1,
    "ema_decay": 0.99,
    "augment": SHAPES.model_copy(update={"mixup": 0.4}),
    "speed": DIGITS_SPEED,
}


def steps(amount: int) -> Length:
    """A length in steps."""
    return Length(amount=amount, unit="steps")


def rate(base: float, length: int) -> LearningRate:
    """A rate for a training of so many steps, of which a twentieth is warm-up."""
    return LearningRate(base=base, warmup=steps(length // 20))


def digits_training(
    model: str, length: int, base: float, weight_decay: float, batch_size: int = 64
) -> TrainOptions:
    """A training on classes, of so many steps."""
    return TrainOptions(
        model=model,
        inputs=INPUTS,
        length=steps(length),
        learning_rate=rate(base, length),
        weight_decay=weight_decay,
        **{**SUPERVISED, "batch_size": batch_size},
    )
