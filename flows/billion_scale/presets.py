"""Presets: whole sets of options that somebody has thought about.

photos()                                           few labels, photographs, a laptop: from ImageNet
small()                                            few labels, some thousand pictures, a laptop
digits(data="demo-output/data/seed-0", seed=0)     what `protege demo` runs
fashion(data="demo-output/fashion/seed-0", seed=0) what `protege demo --data fashion` runs
icons(data="demo-output/icons/seed-0", seed=0)     what `protege demo --data icons` runs
imagenet_yfcc()                                    the paper's own setting
"""

from typing import Any, Literal

from flows.billion_scale.options import BillionScale
from flows.campaign.baseline import BaselineOptions
from flows.campaign.small_pictures import (
    DIGITS,
    FASHION_BASELINE,
    FASHION_FINE_TUNE,
    FASHION_MEMBER,
    FASHION_MODEL,
    FASHION_ON_LABELS,
    FASHION_ON_PILE,
    fashion_gather,
    fashion_images,
    network,
    rate,
    steps,
    training,
)
from tasks.agreement import CommitteeOptions
from tasks.evaluate import EvaluateOptions
from tasks.gather import GatherOptions
from tasks.images import Inputs
from tasks.options import Length
from tasks.score import ScoreOptions
from tasks.shard import ShardOptions
from tasks.topk import TopkOptions
from tasks.train import Training, TrainOptions
from tasks.train.augment_options import Augment
from tasks.train.options import Init, LearningRate, Start, TrainSpeed


def digits(data: str = "demo-output/data/seed-0", seed: int = 0) -> BillionScale:
    """The demo: 50 labelled digits, and a pile of 3,950 digits among 8,000 badly cut cells.

    Everything here, the baseline's learning rate included, was chosen on other splits of the 4,000
    digits that are not for testing (docs/digits.md says how).
    """
    options = BillionScale(
        labelled=ShardOptions(source=f"{data}/labelled", labelled=True),
        pile=ShardOptions(source=f"{data}/pile", images_per_shard=1_000),
        test=ShardOptions(source=f"{data}/test", labelled=True),
        teacher=network("small_resnet_16", training(DIGITS, 1_600, base=0.8, weight_decay=5e-3)),
        score=ScoreOptions(top_p=10, batch_size=250),
        topk=TopkOptions(k=350, top_p=1, drop_near_duplicates=False),
        member=network("small_resnet_8", training(DIGITS, 300, base=0.8, weight_decay=5e-3)),
        gather=GatherOptions(lessons_per_part=1_000),
        student=network("small_resnet_8", training(DIGITS, 1_200, base=2.0, weight_decay=5e-4)),
        fine_tune=training(DIGITS, 200, base=0.02, weight_decay=5e-4),
        baseline=BaselineOptions(
            length=steps(1_200), learning_rate=rate(0.8, 1_200), weight_decay=5e-4
        ),
        evaluate=EvaluateOptions(audit=f"{data}/pile-truth.csv"),
    )
    return options.seeded(seed)


def fashion(data: str = "demo-output/fashion/seed-0", seed: int = 0) -> BillionScale:
    """Fashion-MNIST: 1,000 labelled photographs of goods, and a pile of the 59,000 others.

    Everything here, the baseline's training included, was chosen on photographs that nobody is
    tested on (docs/fashion.md says how).
    """
    options = BillionScale(
        **fashion_images(data),
        teacher=network(FASHION_MODEL, FASHION_ON_LABELS),
        score=ScoreOptions(top_p=10, batch_size=250),
        topk=TopkOptions(k=5_000, top_p=1, drop_near_duplicates=False),
        member=FASHION_MEMBER,
        gather=fashion_gather(),
        student=network(FASHION_MODEL, FASHION_ON_PILE),
        fine_tune=FASHION_FINE_TUNE,
        baseline=FASHION_BASELINE,
        evaluate=EvaluateOptions(audit=f"{data}/pile-truth.csv", batch_size=250),
    )
    return options.seeded(seed)


