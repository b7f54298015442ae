"""Options of the recipe `toy`."""

from flows.campaign.options import RecipeOptions
from tasks.score import ScoreOptions
from tasks.shard import ShardOptions
from tasks.train import Training, TrainOptions


class Toy(RecipeOptions):
    """Two trainings and a score."""

    images: ShardOptions = ShardOptions(labelled=True)
    """Images with true classes."""
    teacher: TrainOptions = TrainOptions(model="mean_colour")
    """The first training."""
    fine_tune: Training = Training()
    """The second one."""
    score: ScoreOptions = ScoreOptions(top_p=2)
    """How the images are scored."""
