"""Baseline: the network of the result on the true labels alone, to compare with."""

from pydantic import Field, model_validator

from tasks.options import Length, Options
from tasks.train import TrainOptions
from tasks.train.options import LearningRate, Start, check_warmup


class BaselineOptions(Options):
    """The student's network on the true labels alone, with the same augmentation; its length and
    its learning rate are its own, because more steps on few labels are worse.
    """

    length: Length = Length(amount=90, unit="epochs")
    """How long it trains; what is fine-tuned afterwards is so in the same way as the student."""
    learning_rate: LearningRate = LearningRate()
    """The learning rate from the first step to the last."""
    weight_decay: float = Field(1e-4, ge=0, le=1)
    """Weight decay."""

    @model_validator(mode="after")
    def _warmup_ends(self) -> "BaselineOptions":
        check_warmup(self.length, self.learning_rate)
        return self

    def training_of(self, student: TrainOptions) -> TrainOptions:
        """The baseline's training: the student's, in its own way.

        It starts as the student does, but not from a student that somebody has trained already.
        """
        own = dict(self)
        if student.is_given:
            own["start"] = Start()
        return student.model_copy(update=own)