def small() -> BillionScale:
    """A few dozen labels of each class and some thousand pictures: minutes on two cores.

    Small networks on 64 pixels, and lengths in steps, so that the size of the pile costs no
    training time. What has more data or a GPU deserves more: larger networks, inputs and lengths.
    """
    return BillionScale(
        pile=ShardOptions(images_per_shard=1_000),
        teacher=_small_training("small_resnet_32", steps=500, rate=0.8),
        score=ScoreOptions(top_p=5, batch_size=64),
        topk=TopkOptions(k=100, top_p=2),
        member=_small_training("small_resnet_16", steps=200, rate=0.8),
        gather=GatherOptions(lessons_per_part=1_000),
        student=_small_training("small_resnet_16", steps=500, rate=0.8),
        fine_tune=Training(
            length=Length(amount=150, unit="steps"),
            learning_rate=LearningRate(base=0.08, warmup=Length(amount=10, unit="steps")),
            weight_decay=5e-4,
            **_SMALL_COMMON,
        ),
        baseline=BaselineOptions(
            length=Length(amount=500, unit="steps"),
            learning_rate=LearningRate(base=0.8, warmup=Length(amount=25, unit="steps")),
            weight_decay=5e-4,
        ),
        evaluate=EvaluateOptions(views=2, view_images=20),
    )


def icons(data: str = "demo-output/icons/seed-0", seed: int = 0) -> BillionScale:
    """Icons: 5 to 20 labelled drawings of each of 60 ideas, and a pile of anything that is drawn.

    Teacher, student and baseline are the same network, trained on from ImageNet's weights. K is far
    below the number of drawings that the rarest idea has in the pile (docs/icons.md).
    """
    own = _photos_training(LITE0, ICON, head="new", steps=800, rate=0.08, resize=ICON)
    options = BillionScale(
        labelled=ShardOptions(source=f"{data}/labelled", labelled=True),
        pile=ShardOptions(source=f"{data}/pile", images_per_shard=5_000),
        test=ShardOptions(source=f"{data}/test", labelled=True),
        teacher=own,
        score=ScoreOptions(top_p=5, batch_size=250),
        topk=TopkOptions(k=40, top_p=1, drop_near_duplicates=False),
        member=_photos_training(LITE0, ICON, head="linear", steps=0, rate=0.05, resize=ICON),
        gather=GatherOptions(lessons_per_part=2_000),
        student=own,
        fine_tune=Training(
            length=steps(200), learning_rate=rate(0.04, 200), weight_decay=1e-4, **_PHOTOS_COMMON
        ),
        baseline=BaselineOptions(length=own.length, learning_rate=own.learning_rate),
        evaluate=EvaluateOptions(audit=f"{data}/pile-truth.csv", views=0, batch_size=250),
    )
    return options.seeded(seed)


def photos() -> BillionScale:
    """Folders of photographs or drawings, few labels, a laptop: everything starts from ImageNet.

    The teacher is a linear head on the features of EfficientNet-Lite0, which is fitted in seconds;
    student and baseline are the same small network, trained on from the same weights. With more
    labels or a GPU, larger networks that know more are better teachers (`protege models`).
    """
    return BillionScale(
        pile=ShardOptions(images_per_shard=1_000),
        teacher=_photos_training(LITE0, size=224, head="linear", steps=0, rate=0.05),
        score=ScoreOptions(top_p=5, batch_size=64),
        topk=TopkOptions(k=50, top_p=1),
        member=_photos_training(LITE0, size=224, head="linear", steps=0, rate=0.05),
        gather=GatherOptions(lessons_per_part=1_000),
        student=_photos_training(LITE0, size=128, head="new", steps=200, rate=0.08),
        fine_tune=Training(
            length=Length(amount=60, unit="steps"),
            learning_rate=LearningRate(base=0.02),
            weight_decay=1e-4,
            **_PHOTOS_COMMON,
        ),
        baseline=BaselineOptions(
            length=Length(amount=200, unit="steps"),
            learning_rate=LearningRate(base=0.08, warmup=Length(amount=10, unit="steps")),
        ),
        evaluate=EvaluateOptions(views=2, view_images=20),
    )


