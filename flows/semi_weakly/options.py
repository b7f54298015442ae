"""Options of the recipe: a section for each role, in the order in which they run."""

from typing import ClassVar, Literal

from pydantic import model_validator

from flows.billion_scale.options import FINE_TUNE, BillionScale, BillionScaleApproval
from flows.campaign.baseline import BaselineOptions
from flows.campaign.options import MEMBER, ApprovalOptions, RecipeOptions
from tasks.agreement import CommitteeOptions
from tasks.evaluate import EvaluateOptions
from tasks.gather import GatherOptions
from tasks.report import ReportOptions
from tasks.score import ScoreOptions
from tasks.shard import ShardOptions
from tasks.tags import TagOptions
from tasks.topk import TopkOptions
from tasks.train import Training, TrainOptions


class SemiWeaklyApproval(ApprovalOptions):
    """When a run waits for a person, or stops."""

    before: Literal["nothing", "tag_teacher", "score", "student"] = "nothing"
    """The stage before which the run waits until somebody approves what it is about to cost."""


class SemiWeakly(RecipeOptions):
    """Semi-weakly supervised learning: the options of a campaign."""

    OTHER_CLASSES: ClassVar[frozenset[str]] = frozenset({"tag_teacher"})

    labelled: ShardOptions = ShardOptions(labelled=True)
    """Images with true classes: one folder for each class."""
    pile: ShardOptions = ShardOptions()
    """The images with tags: a list or table with a column tags, or tars; some may have none."""
    test: ShardOptions = ShardOptions(labelled=True)
    """Images with true classes that nothing is trained or chosen on."""
    tags: TagOptions = TagOptions()
    """What the tags mean."""
    tag_teacher: TrainOptions = TrainOptions(model="resnet50")
    """The teacher, a large network, learns the tags."""
    teacher: Training = FINE_TUNE
    """It goes on with a new head, on the labels; so does the network of weakly."""
    score: ScoreOptions = ScoreOptions()
    """How the teacher scores the pile."""
    topk: TopkOptions = TopkOptions()
    """Which images are chosen to teach the student; tags are not looked at."""
    committee: CommitteeOptions = CommitteeOptions()
    """Who says, without labels of the pile, how right the choice of each class is."""
    member: TrainOptions = MEMBER
    """A network of the committee."""
    gather: GatherOptions = GatherOptions()
    """How images become training sets."""
    student: TrainOptions = TrainOptions(model="resnet18")
    """The small network, trained on the chosen images only."""
    fine_tune: Training = FINE_TUNE
    """The student goes on, on the true labels only."""
    baseline: BaselineOptions = BaselineOptions()
    """The student's network on the true labels alone, to compare with."""
    weakly: BaselineOptions = BaselineOptions()
    """The student's network on the tags, then on the labels; a length of 0 leaves it out."""
    evaluate: EvaluateOptions = EvaluateOptions()
    """What is measured."""
    report: ReportOptions = ReportOptions()
    """How the report looks."""
    approval: SemiWeaklyApproval = SemiWeaklyApproval()
    """Whether somebody is asked before the expensive part, and when it is not begun at all."""

    @model_validator(mode="after")
    def _sections_fit(self) -> "SemiWeakly":
        self.weakly.check("weakly", self.student)
        if not self.tag_teacher.length.amount:
            raise ValueError(
                "tag_teacher.length is 0, so that no tag would be learned: give a length, or take "
                "billion-scale with teacher.start.weights"
            )
        start = self.tag_teacher.start
        if start.weights and start.head == "keep" and not self.tags.table:
            raise ValueError(
                "tag_teacher.start.head=keep has the classes of the weights, and each tag is a "
                "class of its own: set tag_teacher.start.head=new"
            )
        if not self.teacher.length.amount:
            raise ValueError("teacher.length is 0, so that the new head would know no class")
        _ = self.ranking  # checks the sections that both recipes have
        return self

    @property
    def ranking(self) -> BillionScale:
        """What is left when the tags are learned: billion-scale, with this teacher."""
        shared = {name: getattr(self, name) for name in BillionScale.model_fields}
        approval = dict(self.approval)
        if self.approval.before == "tag_teacher":
            approval["before"] = "nothing"
        own = {
            "teacher": self.tag_teacher.continued(self.teacher),
            "approval": BillionScaleApproval.model_validate(approval),
        }
        return BillionScale.model_validate({**shared, **own})

    @property
    def tag_student(self) -> TrainOptions:
        """The student's network on the tags, with a head for them."""
        training = self.weakly.training_of(self.student)
        if not training.start.weights:
            return training
        start = training.start.model_copy(update={"head": "new", "classes": ""})
        return training.model_copy(update={"start": start})
