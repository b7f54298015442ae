"""Options of the recipe: a section for each role, in the order in which they run."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from flows.campaign.baseline import BaselineOptions
from flows.campaign.options import MEMBER, ApprovalOptions, RecipeOptions
from tasks.agreement import CommitteeOptions
from tasks.evaluate import EvaluateOptions
from tasks.gather import GatherOptions
from tasks.options import Length, Options
from tasks.report import ReportOptions
from tasks.score import ScoreOptions
from tasks.shard import ShardOptions
from tasks.topk import TopkOptions
from tasks.train import JointOptions, Training, TrainOptions
from tasks.train.augment_options import Augment


class GenerationsOptions(Options):
    """How often a student becomes the teacher, and of whom it learns what."""

    count: int = Field(3, ge=1, le=100)
    """Generations; a larger number goes on with the generations that are there."""
    later_from: int = Field(0, ge=0, le=100)
    """From this generation on, later_ratio is joint.ratio; 0 leaves all alike."""
    later_ratio: float = Field(28, ge=0.01, le=1000)
    """Pseudo-labelled images for each labelled one in these generations."""
    filter_by: Literal["teacher", "filter"] = "teacher"
    """Who says how sure it is of an image: the teacher, or the network of the section filter."""
    stop: Literal["when_worse", "never"] = "when_worse"
    """Stop when a student is worse than its teacher on audit, or without it to the committee."""


class FixResOptions(Training):
    """The last student goes on at a larger size, on the labels alone; a length of 0 leaves it out.
    Its images are augmented as its options say: in the paper, not at all.
    """

    size: int = Field(0, ge=0, le=2048)
    """Side of the pictures in pixels; 0 is the size that it was trained at."""


class NoisyStudentApproval(ApprovalOptions):
    """When a run waits for a person, or stops."""

    before: Literal["nothing", "score"] = "nothing"
    """The stage before which the run waits until somebody approves what it is about to cost."""


# Noise, beside what a network has of its own: dropout and stochastic depth (section 3.1).
NOISE = Augment(randaugment_ops=2, randaugment_magnitude=9, randaugment_version="noisy_student")
_NO_FIX_RES = FixResOptions(
    length=Length(amount=0, unit="epochs"), augment=Augment(flip=False, crop_min_area=1)
)


class NoisyStudent(RecipeOptions):
    """Noisy Student: the options of a campaign."""

    OPTIONAL_SOURCES: ClassVar[frozenset[str]] = frozenset({"audit"})

    labelled: ShardOptions = ShardOptions(labelled=True)
    """Images with true classes: one folder for each class."""
    pile: ShardOptions = ShardOptions()
    """The unlabelled images."""
    test: ShardOptions = ShardOptions(labelled=True)
    """Images with true classes that nothing is trained, chosen or stopped on."""
    audit: ShardOptions = ShardOptions(labelled=True)
    """Images with true classes to stop by, as a slice of labelled.source; none may be given."""
    teacher: TrainOptions = TrainOptions(augment=NOISE)
    """The first teacher, which learns from the labels, noised."""
    filter: TrainOptions = TrainOptions(model="resnet18")
    """A network that is trained on the labels to filter the pile, with generations.filter_by."""
    generations: GenerationsOptions = GenerationsOptions()
    """How often a student becomes the teacher."""
    score: ScoreOptions = ScoreOptions()
    """How the teacher scores the pile, without noise."""
    topk: TopkOptions = TopkOptions(k=130_000, mode="threshold_balance")
    """Which images are kept, and how many of each class; a short class repeats its images."""
    committee: CommitteeOptions = CommitteeOptions()
    """Who says, without labels of the pile, how right the choice of each generation is."""
    member: TrainOptions = MEMBER
    """A network of the committee."""
    gather: GatherOptions = GatherOptions(pseudo_labels="soft")
    """How images become training sets."""
    student: TrainOptions = TrainOptions(augment=NOISE)
    """The student, as large as the teacher or larger, noised; its batch counts labelled images."""
    joint: JointOptions = JointOptions(ratio=3)
    """How labelled and pseudo-labelled images are learned together."""
    fix_res: FixResOptions = _NO_FIX_RES
    """The last student at a larger size."""
    baseline: BaselineOptions = BaselineOptions()
    """The student's network on the true labels alone, to compare with."""
    evaluate: EvaluateOptions = EvaluateOptions()
    """What is measured."""
    report: ReportOptions = ReportOptions()
    """How the report looks."""
    approval: NoisyStudentApproval = NoisyStudentApproval()
    """Whether somebody is asked before the expensive part."""

    @model_validator(mode="after")
    def _sections_fit(self) -> "NoisyStudent":
        self.check_labelled("labelled", "test", "audit")
        self.check_committee(self.committee.members, self.member)
        self.check_top_p(self.topk, self.score)
        self.check_crops(self.topk, self.score)
        self.baseline.check("baseline", self.student)
        if self.generations.filter_by == "filter" and self.gather.pseudo_labels == "hard":
            raise ValueError(
                "gather.pseudo_labels=hard are the classes of who filters, so that no teacher "
                "would be asked: set generations.filter_by=teacher, or pseudo_labels=soft"
            )
        ratios = {"joint.ratio": self.joint.ratio}
        if self.generations.later_from:
            ratios["generations.later_ratio"] = self.generations.later_ratio
        for name, ratio in ratios.items():
            pseudo_labelled = self.student.batch_size * ratio
            if pseudo_labelled % self.student.num_virtual_ranks:
                raise ValueError(
                    f"student.batch_size ({self.student.batch_size}) * {name} ({ratio:g}) = "
                    f"{pseudo_labelled:g} images, which {self.student.num_virtual_ranks} virtual "
                    "ranks cannot share equally: set student.virtual_ranks or the ratio"
                )
        return self

    @property
    def stops_by_committee(self) -> bool:
        """Whether the committee says when a student is worse: without images of audit."""
        return self.generations.stop == "when_worse" and not self.audit.source

    def joint_of(self, number: int) -> JointOptions:
        """How the student of a generation learns labelled and pseudo-labelled images together."""
        if not 0 < self.generations.later_from <= number:
            return self.joint
        return self.joint.model_copy(update={"ratio": self.generations.later_ratio})

    @property
    def last_size(self) -> int:
        """The side of the pictures of the last training; 0 where it stays."""
        return self.fix_res.size if self.fix_res.length.amount else 0

    @property
    def baseline_training(self) -> TrainOptions:
        """The baseline's training."""
        return self.baseline.training_of(self.student)
