"""MLflow: a run of the experiment `protege`, in MLFLOW_TRACKING_URI or a database in the folder."""

import os
from collections.abc import Mapping
from pathlib import Path

import mlflow

from tasks.train.writers import scalars


class MlflowWriter:
    """Each value of a row is a metric at its step; an interrupted training goes on in its run."""

    def __init__(self, folder: Path, name: str, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        address = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        self._client = mlflow.MlflowClient(address)
        found = self._client.get_experiment_by_name("protege")
        experiment = found.experiment_id if found else self._client.create_experiment("protege")
        known = self._client.search_runs([experiment], f"attributes.run_name = '{name}'")
        run = known[0] if known and step else self._client.create_run(experiment, run_name=name)
        self._run_id = run.info.run_id

    def write(self, row: Mapping[str, float]) -> None:
        """Write a row."""
        for name, value in scalars(row).items():
            self._client.log_metric(self._run_id, name, value, step=int(row["step"]))

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run_id)
