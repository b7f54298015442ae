"""Noisy: the recipe `noisy-student` at its smallest."""

from pathlib import Path
from typing import Any

from flows.campaign.baseline import BaselineOptions
from flows.noisy_student.options import FixResOptions, GenerationsOptions, NoisyStudent
from tasks.agreement import CommitteeOptions
from tasks.evaluate import EvaluateOptions
from tasks.gather import GatherOptions
from tasks.options import Length
from tasks.score import ScoreOptions
from tasks.shard import ShardOptions
from tasks.topk import TopkOptions
from tasks.train import JointOptions
from tasks.train.options import LearningRate
from tests.builders.campaign import tiny_network, tiny_steps


def tiny_noisy(pictures: Path, **sections: Any) -> NoisyStudent:
    """Options of a campaign of seconds; `sections` take the place of its own."""
    network = tiny_network(20)
    options = NoisyStudent(
        labelled=ShardOptions(source=str(pictures / "labelled"), labelled=True),
        pile=ShardOptions(source=str(pictures / "pile"), images_per_shard=16),
        test=ShardOptions(source=str(pictures / "test"), labelled=True),
        teacher=network,
        filter=network,
        generations=GenerationsOptions(count=2),
        score=ScoreOptions(top_p=3, batch_size=8),
        topk=TopkOptions(k=6, top_p=2, mode="threshold_balance"),
        gather=GatherOptions(pseudo_labels="soft"),
        committee=CommitteeOptions(members=0),
        student=network,
        joint=JointOptions(ratio=2),
        fix_res=FixResOptions(size=24, **tiny_steps(2)),
        baseline=BaselineOptions(
            length=Length(amount=4, unit="steps"), learning_rate=LearningRate(base=8.0)
        ),
        evaluate=EvaluateOptions(views=1, view_images=2),
    )
    return options.model_copy(update=sections)
