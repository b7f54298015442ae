"""Noisy: the recipe `noisy-student` at its smallest."""

from pathlib import Path
from typing import Any

from flows.campaign.baseline import BaselineOptions
from flows.noisy_student.options import FixResOptions, GenerationsOptions, NoisyStudent
from tasks.evaluate import EvaluateOptions
from tasks.images import Inputs
from tasks.options import Length
from tasks.score import ScoreOptions
from tasks.shard import ShardOptions
from tasks.topk import TopkOptions
from tasks.train import JointOptions, TrainOptions
from tasks.train.options import LearningRate
from tests.builders.campaign import AUGMENT, SPEED


def tiny_noisy(pictures: Path, **sections: Any) -> NoisyStudent:
    """Options of a campaign of seconds; `sections` take the place of its own."""
    steps: dict[str, Any] = {
        "length": Length(amount=20, unit="steps"),
        "batch_size": 8,
        "virtual_ranks": 1,
        "learning_rate": LearningRate(base=8.0),
        "augment": AUGMENT,
        "speed": SPEED,
    }
    network = TrainOptions(
        model="mean_colour", inputs=Inputs(size=16, resize=16, pixels="unit"), **steps
    )
    options = NoisyStudent(
        labelled=ShardOptions(source=str(pictures / "labelled"), labelled=True),
        pile=ShardOptions(source=str(pictures / "pile"), images_per_shard=16),
        test=ShardOptions(source=str(pictures / "test"), labelled=True),
        teacher=network,
        filter=network,
        generations=GenerationsOptions(count=2),
        score=ScoreOptions(top_p=3, batch_size=8),
        topk=TopkOptions(k=6, top_p=2, mode="threshold_balance"),
        student=network,
        joint=JointOptions(ratio=2),
        fix_res=FixResOptions(**{**steps, "length": Length(amount=2, unit="steps"), "size": 24}),
        baseline=BaselineOptions(
            length=Length(amount=4, unit="steps"), learning_rate=LearningRate(base=8.0)
        ),
        evaluate=EvaluateOptions(views=1, view_images=2),
    )
    return options.model_copy(update=sections)