LITE0, ICON = "efficientnet_lite0", 64  # pixels
_PHOTOS_COMMON: dict[str, Any] = {
    "batch_size": 32,
    "nesterov": True,
    "label_smoothing": 0.1,
    "ema_decay": 0.98,
    "augment": Augment(crop_min_area=0.3),
    "speed": TrainSpeed(checkpoint_seconds=60),
}


def _photos_training(
    model: str,
    size: int,
    head: Literal["new", "linear"],
    steps: int,
    rate: float,
    resize: int | None = None,
) -> TrainOptions:
    return TrainOptions(
        model=model,
        start=Start(weights=LITE0, head=head),
        init=Init(head="zero"),  # a random head would first of all spoil the features
        inputs=Inputs(size=size, resize=resize or size * 8 // 7, pixels="centred"),
        length=Length(amount=steps, unit="steps"),
        learning_rate=LearningRate(base=rate, warmup=Length(amount=steps // 20, unit="steps")),
        **_PHOTOS_COMMON,
    )


_SMALL_COMMON: dict[str, Any] = {
    "batch_size": 32,
    "nesterov": True,
    "label_smoothing": 0.1,
    "ema_decay": 0.99,
    "augment": Augment(crop_min_area=0.4, rotate_degrees=10),
    "speed": TrainSpeed(checkpoint_seconds=60),
}


def _small_training(model: str, steps: int, rate: float) -> TrainOptions:
    return TrainOptions(
        model=model,
        inputs=Inputs(size=64, resize=72),
        length=Length(amount=steps, unit="steps"),
        learning_rate=LearningRate(base=rate, warmup=Length(amount=steps // 20, unit="steps")),
        weight_decay=5e-4,
        **_SMALL_COMMON,
    )


IMAGENET_IMAGES = 1_281_167
IMAGENET_CLASSES = 1_000


def imagenet_yfcc() -> BillionScale:
    """Yalniz et al. 2019, table 2: ImageNet-1k and YFCC100M, K 16,000, P 10, a ResNet-50 student.

    Batch 1,536, of 24 images on each of 64 GPUs; pre-training on 1 billion images, the rate rising
    from 0.1 to 0.6 and then halved 13 times; fine-tuning for 30 epochs from 0.0015, divided by 10
    three times; weight decay 1e-4.
    The paper's teacher is a ResNeXt-101-32x48: give its weights as teacher.start.weights.
    """
    batch_size = 1_536
    pre_training = LearningRate(
        base=0.1,
        warmup=Length(amount=5, unit="epochs"),
        warmup_start=0.1,
        schedule="step",
        num_steps_down=13,
        gamma=0.5,
    )
    supervised = LearningRate(
        base=0.1,
        warmup=Length(amount=5, unit="epochs"),
        warmup_start=0.1,
        schedule="step",
        num_steps_down=3,
        gamma=0.1,
    )
    billion = Length(amount=1_000_000_000, unit="images")
    # Five epochs over the labels, not over 16 million lessons, which would be 80 million images.
    student_rate = pre_training.model_copy(
        update={"warmup": Length(amount=5 * IMAGENET_IMAGES, unit="images")}
    )
    return BillionScale(
        pile=ShardOptions(verify="header"),
        teacher=TrainOptions(
            model="resnet50",
            length=Length(amount=90, unit="epochs"),
            batch_size=batch_size,
            virtual_ranks=64,
            learning_rate=supervised,
        ),
        score=ScoreOptions(top_p=10),
        topk=TopkOptions(k=16_000, top_p=10),
        committee=CommitteeOptions(percent=20),
        student=TrainOptions(
            model="resnet50",
            length=billion,
            batch_size=batch_size,
            virtual_ranks=64,
            learning_rate=student_rate,
        ),
        fine_tune=Training(
            length=Length(amount=30, unit="epochs"),
            batch_size=batch_size,
            virtual_ranks=64,
            learning_rate=LearningRate(base=0.00025, schedule="step", num_steps_down=3, gamma=0.1),
        ),
        baseline=BaselineOptions(learning_rate=supervised),
    )
