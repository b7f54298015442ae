"""Job: what a training process is given, as a file, and the names of the files that it leaves.

This module loads no torch, so whoever starts a training needs none.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from tasks.contract import Output
from tasks.train.options import TrainOptions

# Below the folder of the output.
HISTORY = "history.parquet"
CHECKPOINTS = "checkpoints"
PROJECTION = "projection.safetensors"  # layers that an objective trains beside the network
METRICS = "metrics.jsonl"
DIVERGED = "diverged"

TRAIN_SET = "train"  # role of the data set whose passes are the epochs

InitHead = Literal["keep", "new", "linear"]


def fits_head_only(options: TrainOptions, init_head: InitHead) -> bool:
    """Whether a training fits a head to frozen features, and does nothing else."""
    return options.is_linear or init_head == "linear"


class TrainJob(BaseModel):
    """What a training process is given."""

    model_config = ConfigDict(frozen=True)

    uri: str
    """Address of the output."""
    options: TrainOptions
    objective: str
    objective_options: Mapping[str, Any] = {}
    data: Mapping[str, Output]
    """The data sets that the objective draws from, by role."""
    models: Mapping[str, Output] = {}
    """The finished models that the objective asks, by role."""
    classes: tuple[str, ...]
    given_classes: tuple[str, ...] = ()
    """The classes of the weights that the options name, in the order of their head."""
    init: Output | None
    """The model to start from."""
    init_head: InitHead
    """Whether training starts with the head of `init`, or with a new one for other classes; a
    linear one is fitted, and nothing else is trained."""
    attempt: int
    """The number of the lease under which this is trained; a process that was replaced has a lower
    one."""

    @property
    def is_linear(self) -> bool:
        """Whether nothing but the head is fitted."""
        return fits_head_only(self.options, self.init_head)
