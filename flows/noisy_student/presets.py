"""Presets: whole sets of options that somebody has thought about.

small()                                            few labels, some thousand pictures, a laptop
digits(data="demo-output/data/seed-0", seed=0)     the digits of the demo
fashion(data="demo-output/fashion/seed-0", seed=0) its goods
imagenet_jft()                                     the paper's own setting
"""

from typing import Any

from flows.campaign.baseline import BaselineOptions
from flows.campaign.small_pictures import (
    DIGITS,
    FASHION_BASELINE,
    FASHION_FINE_TUNE,
    FASHION_MANY,
    FASHION_MEMBER,
    FASHION_MODEL,
    FASHION_ON_LABELS,
    fashion_gather,
    fashion_images,
    network,
    steps,
    training,
)
from flows.noisy_student.options import FixResOptions, GenerationsOptions, NoisyStudent
from tasks.agreement import CommitteeOptions
from tasks.evaluate import EvaluateOptions
from tasks.gather import GatherOptions
from tasks.images import Inputs
from tasks.options import Length
from tasks.score import ScoreOptions
from tasks.shard import ShardOptions
from tasks.topk import TopkOptions
from tasks.train import JointOptions, TrainOptions
from tasks.train.augment_options import Augment
from tasks.train.options import LearningRate, TrainSpeed


def digits(data: str = "demo-output/data/seed-0", seed: int = 0) -> NoisyStudent:
    """The digits of the demo: 50 with labels, and a pile of 3,950 among 8,000 badly cut cells.

    Everything here, the baseline's learning rate included, was chosen on other splits of the 4,000
    digits that are not for testing (docs/noisy-student.md says how). No labels are held out to stop
    by: of 50, they are worth more in the training.
    """
    options = NoisyStudent(
        labelled=ShardOptions(source=f"{data}/labelled", labelled=True),
        pile=ShardOptions(source=f"{data}/pile", images_per_shard=1_000),
        test=ShardOptions(source=f"{data}/test", labelled=True),
        teacher=network("small_resnet_16", training(DIGITS, 1_200, base=0.8, weight_decay=5e-3)),
        generations=GenerationsOptions(count=2, stop="never"),
        score=ScoreOptions(top_p=10, batch_size=250),
        topk=TopkOptions(
            k=350, top_p=1, mode="threshold_balance", threshold=0.5, drop_near_duplicates=False
        ),
        member=network("small_resnet_8", training(DIGITS, 300, base=0.8, weight_decay=5e-3)),
        gather=GatherOptions(pseudo_labels="soft", lessons_per_part=1_000),
        student=network(
            "small_resnet_16", training(DIGITS, 600, base=0.8, weight_decay=5e-4, batch_size=16)
        ),
        joint=JointOptions(ratio=7),
        fix_res=FixResOptions(length=steps(0)),
        baseline=BaselineOptions(
            length=steps(1_400),
            learning_rate=LearningRate(base=0.8, warmup=steps(60)),
            weight_decay=5e-3,
        ),
        evaluate=EvaluateOptions(audit=f"{data}/pile-truth.csv", views=0),
    )
    return options.seeded(seed)


def fashion(data: str = "demo-output/fashion/seed-0", seed: int = 0) -> NoisyStudent:
    """Fashion-MNIST: 1,000 labelled photographs of goods, and a pile of the 59,000 others.

    Chosen as the preset of billion-scale (docs/fashion.md). RandAugment would cost such small
    networks more than it gives: the noise is that of flips, and of the batches.
    """
    own = training(FASHION_MANY, 1_100, base=0.8, weight_decay=5e-4, batch_size=16, mixup=0)
    options = NoisyStudent(
        **fashion_images(data),
        teacher=network(FASHION_MODEL, FASHION_ON_LABELS),
        generations=GenerationsOptions(count=2, stop="never"),
        score=ScoreOptions(top_p=10, batch_size=250),
        topk=TopkOptions(
            k=5_000, top_p=1, mode="threshold_balance", threshold=0.5, drop_near_duplicates=False
        ),
        member=FASHION_MEMBER,
        gather=fashion_gather("soft"),
        student=network(FASHION_MODEL, own),
        joint=JointOptions(ratio=7),
        fix_res=FixResOptions(**dict(FASHION_FINE_TUNE)),
        baseline=FASHION_BASELINE,
        evaluate=EvaluateOptions(audit=f"{data}/pile-truth.csv", views=0, batch_size=250),
    )
    return options.seeded(seed)


