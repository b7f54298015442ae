"""Weights & Biases: a run of the project `protege`, offline unless WANDB_MODE says otherwise.

`wandb sync <folder>/wandb/offline-run-*` sends it.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import wandb

from tasks.train.writers import scalars


class WandbWriter:
    """Each row is a step of the run."""

    def __init__(self, folder: Path, name: str, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        mode = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(
            project="protege", name=name, dir=str(folder), mode=mode, config={"begins_at": step}
        )

    def write(self, row: Mapping[str, float]) -> None:
        """Write a row."""
        self._run.log(scalars(row), step=int(row["step"]))

    def close(self) -> None:
        """Write what is left, and end the process that writes."""
        self._run.finish()
