"""Options of the recipe: a section for each role, in the order in which they run."""

from typing import Literal

from pydantic import model_validator

from flows.campaign.baseline import BaselineOptions
from flows.campaign.options import MEMBER, ApprovalOptions, RecipeOptions
from tasks.agreement import CommitteeOptions
from tasks.evaluate import EvaluateOptions
from tasks.gather import GatherOptions
from tasks.options import Length
from tasks.report import ReportOptions
from tasks.score import ScoreOptions
from tasks.shard import ShardOptions
from tasks.topk import TopkOptions
from tasks.train import (
    ObjectiveOptions,
    SoftLabelsOptions,
    SupervisedOptions,
    Training,
    TrainOptions,
)
from tasks.train.options import LearningRate


class BillionScaleApproval(ApprovalOptions):
    """When a run waits for a person, or stops."""

    before: Literal["nothing", "score", "student"] = "nothing"
    """The stage before which the run waits until somebody approves what it is about to cost."""


# Fine-tuning touches trained weights, so its rate is small (Yalniz 2019, section 4). Its changes of
# the images are those of the training before it, crops from 8 % of the area by default.
FINE_TUNE = Training(
    length=Length(amount=30, unit="epochs"),
    learning_rate=LearningRate(base=0.00025, schedule="step", num_steps_down=3, gamma=0.1),
)


class BillionScale(RecipeOptions):
    """Billion-scale semi-supervised learning: the options of a campaign."""

    labelled: ShardOptions = ShardOptions(labelled=True)
    """Images with true classes: one folder for each class."""
    pile: ShardOptions = ShardOptions()
    """The unlabelled images."""
    test: ShardOptions = ShardOptions(labelled=True)
    """Images with true classes that nothing is trained or chosen on."""
    teacher: TrainOptions = TrainOptions(model="resnet50")
    """The large network that learns from the labels and looks at the pile."""
    score: ScoreOptions = ScoreOptions()
    """How the teacher scores the pile."""
    topk: TopkOptions = TopkOptions()
    """Which images are chosen to teach the student."""
    committee: CommitteeOptions = CommitteeOptions()
    """Who says, without labels of the pile, how right the choice of each class is."""
    member: TrainOptions = MEMBER
    """A network of the committee."""
    gather: GatherOptions = GatherOptions()
    """How the chosen images become a training set."""
    student: TrainOptions = TrainOptions(model="resnet18")
    """The small network, trained on the chosen images only."""
    fine_tune: Training = FINE_TUNE
    """The student goes on, on the true labels only."""
    baseline: BaselineOptions = BaselineOptions()
    """The student's network on the true labels alone, to compare with."""
    evaluate: EvaluateOptions = EvaluateOptions()
    """What is measured."""
    report: ReportOptions = ReportOptions()
    """How the report looks."""
    approval: BillionScaleApproval = BillionScaleApproval()
    """Whether somebody is asked before the expensive part, and when it is not begun at all."""

    @model_validator(mode="after")
    def _sections_fit(self) -> "BillionScale":
        self.check_labelled("labelled", "test")
        for name in ("teacher", "student"):
            training: TrainOptions = getattr(self, name)
            if not (training.length.amount or training.start.weights):
                raise ValueError(
                    f"{name}.length is 0, which leaves random weights: give {name}.start.weights, "
                    "or a length"
                )
        self.check_committee(self.committee.members, self.member)
        self.check_top_p(self.topk, self.score)
        self.check_crops(self.topk, self.score)
        self.baseline.check("baseline", self.student)
        return self

    @property
    def pretrain_objective(self) -> ObjectiveOptions:
        """What the student learns from chosen images: one class of each, or what was said of it."""
        soft = self.gather.pseudo_labels == "soft"
        return SoftLabelsOptions() if soft else SupervisedOptions()

    @property
    def baseline_training(self) -> TrainOptions:
        """The baseline's training before it is fine-tuned."""
        return self.baseline.training_of(self.student)
