"""Job: what a training process is told, as a file; written without loading torch."""

from pydantic import BaseModel, ConfigDict

from tasks.contract import Output
from tasks.train.options import TrainOptions


class TrainJob(BaseModel):
    """What a training process is told."""

    model_config = ConfigDict(frozen=True)

    uri: str
    options: TrainOptions
    data: Output
    classes: tuple[str, ...]
    init: Output | None
    progress: str
    attempt: int
    """The number of the lease under which this is trained: those who were replaced have lower."""
