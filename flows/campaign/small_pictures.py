"""Small pictures: how networks learn the digits and the goods of the demo, whichever the recipe."""

from typing import Any

from flows.campaign.baseline import BaselineOptions
from tasks.gather import GatherOptions, PseudoLabels
from tasks.images import Inputs
from tasks.options import Length
from tasks.shard import ShardOptions
from tasks.train import Training, TrainOptions
from tasks.train.augment_options import Augment
from tasks.train.options import LearningRate, TrainSpeed

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


# How every recipe learns goods: a network on few labels, on a whole pile, and at the end. Crops
# help with few labels, and cost on a whole pile.
FASHION_MODEL = "small_resnet_16"
FASHION_FEW = Augment(crop_min_area=0.6)
FASHION_MANY = Augment(crop_min_area=1)
FASHION_FEW_ENDING = FASHION_FEW.model_copy(update={"off_at_end": steps(200)})
FASHION_ON_LABELS = training(FASHION_FEW_ENDING, 2_000, base=0.8, weight_decay=5e-3)
FASHION_ON_PILE = training(FASHION_MANY, 2_000, base=2.0, weight_decay=5e-4, mixup=0)
FASHION_FINE_TUNE = training(FASHION_MANY, 200, base=0.02, weight_decay=5e-4, mixup=0)
FASHION_MEMBER = network("small_resnet_8", training(FASHION_FEW, 300, base=0.8, weight_decay=5e-3))
FASHION_BASELINE = BaselineOptions(
    length=FASHION_ON_LABELS.length,
    batch_size=FASHION_ON_LABELS.batch_size,
    learning_rate=FASHION_ON_LABELS.learning_rate,
    weight_decay=FASHION_ON_LABELS.weight_decay,
    own_augment=True,
    augment=FASHION_ON_LABELS.augment,
)


def fashion_gather(pseudo_labels: PseudoLabels = "hard") -> GatherOptions:
    """How goods become training sets."""
    return GatherOptions(pseudo_labels=pseudo_labels, lessons_per_part=5_000)


def fashion_images(data: str) -> dict[str, Any]:
    """The sections of the images of goods, which every recipe has."""
    return {
        "labelled": ShardOptions(source=f"{data}/labelled", labelled=True, images_per_shard=5_000),
        "pile": ShardOptions(source=f"{data}/pile", images_per_shard=5_000),
        "test": ShardOptions(source=f"{data}/test", labelled=True),
    }