def small() -> NoisyStudent:
    """A few dozen labels of each class and some thousand pictures: minutes on two cores.

    Small networks on 64 pixels, of which the student is the larger one. A tenth of the labelled
    images would be too few to stop by, so all are learned from, and the committee says when.
    """
    common: dict[str, Any] = {
        "inputs": Inputs(size=64, resize=72),
        "nesterov": True,
        "label_smoothing": 0.1,
        "ema_decay": 0.99,
        "weight_decay": 5e-4,
        "augment": Augment(crop_min_area=0.4, randaugment_ops=2, randaugment_magnitude=5),
        "speed": TrainSpeed(checkpoint_seconds=60),
    }
    rate = LearningRate(base=0.8, warmup=steps(25))
    return NoisyStudent(
        pile=ShardOptions(images_per_shard=1_000),
        teacher=TrainOptions(
            model="small_resnet_16",
            length=steps(500),
            learning_rate=rate,
            batch_size=32,
            **common,
        ),
        generations=GenerationsOptions(count=2),
        score=ScoreOptions(top_p=5, batch_size=64),
        topk=TopkOptions(k=100, top_p=1, mode="threshold_balance"),
        member=TrainOptions(
            model="small_resnet_16",
            length=steps(200),
            learning_rate=rate,
            batch_size=32,
            **common,
        ),
        gather=GatherOptions(pseudo_labels="soft", lessons_per_part=1_000),
        student=TrainOptions(
            model="small_resnet_32",
            length=steps(400),
            learning_rate=rate,
            batch_size=16,
            virtual_ranks=1,
            **common,
        ),
        joint=JointOptions(ratio=3),
        baseline=BaselineOptions(length=steps(500), learning_rate=rate, weight_decay=5e-4),
        evaluate=EvaluateOptions(views=0),
    )


def imagenet_jft() -> NoisyStudent:
    """Xie et al. 2020, section 3.1: ImageNet, JFT-300M, EfficientNet-B7 and then L2, three times.

    Batch 2,048 of labelled images and 14 times as many others, 28 times in the third generation;
    350 epochs; RMSProp, 0.016 for 256 images, times 0.97 every
    2.4 epochs; at least 0.3 sure, 130,000 of each class, repeated where there are fewer;
    RandAugment of 2 operations and magnitude 27, dropout and stochastic depth as the networks have
    them. Trained at 475 pixels and then for 1.5 epochs at 800, without augmentation.
    """
    common: dict[str, Any] = {
        "length": Length(amount=350, unit="epochs"),
        "batch_size": 2_048,
        "virtual_ranks": 64,
        "optimizer": "rmsprop",
        "learning_rate": LearningRate(
            base=0.016,
            warmup=Length(amount=5, unit="epochs"),
            schedule="exponential",
            gamma=0.97,
            gamma_every=Length(amount=2.4, unit="epochs"),
        ),
        "weight_decay": 1e-5,
        "label_smoothing": 0.1,
        "ema_decay": 0.9999,
        "augment": Augment(
            randaugment_ops=2, randaugment_magnitude=27, randaugment_version="noisy_student"
        ),
    }
    baseline_rate: LearningRate = common["learning_rate"]
    return NoisyStudent(
        pile=ShardOptions(verify="header"),
        teacher=TrainOptions(
            model="efficientnet_b7", inputs=Inputs(size=600, resize=632), **common
        ),
        generations=GenerationsOptions(count=3, later_from=3, later_ratio=28),
        score=ScoreOptions(top_p=1_000),
        topk=TopkOptions(k=130_000, top_p=1, mode="threshold_balance", threshold=0.3),
        committee=CommitteeOptions(percent=20),
        student=TrainOptions(
            model="efficientnet_l2", inputs=Inputs(size=475, resize=508), **common
        ),
        joint=JointOptions(ratio=14),
        fix_res=FixResOptions(
            size=800,
            length=Length(amount=1.5, unit="epochs"),
            batch_size=2_048,
            virtual_ranks=64,
            learning_rate=LearningRate(base=0.001),
            augment=Augment(flip=False, crop_min_area=1),
        ),
        baseline=BaselineOptions(
            length=Length(amount=350, unit="epochs"),
            learning_rate=baseline_rate,
            weight_decay=1e-5,
        ),
    )
