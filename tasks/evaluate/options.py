"""Options of predictions and of the stage `evaluate`, and what it is given of the choice."""

from dataclasses import dataclass

from pydantic import Field

from tasks.contract import Output
from tasks.options import Options


class PredictOptions(Options):
    """What is kept of a model's answers, and how many images it is given at a time."""

    batch_size: int = Field(256, ge=1, le=65_536)
    """Images in a forward pass."""
    keep_logits: bool = False
    """Keep all logits of each image beside its prediction."""


class EvaluateOptions(Options):
    """What is measured, and on how many images at a time."""

    batch_size: int = Field(256, ge=1, le=65_536)
    """Images in a forward pass."""
    views: int = Field(4, ge=0, le=64)
    """Changed views of each sampled image on which the teacher is asked again; 0 skips this."""
    view_images: int = Field(25, ge=1, le=10_000)
    """Chosen images of each class that are sampled for that; of all classes at most 2,000."""
    audit: str = ""
    """A list (.csv: key, label) of true classes in the pile, only to report the precision."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Decides the views."""


@dataclass(frozen=True)
class Choice:
    """The chosen images and what they were chosen from, by whom."""

    images: Output
    chosen: Output
    teacher: Output
