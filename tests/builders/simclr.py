"""SimCLR: the recipe `simclr-v2` at its smallest."""

from pathlib import Path
from typing import Any

from flows.campaign.baseline import BaselineOptions
from flows.simclr_v2.options import FineTuneOptions, SelfDistillOptions, SimclrV2
from tasks.gather import GatherOptions
from tasks.options import Length
from tasks.shard import ShardOptions
from tasks.train import ContrastiveOptions
from tasks.train.options import LearningRate
from tests.builders.campaign import tiny_network, tiny_steps


def tiny_simclr(pictures: Path, **sections: Any) -> SimclrV2:
    """Options of a campaign of seconds; `sections` take the place of its own."""
    network = tiny_network(4)
    options = SimclrV2(
        labelled=ShardOptions(source=str(pictures / "labelled"), labelled=True),
        pile=ShardOptions(source=str(pictures / "pile"), images_per_shard=16),
        test=ShardOptions(source=str(pictures / "test"), labelled=True),
        gather=GatherOptions(percent_of_class=50),
        pretrain=network,
        contrast=ContrastiveOptions(projection_size=6),
        # It has to learn something, or the run stops.
        fine_tune=FineTuneOptions(start_at="features", **tiny_steps(20)),
        self_distillation=SelfDistillOptions(**tiny_steps(4)),
        student=network,
        baseline=BaselineOptions(
            length=Length(amount=4, unit="steps"), learning_rate=LearningRate(base=2.0)
        ),
    )
    return options.model_copy(update=sections)
