"""History: what was measured in the course of a training, as the table `history`.

In: the loss and the named measurements of every step. Out: about 200 rows, each with the means
since the row before.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from tasks import tables

MAX_ROWS = 200


class History:
    """The rows so far, and the steps since the last one.

    Measurements stay on their device until a row is written, because reading them waits for it.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._losses: list[Tensor] = []
        self._measurements: list[Mapping[str, Tensor]] = []

    @property
    def last_loss(self) -> float | None:
        """The mean loss of the last row."""
        return self.rows[-1]["loss"] if self.rows else None

    def add(self, loss: Tensor, measurements: Mapping[str, Tensor]) -> None:
        """Keep the measurements of a step for the next row."""
        self._losses.append(loss)
        self._measurements.append(measurements)

    def write_row(self, step: int, images: int, learning_rate: float) -> float:
        """Add a row with the means since the row before. Returns the mean loss."""
        loss = float(torch.stack(self._losses).mean())
        means = {
            name: float(torch.stack([step[name] for step in self._measurements]).mean())
            for name in self._measurements[0]
        }
        row = {"step": step, "images": images, "loss": loss, "learning_rate": learning_rate}
        self.rows.append({**row, "measurements": means})
        self._losses.clear()
        self._measurements.clear()
        return loss

    def add_fit(self, loss: float, images: int, measurements: Mapping[str, float]) -> None:
        """The one row of a head that was fitted, not trained by steps."""
        row = {"step": 0, "images": images, "loss": loss, "learning_rate": 0.0}
        self.rows.append({**row, "measurements": dict(measurements)})

    def table(self) -> pa.Table:
        """All rows."""
        return pa.Table.from_pylist(self.rows, schema=tables.HISTORY)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain numbers."""
        return {
            "rows": list(self.rows),
            "losses": [float(loss) for loss in self._losses],
            "measurements": [
                {name: float(value) for name, value in step.items()} for step in self._measurements
            ],
        }

    def load_state(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue from a checkpoint."""
        self.rows = list(state["rows"])
        self._losses = [torch.tensor(loss, device=device) for loss in state["losses"]]
        self._measurements = [
            {name: torch.tensor(value, device=device) for name, value in step.items()}
            for step in state["measurements"]
        ]
