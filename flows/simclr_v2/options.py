"""Options of the recipe: a section for each role, in the order in which they run."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from flows.campaign.baseline import BaselineOptions
from flows.campaign.options import ApprovalOptions, RecipeOptions
from models.registry import PROJECTED
from tasks.evaluate import EvaluateOptions
from tasks.gather import GatherOptions
from tasks.images import Inputs
from tasks.options import Length, Options
from tasks.report import ReportOptions
from tasks.shard import ShardOptions
from tasks.train import ContrastiveOptions, DistillationOptions, Training, TrainOptions
from tasks.train.augment_options import Augment
from tasks.train.options import Init, LearningRate

SIMCLR_AUGMENT = Augment(colour=1, grey=0.2, blur=0.5)  # the paper, section 2 and appendix B


class FineTuneOptions(Training):
    """How the pre-trained network learns the labels."""

    start_at: Literal["projection", "features"] = "projection"
    """Go on behind the first layer of the projection head (few labels), or before it (many)."""


class DistillOptions(Options):
    """What the small network learns of its teacher."""

    temperature: float = Field(1, ge=0.01, le=100)
    """Divisor of the logits of both; below 1 the teacher is made surer of itself."""
    tau_squared: bool = False
    """Multiply the loss by the square of the temperature, so that its gradients stay as large."""

    @property
    def objective(self) -> DistillationOptions:
        """The loss: of the teacher alone, for the pile has no labels."""
        return DistillationOptions(temperature=self.temperature, tau_squared=self.tau_squared)


class SelfDistillOptions(Training):
    """How a network of the teacher's architecture learns from it; a length of 0 leaves it out."""

    temperature: float = Field(0.1, ge=0.01, le=100)
    """Divisor of the logits of both; below 1 the teacher is made surer of itself."""


class SimclrApproval(ApprovalOptions):
    """When a run waits for a person, or stops."""

    before: Literal["nothing", "pretrain", "distill"] = "nothing"
    """The stage before which the run waits until somebody approves what it is about to cost."""


# The authors' code does not standardise the pixels.
_INPUTS = Inputs(pixels="unit")
# 100 epochs of 512 images, by the authors' rule for short trainings: 0.075 * sqrt(batch size).
_PRETRAIN = TrainOptions(
    inputs=_INPUTS,
    length=Length(amount=100, unit="epochs"),
    batch_size=512,
    virtual_ranks=1,
    optimizer="lars",
    learning_rate=LearningRate(base=0.075, scaling="sqrt", warmup=Length(amount=10, unit="epochs")),
    augment=SIMCLR_AUGMENT,
    init=Init(head="zero"),
)
# Section 3: 60 epochs of 1 % of the labels, 30 of more of them, no weight decay, no warm-up.
_FINE_TUNE = FineTuneOptions(
    length=Length(amount=60, unit="epochs"),
    batch_size=256,
    optimizer="lars",
    learning_rate=LearningRate(base=0.005, scaling="sqrt"),
    weight_decay=0,
)
_DISTILL = Training(
    length=Length(amount=100, unit="epochs"),
    batch_size=512,
    optimizer="lars",
    learning_rate=LearningRate(base=0.075, scaling="sqrt", warmup=Length(amount=5, unit="epochs")),
)


class SimclrV2(RecipeOptions):
    """SimCLRv2: the options of a campaign."""

    OPTIONAL_SOURCES: ClassVar[frozenset[str]] = frozenset({"pile"})

    labelled: ShardOptions = ShardOptions(labelled=True)
    """Images with true classes: one folder for each class."""
    pile: ShardOptions = ShardOptions()
    """The unlabelled images; without a source, the labelled ones are looked at without labels."""
    test: ShardOptions = ShardOptions(labelled=True)
    """Images with true classes that nothing is trained on."""
    gather: GatherOptions = GatherOptions()
    """How images become training sets, and which share of each class is used with its labels."""
    pretrain: TrainOptions = _PRETRAIN
    """The big network, which learns without labels first."""
    contrast: ContrastiveOptions = ContrastiveOptions()
    """What it learns: which two views are of one image."""
    fine_tune: FineTuneOptions = _FINE_TUNE
    """The big network goes on, on the labels."""
    self_distillation: SelfDistillOptions = SelfDistillOptions(**dict(_DISTILL))
    """A network of the same architecture learns from it on the pile, and becomes the teacher."""
    student: TrainOptions = TrainOptions(model="resnet18", inputs=_INPUTS, **dict(_DISTILL))
    """The small network, which learns from the teacher on the pile."""
    distillation: DistillOptions = DistillOptions()
    """What the student learns of the teacher."""
    baseline: BaselineOptions = BaselineOptions(learning_rate=_DISTILL.learning_rate)
    """The student's network on the true labels alone, to compare with."""
    evaluate: EvaluateOptions = EvaluateOptions()
    """What is measured."""
    report: ReportOptions = ReportOptions()
    """How the report looks."""
    approval: SimclrApproval = SimclrApproval()
    """Whether somebody is asked before the expensive parts."""

    @model_validator(mode="after")
    def _sections_fit(self) -> "SimclrV2":
        self.check_labelled("labelled", "test")
        self.baseline.check("baseline", self.student)
        if not self.pretrain.length.amount:
            raise ValueError("pretrain.length is 0: the recipe begins by learning without labels")
        if self.pretrain.augment.off_at_end.amount:
            raise ValueError("pretrain.augment.off_at_end leaves views that are alike: set it to 0")
        if self.pretrain.model.endswith(PROJECTED):
            raise ValueError(f"pretrain.model must be without {PROJECTED}, which comes of it")
        if self.contrast.projection_layers == 1 and self.fine_tune.start_at == "projection":
            raise ValueError(
                "contrast.projection_layers is 1, and nothing is left behind it: set 2 or more, or "
                "fine_tune.start_at=features"
            )
        if self.student.inputs.size != self.pretrain.inputs.size:
            raise ValueError(
                f"student.inputs.size ({self.student.inputs.size}) must be that of the network "
                f"that teaches it, pretrain.inputs.size ({self.pretrain.inputs.size})"
            )
        return self

    @property
    def self_distilled(self) -> TrainOptions:
        """The training of the network that learns from its like."""
        return self.pretrain.continued(self.self_distillation)

    @property
    def baseline_training(self) -> TrainOptions:
        """The baseline's training."""
        return self.baseline.training_of(self.student)
