"""Writers: the metrics of a training in the formats of other programs.

In: the names of PROTEGE_METRICS__WRITERS. Out: a writer for each; its package is loaded only then.

    writers = open_writers(Settings().metrics, "s3://bucket/out/train/5f0c", step=0)

tensorboard.py   event files
mlflow.py        a run of MLflow
wandb.py         a run of Weights & Biases, offline
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

from infra.errors import ProtegeError
from infra.settings import MetricsSettings
from tasks.train.metrics import MetricsWriter

# The folder of the writer, the name of the training, and the step that it begins at.
OpenWriter = Callable[[Path, str, int], MetricsWriter]

WRITERS: Mapping[str, str] = {
    "tensorboard": "TensorBoardWriter",
    "mlflow": "MlflowWriter",
    "wandb": "WandbWriter",
}


def open_writers(settings: MetricsSettings, uri: str, step: int) -> list[MetricsWriter]:
    """The writers of a training. Raises ProtegeError for one that is not there."""
    names = [name.strip() for name in settings.writers.split(",") if name.strip()]
    folder = Path(settings.folder).expanduser().absolute()
    return [_writer(name)(folder / name, uri.rpartition("/")[2], step) for name in names]


def _writer(name: str) -> OpenWriter:
    if name not in WRITERS:
        known = ", ".join(WRITERS)
        raise ProtegeError(f"PROTEGE_METRICS__WRITERS: {name!r} is no writer; there are: {known}")
    try:
        module = importlib.import_module(f"tasks.train.writers.{name}")
    except ModuleNotFoundError as error:
        raise ProtegeError(
            f"PROTEGE_METRICS__WRITERS asks for {name}, which needs the package {error.name}: "
            f"pip install 'protege[{name}]'"
        ) from error
    opened: OpenWriter = getattr(module, WRITERS[name])
    return opened


def scalars(row: Mapping[str, float]) -> dict[str, float]:
    """The values of a row without its step."""
    return {name: value for name, value in row.items() if name != "step"}
