"""Semi: the recipe `semi-weakly` at its smallest."""

from pathlib import Path
from typing import Any

from flows.campaign.baseline import BaselineOptions
from flows.semi_weakly.options import SemiWeakly
from tasks.gather import GatherOptions
from tasks.options import Length
from tasks.shard import ShardOptions
from tasks.tags import TagOptions
from tasks.train import Training
from tasks.train.options import LearningRate
from tests.builders.campaign import tiny, tiny_network, tiny_steps
from tests.builders.tags import WORDS, tag_pictures, tag_table

# Two words for one class of the tags, and classes that are called otherwise than the labels.
MEANINGS = {WORDS["blue"]: ["cold"], WORDS["green"]: ["fresh"], WORDS["red"]: ["warm"]}


def tiny_semi(pictures: Path, **sections: Any) -> SemiWeakly:
    """Options of a campaign of seconds; `sections` take the place of its own."""
    own = {
        "pile": ShardOptions(source=tag_pictures(pictures, pictures), images_per_shard=16),
        "tags": TagOptions(table=tag_table(pictures, MEANINGS)),
        "tag_teacher": tiny_network(20),
        # It has to learn something, or the run stops.
        "teacher": Training(**tiny_steps(20)),
        "weakly": BaselineOptions(
            length=Length(amount=4, unit="steps"), learning_rate=LearningRate(base=8.0)
        ),
        # Tags have no probabilities that could be learned instead.
        "gather": GatherOptions(pseudo_labels="soft"),
        "approval": {},
    }
    return SemiWeakly.model_validate({**dict(tiny(pictures)), **own, **sections})
