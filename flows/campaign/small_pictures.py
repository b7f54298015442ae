"""Small pictures: how networks learn the digits and the goods of the demo, whichever the recipe."""

from tasks.images import Inputs
from tasks.options import Length
from tasks.train import Training, TrainOptions
from tasks.train.options import Augment, LearningRate, TrainSpeed

INPUTS = Inputs(size=28, resize=28, pixels="unit")
ONE_THREAD = TrainSpeed(checkpoint_seconds=10, threads=1, decode_threads=1)
DIGITS = Augment(
    crop_min_area=1,
    flip=False,
    rotate_degrees=15,
    translate=0.1,
    scale=0.22,
    shear=0.27,
    elastic=0.06,
)
# Of goods, with few labels and on a whole pile: crops help the one, and cost the other.
FASHION_FEW = Augment(crop_min_area=0.6)
FASHION_MANY = Augment(crop_min_area=1)


def steps(amount: int) -> Length:
    """A length in steps."""
    return Length(amount=amount, unit="steps")


def rate(base: float, length: int) -> LearningRate:
    """A rate for a training of so many steps, of which a twentieth is warm-up."""
    return LearningRate(base=base, warmup=steps(length // 20))


def training(
    augment: Augment,
    length: int,
    base: float,
    weight_decay: float,
    *,
    batch_size: int = 64,
    mixup: float = 0.4,
) -> Training:
    """A training on classes, of so many steps."""
    return Training(
        length=steps(length),
        learning_rate=rate(base, length),
        weight_decay=weight_decay,
        batch_size=batch_size,
        virtual_ranks=1,
        nesterov=True,
        label_smoothing=0.1,
        ema_decay=0.99,
        augment=augment.model_copy(update={"mixup": mixup}),
        speed=ONE_THREAD,
    )


def network(model: str, own: Training) -> TrainOptions:
    """A network with random weights that learns by this training."""
    return TrainOptions(model=model, inputs=INPUTS, **dict(own))
