"""TensorBoard: event files below `<folder>/<training>`, for `tensorboard --logdir <folder>`."""

from collections.abc import Mapping
from pathlib import Path

import tensorboard  # noqa: F401  torch would name another package when it is missing
from torch.utils.tensorboard import SummaryWriter

from tasks.train.writers import scalars


class TensorBoardWriter:
    """Each value of a row is a scalar at its step."""

    def __init__(self, folder: Path, name: str, step: int) -> None:
        # What an interrupted attempt wrote beyond its checkpoint is hidden.
        self._writer = SummaryWriter(str(folder / name), purge_step=step + 1)

    def write(self, row: Mapping[str, float]) -> None:
        """Write a row."""
        for name, value in scalars(row).items():
            self._writer.add_scalar(name, value, int(row["step"]))
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
