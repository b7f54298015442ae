"""Options of the objectives: what a network is trained to do. This module loads no torch.

    train(root, lessons, options, objective=DistillationOptions(temperature=0.1),
          objective_inputs={"teacher": teacher})

An objective draws from data sets and models beside the training set, which its class names by role.
Its options, and these outputs, are part of the fingerprint of the training.
"""

from typing import ClassVar

from pydantic import Field

from tasks.options import Options

TEACHER = "teacher"
UNLABELLED = "unlabelled"


class ObjectiveOptions(Options):
    """Options of an objective."""

    NAME: ClassVar[str]
    DATA: ClassVar[tuple[str, ...]] = ()
    """Roles of the data sets beside the training set."""
    MODELS: ClassVar[tuple[str, ...]] = ()
    """Roles of the finished models that it asks."""
    COMPARES_IMAGES: ClassVar[bool] = False
    """Whether the loss of an image depends on all others of its batch."""


class SupervisedOptions(ObjectiveOptions):
    """Learn the classes of the training set."""

    NAME: ClassVar[str] = "supervised"


class SoftLabelsOptions(ObjectiveOptions):
    """Learn given distributions over classes, as the pseudo-labels of a teacher."""

    NAME: ClassVar[str] = "soft_labels"


class DistillationOptions(ObjectiveOptions):
    """Learn what a teacher says of the same images."""

    NAME: ClassVar[str] = "distillation"
    MODELS: ClassVar[tuple[str, ...]] = (TEACHER,)

    temperature: float = Field(1, ge=0.01, le=100)
    """Divisor of the logits of both; below 1 the teacher is made surer of itself."""
    alpha: float = Field(1, ge=0, le=1)
    """Weight of the teacher; the rest is that of the classes of the training set."""
    tau_squared: bool = False
    """Multiply the loss by the square of the temperature, so that its gradients stay as large."""


class ContrastiveOptions(ObjectiveOptions):
    """Learn, without any classes, which two views are of the same image."""

    NAME: ClassVar[str] = "contrastive"
    COMPARES_IMAGES: ClassVar[bool] = True

    temperature: float = Field(0.1, ge=0.001, le=100)
    """Divisor of the similarities."""
    projection_layers: int = Field(3, ge=1, le=10)
    """Layers between the features and the embeddings that are compared."""
    projection_size: int = Field(128, ge=1, le=65_536)
    """Numbers in an embedding."""


class JointOptions(ObjectiveOptions):
    """Learn labelled and pseudo-labelled images in the same steps."""

    NAME: ClassVar[str] = "joint"
    DATA: ClassVar[tuple[str, ...]] = (UNLABELLED,)

    ratio: float = Field(1, ge=0.01, le=1000)
    """Pseudo-labelled images for each labelled one of a step, and the weight of their loss."""
    smooth_pseudo_labels: bool = False
    """Use label_smoothing for pseudo-labels as well, as is done where these are single classes."""
