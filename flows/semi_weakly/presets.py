"""Presets: whole sets of options that somebody has thought about.

small()                                            few labels, some thousand pictures, a laptop
digits(data="demo-output/data/seed-0", seed=0)     the digits of the demo, with made-up tags
fashion(data="demo-output/fashion/seed-0", seed=0) its goods, with made-up tags
icons(data="demo-output/icons/seed-0", seed=0)     its icons, with the words of their names
imagenet_tags()                                    the paper's own setting
"""

from typing import Any

from flows.billion_scale import presets as ranking
from flows.billion_scale.options import BillionScale
from flows.campaign.baseline import BaselineOptions
from flows.campaign.small_pictures import (
    DIGITS,
    FASHION_MANY,
    fashion_gather,
    network,
    rate,
    steps,
    training,
)
from flows.semi_weakly.options import SemiWeakly
from tasks.evaluate import EvaluateOptions
from tasks.options import Length
from tasks.shard import ShardOptions
from tasks.tags import TagOptions
from tasks.train.options import LearningRate

ICON_IDEAS = 60  # all of them, so that what the teacher said of a drawing is whole


def _with(options: BillionScale, **own: Any) -> SemiWeakly:
    """The sections of billion-scale, but for those that this recipe has of its own."""
    return SemiWeakly.model_validate({**dict(options), "approval": {}, **own})


def digits(data: str = "demo-output/data/seed-0", seed: int = 0) -> SemiWeakly:
    """The digits of the demo: 50 with labels; words lie beside half of a pile of 11,950 cells.

    The words are made up (`protege demo` writes them): the names of the digits in three languages,
    one of ten wrong, and other words. All but the trainings on tags, and the fine-tuning of the
    teacher behind a new head, is as in billion-scale.
    """
    tagged = ShardOptions(source=f"{data}/pile-tagged.csv", images_per_shard=1_000)
    options = _with(
        ranking.digits(data, seed),
        pile=tagged,
        tags=TagOptions(table=f"{data}/tags.csv"),
        tag_teacher=network(
            "small_resnet_16", training(DIGITS, 1_200, base=0.8, weight_decay=5e-4)
        ),
        teacher=training(DIGITS, 400, base=0.2, weight_decay=5e-3),
        weakly=BaselineOptions(
            length=steps(1_200), learning_rate=rate(0.8, 1_200), weight_decay=5e-4
        ),
        evaluate=EvaluateOptions(audit=f"{data}/pile-tagged-truth.csv"),
    )
    return options.seeded(seed)


def fashion(data: str = "demo-output/fashion/seed-0", seed: int = 0) -> SemiWeakly:
    """Fashion-MNIST: 1,000 labelled photographs of goods; words lie beside half of 59,000 others.

    The words are made up, some mean two classes, and one of ten is wrong. The student learns what
    the teacher said of the chosen images: this teacher is better than the choice's single classes.
    """
    on_tags = training(FASHION_MANY, 4_000, base=2.0, weight_decay=5e-4, mixup=0)
    options = _with(
        ranking.fashion(data, seed),
        tags=TagOptions(table=f"{data}/tags.csv"),
        tag_teacher=network("small_resnet_32", on_tags),
        teacher=training(FASHION_MANY, 400, base=0.05, weight_decay=5e-4, mixup=0),
        gather=fashion_gather("soft"),
        weakly=BaselineOptions(
            length=on_tags.length,
            learning_rate=on_tags.learning_rate,
            weight_decay=on_tags.weight_decay,
        ),
    )
    return options.seeded(seed)


def icons(data: str = "demo-output/icons/seed-0", seed: int = 0) -> SemiWeakly:
    """Icons: 60 ideas in a pile of anything that is drawn, with the words of its names.

    The words `camera` and `off` lie beside a camera that is crossed out, so that the classes of the
    tags are wider than those of the labels. The teacher is a network as the student, so that the
    network of tags and labels alone is the teacher itself. K is four times that of billion-scale:
    many drawings teach the student more, although three in ten are wrong (docs/icons.md).
    """
    chosen = ranking.icons(data, seed)
    lasting = {"length": steps(1_000), "learning_rate": rate(0.08, 1_000)}
    head = {"learning_rate": rate(0.08, 200)}
    options = _with(
        chosen,
        tags=TagOptions(table=f"{data}/tags.csv"),
        tag_teacher=chosen.student.model_copy(update=lasting),
        teacher=chosen.fine_tune.model_copy(update=head),
        score=chosen.score.model_copy(update={"top_p": ICON_IDEAS}),
        topk=chosen.topk.model_copy(update={"k": 160}),
        gather=chosen.gather.model_copy(update={"pseudo_labels": "soft"}),
        weakly=BaselineOptions(length=steps(0)),
    )
    return options.seeded(seed)


def small() -> SemiWeakly:
    """A few dozen labels of each class and some thousand tagged pictures: minutes on two cores.

    Small networks on 64 pixels, and lengths in steps, so that the size of the pile costs no
    training time.
    """
    options = ranking.small()
    return _with(
        options,
        tag_teacher=options.teacher.model_copy(
            update={"length": steps(800), "learning_rate": rate(0.8, 800)}
        ),
        teacher=options.fine_tune,
        weakly=BaselineOptions(length=steps(500), learning_rate=rate(0.8, 500), weight_decay=5e-4),
    )


def imagenet_tags() -> SemiWeakly:
    """Yalniz et al. 2019, section 5: ImageNet-1k and 940 million images with 1,500 hashtags.

    The teacher is that of Mahajan et al. 2018, a ResNeXt-101-32x48: batches of 8,064, of 24 images
    on each of 336 GPUs. Its 2 billion images and the rate, 0.1 for 256 images, warmed up and then
    halved 10 times, are as we remember the paper. K is 64,000: 64 million images were chosen.
    """
    options = ranking.imagenet_yfcc()
    warmup = Length(amount=5 * ranking.IMAGENET_IMAGES, unit="images")
    tag_rate = LearningRate(
        base=0.1, warmup=warmup, warmup_start=0.1, schedule="step", num_steps_down=10, gamma=0.5
    )
    length = Length(amount=2_000_000_000, unit="images")
    return _with(
        options,
        tag_teacher=options.teacher.model_copy(
            update={
                "model": "resnext101_32x48d",
                "length": length,
                "batch_size": 8_064,
                "virtual_ranks": 336,
                "learning_rate": tag_rate,
            }
        ),
        teacher=options.fine_tune,
        topk=options.topk.model_copy(update={"k": 64_000}),
        weakly=BaselineOptions(length=length, learning_rate=options.student.learning_rate),
    )
