"""Baseline: the network of the result on the true labels alone, to compare with."""

from pydantic import Field, model_validator

from tasks.options import Length, Options
from tasks.train import TrainOptions
from tasks.train.augment_options import Augment, check_augment
from tasks.train.options import LearningRate, Start, check_warmup


class BaselineOptions(Options):
    """The student's network on the true labels alone. Its length and its learning rate are its own,
    because more steps on few labels are worse.
    """

    length: Length = Length(amount=90, unit="epochs")
    """How long it trains; what is fine-tuned afterwards is so in the same way as the student."""
    batch_size: int = Field(0, ge=0, le=1_000_000)
    """Images in a step; 0 is the student's batch size, which may count labelled images only."""
    learning_rate: LearningRate = LearningRate()
    """The learning rate from the first step to the last."""
    weight_decay: float = Field(1e-4, ge=0, le=1)
    """Weight decay."""
    own_augment: bool = False
    """Augment as the next section says, for what helps on few labels may cost on a whole pile."""
    augment: Augment = Augment()
    """Random changes to each training image, with own_augment; without it, the student's."""

    @model_validator(mode="after")
    def _length_is_enough(self) -> "BaselineOptions":
        check_warmup(self.length, self.learning_rate)
        check_augment(self.length, self.augment)
        return self

    @model_validator(mode="after")
    def _augment_is_used(self) -> "BaselineOptions":
        if self.augment != Augment() and not self.own_augment:
            raise ValueError(
                "augment is not that of the baseline, which is augmented as the student is: set "
                "own_augment=true"
            )
        return self

    def check(self, section: str, student: TrainOptions) -> None:
        """Raise ValueError where the student's options do not allow a training of this section."""
        own = self.training_of(student)
        ranks, streams = own.num_virtual_ranks, own.streams
        if own.batch_size % ranks:
            raise ValueError(
                f"{section}.batch_size ({own.batch_size}) must be a multiple of "
                f"student.virtual_ranks ({ranks})"
            )
        if ranks % streams or (own.sync_batch_norm and ranks != student.num_virtual_ranks):
            raise ValueError(
                f"{section}.batch_size ({own.batch_size}) makes {ranks} virtual ranks, the student "
                f"has {student.num_virtual_ranks} and {streams} streams, and both are trained in "
                f"as many processes: set student.virtual_ranks, or {section}.batch_size=0"
            )
        try:
            check_augment(own.length, own.augment)
        except ValueError as error:
            raise ValueError(
                f"{section} is augmented as the student is, and {error}: set "
                f"{section}.own_augment=true"
            ) from None

    def training_of(self, student: TrainOptions) -> TrainOptions:
        """The baseline's training: the student's, in its own way.

        It starts as the student does, but not from a student that somebody has trained already.
        """
        own = dict(self)
        if not own.pop("own_augment"):
            del own["augment"]
        if not self.batch_size:
            del own["batch_size"]
        if student.is_given:
            own["start"] = Start()
        return student.model_copy(update=own)
